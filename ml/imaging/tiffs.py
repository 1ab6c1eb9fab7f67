"""TIFF and BigTIFF: grey, palette or colour, 8 or 16 bit, one or many pages.

Pillow keeps only eight bits of 16-bit colour, so OpenCV, which keeps all, decodes such pages.
"""

import io
import re
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
from PIL.TiffImagePlugin import TiffImageFile

from ml.errors import UnreadableImage
from ml.imaging.discretion import discreet
from ml.imaging.footprints import DEEP_PIXEL
from ml.imaging.limits import Limits
from ml.imaging.pictures import Pixels, check_size, on_black, pixels_of
from ml.imaging.slices import Slice

_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BIG_ENDIAN_BIG = b"MM\0+"  # Pillow takes it for an ordinary TIFF
# TIFF 6.0, sections 8, 18 and 19, and tags registered later.
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _TEXT = (
    254, 256, 257, 258, 259, 262, 270,
)  # fmt: skip
_SAMPLES, _STRIP_SIZES, _TILE_SIZES, _EXTRA, _SAMPLE_FORMAT = 277, 279, 325, 338, 339
_REDUCED, _WHITE_IS_ZERO, _SUBSAMPLED, _UNSIGNED, _STRAIGHT_ALPHA = 1, 0, 6, {1, 4}, 2
# None, CCITT, LZW, JPEG, two codes of deflate, PackBits. Others need more memory than the pixels.
_COMPRESSIONS = {1, 2, 3, 4, 5, 7, 8, 32946, 32773}
_IMAGES = re.compile(r"\AImageJ=.{0,400}?^images=(\d{1,9})$", re.DOTALL | re.MULTILINE)


def recognises(content: bytes) -> bool:
    """Whether a file starts as TIFF or BigTIFF."""
    return content.startswith(_MARKS)


@dataclass(frozen=True)
class Page:
    """One page; ``number`` counts from 0 and includes reduced pages."""

    number: int
    width: int
    height: int

    @property
    def decoding_bytes(self) -> int:
        """Approximate maximum of bytes to decode the page and store it again."""
        return self.width * self.height * DEEP_PIXEL


class Tiff:
    """An opened file; its pages are decoded one by one.

    Attributes:
        pages: the pages to show, in the file's order; never empty.
        reduced: numbers of pages that are reduced copies of others.
    """

    def __init__(self, content: bytes, limits: Limits) -> None:
        """Read the headers of all pages.

        Raises:
            UnreadableImage: ``truncated``, ``sample_type`` (see :meth:`decode`),
                ``too_many_slices``, ``too_many_pixels`` of all pages together, ``more_frames``
                if ImageJ has appended slices after the last page.
        """
        self._content, self._limits = content, limits
        if content.startswith(_BIG_ENDIAN_BIG):
            raise _uncommon()
        with discreet("truncated", "The TIFF file is damaged or incomplete."):
            self._image = _opened(content)
            self._uncommon: set[int] = set()
            every, reduced = self._walk()
        self.pages = [page for page in every if page.number not in reduced] or every[:1]
        shown = {page.number for page in self.pages}
        self.reduced = [number for number in reduced if number not in shown]
        if 2 * sum(page.width * page.height for page in self.pages) > limits.max_total_bytes:
            raise UnreadableImage("too_many_pixels", "All pages together have too many pixels.")

    def decode(self, page: Page) -> Slice:
        """The pixels of one page, rotated upright.

        Raises:
            UnreadableImage: ``sample_type`` for signed or floating-point samples, more than
                16 bits, and other uncommon sample layouts; ``unsupported_transfer_syntax``,
                ``truncated``, and the reasons of other pictures.
        """
        with discreet("truncated", "The TIFF file is damaged or incomplete."):
            if page.number in self._uncommon:
                raise _uncommon()
            self._image.seek(page.number)
            check_size(self._image, self._limits)
            tags: Any = self._image.tag_v2
            bits = tuple(tags.get(_BITS, (1,)))
            if max(bits) > 16 or not set(tags.get(_SAMPLE_FORMAT, (1,))) <= _UNSIGNED:
                raise _uncommon()
            if tags.get(_COMPRESSION, 1) not in _COMPRESSIONS:
                raise UnreadableImage(
                    "unsupported_transfer_syntax", "The page is compressed in an uncommon way."
                )
            _check_whole(tags, bits)
            inverted = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
            straight = tags.get(_EXTRA) == (_STRAIGHT_ALPHA,)
            self._image.load()
            if len(bits) >= 3 and bits[0] == 16:
                return Slice(self._deep_colour(page, straight=straight), page.number)
            pixels = pixels_of(self._image)
            # Pillow inverts all but these.
            return Slice(~pixels if inverted and pixels.dtype == np.uint16 else pixels, page.number)

    def _walk(self) -> tuple[list[Page], list[int]]:
        pages: list[Page] = []
        reduced: list[int] = []
        while True:
            number = len(pages)
            try:
                self._image.seek(number)
            except EOFError:
                break
            except SyntaxError as error:
                if _meaning(error).code == "truncated":
                    raise
                self._uncommon.add(number)
            if number >= self._limits.max_slices:
                raise UnreadableImage(
                    "too_many_slices", f"At most {self._limits.max_slices} pages in a file."
                )
            pages.append(Page(number, *self._image.size))
            if int(self._image.tag_v2.get(_SUBFILE, 0)) & _REDUCED:
                reduced.append(number)
            if number == 0:
                announced = _IMAGES.match(str(self._image.tag_v2.get(_TEXT, "")))
        if announced and int(announced[1]) > len(pages):
            raise UnreadableImage("more_frames", "Slices stand where no page names them.")
        return pages, reduced

    def _deep_colour(self, page: Page, *, straight: bool) -> Pixels:
        number = page.number
        found, decoded = cv2.imdecodemulti(
            np.frombuffer(self._content, np.uint8),
            cv2.IMREAD_UNCHANGED,
            range=(number, number + 1),
        )
        if not found or decoded[0].dtype != np.uint16 or decoded[0].ndim != 3:
            raise _uncommon()
        pixels = cast("Pixels", decoded[0])
        return on_black(pixels if straight else pixels[..., :3], grey=False)


def decode_tiff(content: bytes, limits: Limits) -> list[Slice]:
    """All pages except reduced copies; raises as :class:`Tiff` and :meth:`Tiff.decode` do."""
    tiff = Tiff(content, limits)
    return [tiff.decode(page) for page in tiff.pages]


def _check_whole(tags: Any, bits: tuple[int, ...]) -> None:
    """Check the size of uncompressed pixels; Pillow reads on if there are too few."""
    sizes = tags.get(_STRIP_SIZES) or tags.get(_TILE_SIZES)
    if tags.get(_COMPRESSION, 1) != 1 or tags.get(_PHOTOMETRIC) == _SUBSAMPLED or not sizes:
        return
    row = -(-tags[_WIDTH] * tags.get(_SAMPLES, 1) * bits[0] // 8)
    if sum(sizes) < row * tags[_HEIGHT]:
        raise UnreadableImage("truncated", "The TIFF page holds less than its header says.")


def _opened(content: bytes) -> TiffImageFile:
    try:
        return TiffImageFile(io.BytesIO(content))
    except SyntaxError as error:
        raise _meaning(error) from None


def _meaning(error: SyntaxError) -> UnreadableImage:
    """The reason behind an error of Pillow, which only its text tells."""
    if "unknown pixel mode" in str(error):
        return _uncommon()
    return UnreadableImage("truncated", "The TIFF file is damaged or incomplete.")


def _uncommon() -> UnreadableImage:
    return UnreadableImage(
        "sample_type", "Pixels with sign, with a point or of more than 16 bits are refused."
    )
