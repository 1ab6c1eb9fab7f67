"""Find letters that were drawn on what a scanner measured: a name in an original slice or volume.

The detector of letters sees some in noise and takes long for a volume. Who writes on a slice
writes at one value, mostly the highest of all: a plateau, where measured values hardly ever agree.
So slices without a plateau are passed over at the cost of a histogram, and in the others a line
counts where its letters hold the plateau. Grey letters amid brighter tissue are not found.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from ml.imaging.burned_in import TextBox, find_text
from ml.imaging.slices import Pixels
from ml.preprocess import MaskImage

Item = TypeVar("Item")

_FEWEST_HIGHEST = 12  # pixels that hold the highest value
_FEWEST_BELOW = 40  # pixels that hold another high value
_STANDS_OUT = 3  # times as many as hold any other value as high
_HIGH = 0.005  # share of the pixels
_FEWEST_IN_LINE = 12  # pixels of a line that hold the plateau
_FEWEST_LETTERS = 4
_LEAST_SIDE = 32  # px of a plane in which letters could be read


@dataclass(frozen=True)
class DrawnOn:
    """A plane of a stack with lines of letters: number ``index`` across ``axis`` of the stack."""

    axis: int
    index: int
    boxes: list[TextBox]


def plateau(pixels: Pixels) -> int | None:
    """The value that letters may be drawn at: the highest, or one near it; None without one.

    Args:
        pixels: (height, width), 8 or 16 bit.
    """
    counts = np.bincount(pixels.ravel())  # up to the highest value
    highest = len(counts) - 1
    if counts[highest] == pixels.size:
        return None
    if counts[highest] >= _FEWEST_HIGHEST:
        return highest
    # Something brighter may lie beside the letters: a vessel, a broken pixel.
    lowest = 1 + int(np.searchsorted(np.cumsum(counts), (1 - _HIGH) * pixels.size))
    for high in (lowest - 1, lowest):  # letters may be more than that share, or the ground
        if high > 0 and highest - high >= 2:
            second, most = np.partition(counts[high:], -2)[-2:]
            if most >= max(_FEWEST_BELOW, _STANDS_OUT * int(second)):
                return high + int(counts[high:].argmax())
    return None


def find_drawn_text(pixels: Pixels) -> list[TextBox]:
    """Lines of letters drawn at one high value, otherwise as :func:`find_text`.

    Args:
        pixels: (height, width), 8 or 16 bit.
    """
    value = plateau(pixels)
    if value is None:
        return []
    held = np.asarray(pixels == value, np.uint8)
    return [box for box in find_text(pixels) if _is_drawn(held, box)]


def _is_drawn(held: MaskImage, box: TextBox) -> bool:
    """Whether several letters of a line hold the plateau; one alone is a bright spot."""
    inside = np.ascontiguousarray(held[box.top : box.bottom, box.left : box.right])
    letters = cv2.connectedComponents(inside, connectivity=8)[0] - 1
    return int(inside.sum()) >= _FEWEST_IN_LINE and letters >= _FEWEST_LETTERS


def drawn_in_stack(stack: npt.NDArray[np.uint16], at_most: int | None) -> Iterator[DrawnOn]:
    """Letters drawn in slices of a volume, in whichever of the three planes they were drawn.

    Args:
        stack: (slices, height, width).
        at_most: planes with a plateau that are searched in each direction; None for all.
    """
    for axis in range(3):
        planes = np.moveaxis(stack, axis, 0)
        if min(planes.shape[1:]) < _LEAST_SIDE:
            continue
        marked = [at for at, plane in enumerate(planes) if plateau(plane) is not None]
        for index in evenly(marked, at_most):
            if boxes := find_drawn_text(np.ascontiguousarray(planes[index])):
                yield DrawnOn(axis, index, boxes)


def evenly(items: Sequence[Item], at_most: int | None) -> list[Item]:
    """At most so many of ``items``, at even distances, both ends too; None for all of them."""
    few = len(items) if at_most is None else min(len(items), at_most)
    return [items[at * (len(items) - 1) // max(1, few - 1)] for at in range(few)]
