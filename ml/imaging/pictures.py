"""PNG, JPEG, WebP and HEIC: 8 and 16 bit, grey, palette or colour, with or without alpha."""

import io
from collections.abc import Iterator
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ml.errors import UnreadableImage
from ml.imaging import jpegs, pngs
from ml.imaging.discretion import discreet
from ml.imaging.limits import Limits
from ml.imaging.slices import Slice

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
# PNG specification, section 11.2.1: offset of the colour type in the file, and its grey values.
_PNG_COLOUR_TYPE, _GREY, _GREY_WITH_ALPHA = 25, 0, 4
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
_LONGEST_BRANDS = 256  # bytes
_STRIP = 2**18  # pixels
_LONGEST_SIDE = 2**15  # pixels; resampling uses 16-bit coordinates


def decode_png(content: bytes, limits: Limits) -> list[Slice]:
    """Decode a PNG; an animated one is refused. Raises :class:`UnreadableImage`."""
    return _decode(content, "PNG", limits)


def decode_jpeg(content: bytes, limits: Limits) -> list[Slice]:
    """Decode a JPEG, rotated upright by its EXIF orientation; only the first of several pictures.

    Phones and stereo cameras append further pictures to the first one (CIPA DC-007).

    Raises:
        UnreadableImage: also if the data do not match the size in the header.
    """
    return _decode(content, "JPEG", limits)


def is_webp(content: bytes) -> bool:
    """Whether a file starts as WebP."""
    return content.startswith(b"RIFF") and content[8:12] == b"WEBP"


def decode_webp(content: bytes, limits: Limits) -> list[Slice]:
    """Decode a WebP, rotated upright; an animated one is refused.

    Raises:
        UnreadableImage: with the reason.
    """
    return _decode(content, "WEBP", limits)


def is_heic(content: bytes) -> bool:
    """Whether a file is HEIC, according to its brands (ISO/IEC 23008-12, annex B)."""
    return not _HEIC.isdisjoint(brands(content))


def brands(content: bytes) -> set[bytes]:
    """The brands of an ISO base media file (ISO/IEC 14496-12); empty for other files."""
    if content[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(content[:4], "big"), _LONGEST_BRANDS)
    return {content[8:12], *(content[at : at + 4] for at in range(16, end, 4))}


def decode_heic(content: bytes, limits: Limits) -> list[Slice]:
    """Decode a HEIC with 8 bits per channel, rotated upright; only the primary picture.

    Raises:
        UnreadableImage: with the reason.
    """
    return _decode(content, "HEIF", limits)


def encode_png(pixels: Pixels) -> bytes:
    """Encode grey, RGB or RGBA pixels, 8 or 16 bit, as a PNG with only the pixels.

    All metadata of the source file (EXIF, comments, appended data) is dropped.
    """
    stored = pixels
    if pixels.ndim == 3:
        order = cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
        stored = cast("Pixels", cv2.cvtColor(pixels, order))
    # OpenCV's default (difference filter, run-length encoding) takes a third of the time of any
    # explicit compression level, and the file is hardly larger.
    done, buffer = cv2.imencode(".png", stored)
    if not done:
        raise ValueError(f"cannot encode pixels of shape {pixels.shape} and type {pixels.dtype}")
    return buffer.tobytes()


def encode_palette_png(levels: npt.NDArray[np.uint8], palette: npt.NDArray[np.uint8]) -> bytes:
    """Encode pixels with a palette of 256 colours.

    Args:
        levels: (height, width) row indices into ``palette``.
        palette: (256, 4) RGBA.
    """
    image = Image.fromarray(levels)
    image.putpalette(palette[:, :3].tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1, transparency=palette[:, 3].tobytes())
    return buffer.getvalue()


def _decode(content: bytes, image_format: str, limits: Limits) -> list[Slice]:
    # Pillow warns of many pixels; our own limit is checked before decoding.
    with discreet("truncated", f"The {image_format} file is damaged or incomplete."):
        try:
            image = opened(content, (image_format,))
        except Image.DecompressionBombError as error:
            raise _too_many_pixels(limits) from error
        with image:
            check_size(image, limits)
            if image_format == "PNG":
                pngs.check_whole(content)
                if has_16_bit_colour(content):
                    return [Slice(_sixteen_bit_colour(content))]
            size = image.size
            image.load()
            if image.size != size:
                raise UnreadableImage("header_lies", "The picture has another size than it says.")
            if image_format == "JPEG":
                jpegs.check_whole(content)
            ImageOps.exif_transpose(image, in_place=True)
            return [Slice(pixels_of(image))]


def opened(content: bytes, formats: tuple[str, ...] = _FORMATS) -> Image.Image:
    """A picture whose header has been read but whose pixels are not decoded."""
    if is_heic(content):
        from pi_heif import HeifImageFile  # slow to import

        return cast("Image.Image", HeifImageFile(io.BytesIO(content)))
    return Image.open(io.BytesIO(content), formats=formats)


def check_size(image: Image.Image, limits: Limits) -> None:
    """Check a picture's header against the limits, before decoding.

    Raises:
        UnreadableImage: ``too_many_pixels``, ``animated`` or ``too_small``.
    """
    width, height = image.size
    if width * height > limits.max_pixels:
        raise _too_many_pixels(limits)
    if max(width, height) > _LONGEST_SIDE:
        raise UnreadableImage(
            "too_many_pixels", f"The image has more than {_LONGEST_SIDE} pixels on one side."
        )
    if image.format in {"PNG", "WEBP"} and getattr(image, "is_animated", False):
        raise UnreadableImage("animated", "Animated images are not accepted.")
    if min(width, height) < limits.min_side:
        raise UnreadableImage(
            "too_small",
            f"The image measures {width} x {height} pixels; "
            f"at least {limits.min_side} on each side are needed.",
        )


def _too_many_pixels(limits: Limits) -> UnreadableImage:
    return UnreadableImage(
        "too_many_pixels",
        f"The image has more than {limits.max_pixels // 1_000_000} megapixels.",
    )


def pixels_of(image: Image.Image) -> Pixels:
    """Grey or RGB pixels of a decoded picture; transparency is blended with black."""
    if image.mode.startswith("I") or image.mode == "F":
        return np.asarray(np.clip(np.asarray(image), 0, 65535), dtype=np.uint16)
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        return _on_black(image)
    grey = image.mode in {"1", "L"}
    return _contiguous(image.convert("L" if grey else "RGB"))


def is_16_bit_png(content: bytes) -> bool:
    """Whether ``content`` is a PNG with 16 bits per channel."""
    # PNG specification, section 11.2.1: the bit depth is byte 24 of the file, inside IHDR.
    return content.startswith(b"\x89PNG") and content[24] == 16


def has_16_bit_colour(content: bytes) -> bool:
    """Whether it is a PNG for which Pillow keeps only the upper eight bits."""
    return is_16_bit_png(content) and content[_PNG_COLOUR_TYPE] != _GREY


def _sixteen_bit_colour(content: bytes) -> Pixels:
    """Decode with OpenCV, which keeps all bits, and blend in strips to save memory."""
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise UnreadableImage("truncated", "The PNG file is damaged or incomplete.")
    if decoded.ndim == 2:
        return cast("Pixels", decoded)
    return on_black(cast("Pixels", decoded), grey=content[_PNG_COLOUR_TYPE] == _GREY_WITH_ALPHA)


def on_black(decoded: Pixels, *, grey: bool) -> Pixels:
    """Convert OpenCV's 16-bit BGR or BGRA to RGB or grey, blended with black."""
    height, width, channels = decoded.shape
    pixels = np.empty((height, width) if grey else (height, width, 3), np.uint16)
    for rows in _strips(height, width):
        colours = decoded[rows, :, :3]
        if channels == 4:  # as in _on_black for 8 bits
            opacity = decoded[rows, :, 3:].astype(np.float32) / 65535
            colours = np.rint(colours * opacity).astype(np.uint16)
        pixels[rows] = colours[..., 0] if grey else colours[..., ::-1]
    return pixels


def _strips(height: int, width: int) -> Iterator[slice]:
    """Ranges of rows that hold about ``_STRIP`` pixels each."""
    rows = max(1, _STRIP // width)
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def _on_black(image: Image.Image) -> Pixels:
    """Blend a picture with transparency with black, the background of an MR slice."""
    grey = image.mode == "LA"
    width, height = image.size
    pixels = np.empty((height, width) if grey else (height, width, 3), np.uint8)
    for rows in _strips(height, width):
        strip = image.crop((0, rows.start, width, rows.stop))
        strip.info = image.info  # may contain a transparent colour
        layer = strip.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (0, 0, 0, 255))
        flat = Image.alpha_composite(ground, layer).convert("L" if grey else "RGB")
        pixels[rows] = np.asarray(flat)
    return pixels


def _contiguous(image: Image.Image) -> Pixels:
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8))
