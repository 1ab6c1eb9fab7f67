"""Readers take complete, honest images and refuse everything else with a reason."""

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ml.errors import UnreadableImage
from ml.imaging import Limits, Slice, inspect, pngs, read_bytes, read_path, square_pixels
from ml.imaging.pictures import encode_png
from ml.imaging.values import to_uint16

SAMPLES = Path(__file__).parents[4] / "ml" / "samples"


def encoded(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def code_of(content: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_bytes(content, limits)
    return caught.value.code


def ramp(dtype: type = np.uint8, side: int = 64) -> np.ndarray:
    top = np.iinfo(dtype).max
    return np.linspace(0, top, side * side).reshape(side, side).astype(dtype)


def test_grey_png_keeps_its_pixels() -> None:
    (one,) = read_bytes(encoded(Image.fromarray(ramp())))
    np.testing.assert_array_equal(one.pixels, ramp())


def test_sixteen_bit_grey_png_keeps_all_bits() -> None:
    (one,) = read_bytes(encoded(Image.fromarray(ramp(np.uint16))))
    assert one.pixels.dtype == np.uint16
    np.testing.assert_array_equal(one.pixels, ramp(np.uint16))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colour_survives_encoding_and_reading(dtype: type) -> None:
    colour = np.stack([ramp(dtype), ramp(dtype).T, np.zeros_like(ramp(dtype))], axis=2)
    (one,) = read_bytes(encode_png(colour))
    np.testing.assert_array_equal(one.pixels, colour)
    assert one.is_colour


def test_transparent_pixels_become_black() -> None:
    layer = Image.new("RGBA", (64, 64), (255, 255, 255, 0))
    (one,) = read_bytes(encoded(layer))
    assert one.pixels.max() == 0


@pytest.mark.parametrize("grey", [True, False])
def test_sixteen_bit_transparency_is_laid_on_black_like_that_of_eight_bits(grey: bool) -> None:
    light = np.full((64, 64), 50_000, np.uint16)
    opacity = ramp(np.uint16)
    colours = [light] * 3 if grey else [light, light // 2, light // 5]
    content = encode_png(np.stack([*colours, opacity], axis=2))
    if grey:
        content = grey_with_alpha(light, opacity)
    (one,) = read_bytes(content)
    expected = np.stack([np.rint(c * (opacity / 65535)) for c in colours], axis=2)
    assert one.pixels.dtype == np.uint16
    assert one.is_colour is not grey
    np.testing.assert_allclose(one.pixels, expected[..., 0] if grey else expected, atol=1)


def grey_with_alpha(grey: np.ndarray, opacity: np.ndarray) -> bytes:
    """A PNG of colour type 4, which no library at hand writes with 16 bits."""
    height, width = grey.shape
    rows = np.stack([grey, opacity], axis=2).astype(">u2").reshape(height, -1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", width, height, 16, 4, 0, 0, 0)
    return png_of((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))


def png_of(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def test_a_jpeg_with_a_second_picture_inside_gives_the_first() -> None:
    first, second = Image.fromarray(ramp()), Image.new("L", (640, 480), 90)
    content = encoded(first, "MPO", save_all=True, append_images=[second])
    assert Image.open(io.BytesIO(content)).n_frames == 2
    (one,) = read_bytes(content)
    np.testing.assert_array_equal(one.pixels, np.asarray(Image.open(io.BytesIO(content))))


class TestDamagedJpegs:
    """Decoders fill up what is missing; a picture with a made-up part is no picture."""

    WHOLE = (SAMPLES / "glioma-1.jpg").read_bytes()

    def lying(self, rows: int = 512, columns: int = 512) -> bytes:
        at = self.WHOLE.index(b"\xff\xc0")
        size = struct.pack(">HH", rows, columns)
        return self.WHOLE[: at + 5] + size + self.WHOLE[at + 9 :]

    @pytest.mark.parametrize("missing", [1, 2, 10, 500, 9000])
    @pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
    def test_a_missing_end_even_where_it_was_mended(self, missing: int, end: bytes) -> None:
        if missing > 2 or not end:
            assert code_of(self.WHOLE[:-missing] + end) == "truncated"

    @pytest.mark.parametrize(
        ("rows", "columns", "code"),
        [
            (1024, 512, "truncated"), (520, 512, "truncated"), (512, 1024, "truncated"),
            (256, 512, "header_lies"), (512, 256, "header_lies"),
        ],
    )  # fmt: skip
    def test_a_header_that_lies_about_the_size(self, rows: int, columns: int, code: str) -> None:
        assert code_of(self.lying(rows, columns)) == code

    def test_bytes_that_are_gone_in_the_middle(self) -> None:
        middle = len(self.WHOLE) // 2
        for damaged in (
            self.WHOLE[:middle] + bytes(200) + self.WHOLE[middle + 200 :],
            self.WHOLE[:middle] + self.WHOLE[middle + 3000 :],
        ):
            assert code_of(damaged) in {"truncated", "header_lies"}

    def test_scans_that_are_missing(self) -> None:
        picture = Image.open(io.BytesIO(self.WHOLE))
        content = encoded(picture, "JPEG", progressive=True)
        scan = content.rindex(b"\xff\xda")
        assert code_of(content[:scan] + b"\xff\xd9") == "truncated"

    @pytest.mark.parametrize("quality", [5, 50, 100])
    @pytest.mark.parametrize("progressive", [True, False])
    @pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
    def test_whole_pictures_of_every_kind_pass(
        self, mode: str, progressive: bool, quality: int
    ) -> None:
        picture = Image.open(io.BytesIO(self.WHOLE)).convert(mode)
        black = Image.new(mode, (97, 61))
        for one in (picture, picture.crop((3, 0, 300, 201)), black):
            for options in ({}, {"restart_marker_rows": 2}, {"optimize": True}):
                content = encoded(one, "JPEG", progressive=progressive, quality=quality, **options)
                assert len(read_bytes(content + b"behind the end" * 9)) == 1


class TestPngsOfAnotherSize:
    def lying(self, rows: int, interlaced: int = 0) -> bytes:
        data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in ramp()))
        header = struct.pack(">IIBBBBB", 64, rows, 8, 0, 0, 0, interlaced)
        return png_of((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))

    def test_less_or_more_rows_than_announced(self) -> None:
        assert len(read_bytes(self.lying(64))) == 1
        assert code_of(self.lying(65)) == "truncated"
        assert code_of(self.lying(400)) == "truncated"
        assert code_of(self.lying(63)) == "header_lies"

    def test_a_missing_end(self) -> None:
        assert code_of(self.lying(64)[:-12]) == "truncated"

    def test_interlaced_pictures_of_odd_sizes_and_depths_pass(self) -> None:
        for width, height, bits in ((33, 35, 8), (64, 37, 4), (41, 64, 1), (50, 39, 16)):
            sizes = [
                (-(-(width - x) // across), -(-(height - y) // down))
                for x, y, across, down in pngs._PASSES
            ]
            rows = b"".join(bytes((1 + -(-w * bits // 8)) * h) for w, h in sizes)
            header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 1)
            chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
            assert read_bytes(png_of(*chunks))[0].pixels.shape == (height, width)


def test_exif_orientation_is_applied() -> None:
    picture = Image.new("L", (80, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    (one,) = read_bytes(encoded(picture, "JPEG", exif=exif))
    assert one.pixels.shape == (80, 40)


def test_real_jpeg_is_read_as_grey() -> None:
    (one,) = read_path(SAMPLES / "glioma-1.jpg")
    assert one.pixels.shape == (512, 512)
    assert not one.is_colour


def test_stored_png_holds_nothing_but_pixels() -> None:
    exif = Image.Exif()
    exif[0x010E] = "Jane Doe"
    sent = encoded(Image.fromarray(ramp()), exif=exif) + b"<script>alert(1)</script>"
    kept = encode_png(read_bytes(sent)[0].pixels)
    assert b"Jane" not in kept
    assert b"script" not in kept


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty"),
        (b"this is a text", "unsupported"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"\xff\xd8\xff\xe0 not really a JPEG", "truncated"),
    ],
)
def test_what_is_no_image_is_refused(content: bytes, code: str) -> None:
    assert code_of(content) == code


def test_truncated_images_are_refused() -> None:
    for name in ("glioma-1.jpg", "no_tumor-1.jpg"):
        whole = (SAMPLES / name).read_bytes()
        assert code_of(whole[: len(whole) // 2]) == "truncated"
    png = encoded(Image.fromarray(ramp()))
    assert code_of(png[: len(png) // 2]) == "truncated"


def test_animated_images_are_refused() -> None:
    frames = [Image.new("L", (64, 64), value) for value in (0, 255)]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert code_of(gif) == "gif"
    apng = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert code_of(apng) == "animated"


def test_image_of_more_than_64_megapixels_is_refused_before_it_is_decoded() -> None:
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", len(header))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
    )
    assert code_of(bomb) in {"too_many_pixels", "truncated"}
    large = encoded(Image.new("1", (8100, 8100)))
    assert code_of(large) == "too_many_pixels"


def test_tiny_images_are_refused() -> None:
    assert code_of(encoded(Image.new("L", (31, 200)))) == "too_small"


def test_file_over_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(encoded(Image.fromarray(ramp())))
    with pytest.raises(UnreadableImage) as caught:
        read_path(path, Limits(max_bytes=100))
    assert caught.value.code == "too_large"


def test_missing_file_is_named_as_missing(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage) as caught:
        read_path(tmp_path / "nothing.png")
    assert caught.value.code == "missing"


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_images_never_raise_anything_else(data: st.DataObject) -> None:
    content = bytearray(
        encoded(Image.fromarray(ramp()), data.draw(st.sampled_from(["PNG", "JPEG"])))
    )
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(UnreadableImage):
        read_bytes(bytes(content))


@pytest.mark.parametrize(
    ("spacing", "shape"),
    [
        (None, (40, 60)),
        ((1.0, 1.0), (40, 60)),
        ((1.005, 1.0), (40, 60)),
        ((2.0, 1.0), (80, 60)),
        ((1.0, 2.0), (40, 120)),
        ((0.5, 0.25), (80, 60)),
    ],
)
def test_pixels_become_square_without_loss(
    spacing: tuple[float, float] | None, shape: tuple[int, int]
) -> None:
    pixels = ramp(np.uint16, 60)[:40]
    assert square_pixels(Slice(pixels, spacing=spacing)).shape == shape
    colour = np.stack([pixels] * 3, axis=2)
    assert square_pixels(Slice(colour, spacing=spacing)).shape == (*shape, 3)


def test_extreme_aspect_does_not_make_a_giant() -> None:
    squared = square_pixels(Slice(ramp(np.uint16), spacing=(50.0, 0.01)))
    assert squared.shape[0] == 4096
    assert squared.size < 2**20
    assert squared.dtype == np.uint16


def test_header_of_a_picture_says_its_format_and_size() -> None:
    facts = inspect(encoded(Image.fromarray(ramp()[:40]), "JPEG"))
    assert (facts.format, facts.modality) == ("JPEG", None)
    assert [(one.rows, one.columns, one.spacing) for one in facts.frames] == [(40, 64, None)]


def test_values_that_span_sixteen_bits_are_exact_wherever_they_lie() -> None:
    for values in ([0, 65535], [-32768, 32767], [100_000, 165_535], [-70_000, -5000]):
        stored = np.array([values], np.int64)
        pixels, scale, offset = to_uint16(stored, 2.0, 1.0)
        np.testing.assert_array_equal(pixels * scale + offset, stored * 2 + 1)
        pixels, scale, offset = to_uint16(stored, -2.0, 1.0)
        np.testing.assert_array_equal(pixels * scale + offset, stored * -2 + 1)


def test_values_beyond_sixteen_bits_are_spread_evenly() -> None:
    for values in (np.array([[0, 2**40]]), np.array([[-1e300, 0.0, 1e300]]), np.ones((2, 2)) / 3):
        for slope in (1.0, -0.5):
            pixels, scale, offset = to_uint16(values, slope, 0.0)
            np.testing.assert_allclose(pixels * scale + offset, values * slope, atol=scale)
