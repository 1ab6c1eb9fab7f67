"""One 2-D slice, the unit of all processing after decoding."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast, overload

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
_SAME = 0.01  # spacings that differ by less count as equal
_LONGEST = 4096  # px; the longest side after resampling


@dataclass(frozen=True)
class Slice:
    """Decoded pixels of one slice.

    Attributes:
        pixels: (height, width) for grey or (height, width, 3) for colour in RGB order;
            uint8 or uint16. Larger is brighter, whatever the file's convention.
        index: position within the file, counted from 0.
        spacing: millimetres between pixel centres as (row, column), or None if the
            format has none.
        scale, offset: value in the scanner's units = pixel * scale + offset; scale is above 0.
        window: (centre, width) that the file suggests for display, in the scanner's units.
    """

    pixels: Pixels
    index: int = 0
    spacing: tuple[float, float] | None = None
    scale: float = 1.0
    offset: float = 0.0
    window: tuple[float, float] | None = None

    @property
    def is_colour(self) -> bool:
        """Whether the file stores three channels (which may still be equal)."""
        return self.pixels.ndim == 3


class Slices(Sequence[Slice]):
    """Slices of an open file, each decoded on access and not cached."""

    def __init__(self, count: int, decode: Callable[[int], Slice]) -> None:
        self._count = count
        self._decode = decode

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> Slice: ...
    @overload
    def __getitem__(self, at: slice) -> "Slices": ...
    def __getitem__(self, at: int | slice) -> "Slice | Slices":
        """Decode the slice at an index, or a lazy view of a range.

        Raises:
            IndexError: the index is out of range.
            UnreadableImage: its pixels are damaged.
        """
        places = range(self._count)[at]
        if isinstance(places, int):
            return self._decode(places)
        return Slices(len(places), lambda number: self._decode(places[number]))


def square_pixels(item: Slice) -> Pixels:
    """The pixels, resampled to square pixels if needed.

    The direction with the coarser spacing is upsampled, so that nothing is lost. If that would
    make a side longer than 4096 px, the other direction is downsampled.
    """
    if item.spacing is None:
        return item.pixels
    row, column = item.spacing
    if abs(row / column - 1) <= _SAME:
        return item.pixels
    height, width = item.pixels.shape[:2]
    longest = max(height * row, width * column)  # mm
    pixel = max(min(row, column), longest / max(_LONGEST, height, width))
    size = (max(1, round(width * column / pixel)), max(1, round(height * row / pixel)))
    resized = cv2.resize(item.pixels, size, interpolation=cv2.INTER_LINEAR)
    return cast("Pixels", resized)
