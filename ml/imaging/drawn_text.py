"""Detect text drawn on measured images: a name in an original slice or volume.

The general text detector has false alarms in noise and is slow on volumes. Drawn text has one
value, mostly the highest of all. This gives a plateau in the histogram, while measured values
rarely coincide. So slices without a plateau are skipped at the cost of a histogram; in the others
a line counts if its letters have the plateau's value. Grey text amid brighter tissue is missed.
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

_FEWEST_HIGHEST = 12  # pixels with the highest value
_FEWEST_BELOW = 40  # pixels with another high value
_STANDS_OUT = 3  # times as many pixels as any other value that is as high
_HIGH = 0.005  # share of the pixels
_FEWEST_IN_LINE = 12  # pixels of a line with the plateau's value
_FEWEST_LETTERS = 4
_LEAST_SIDE = 32  # px; in smaller planes text is not legible


@dataclass(frozen=True)
class DrawnOn:
    """A plane of a stack with lines of text: number ``index`` along ``axis`` of the stack."""

    axis: int
    index: int
    boxes: list[TextBox]


def plateau(pixels: Pixels) -> int | None:
    """The value that text may be drawn with: the highest or one near it; None without a plateau.

    Args:
        pixels: (height, width), 8 or 16 bit.
    """
    counts = np.bincount(pixels.ravel())  # up to the highest value
    highest = len(counts) - 1
    if counts[highest] == pixels.size:
        return None
    if counts[highest] >= _FEWEST_HIGHEST:
        return highest
    # Something may be brighter than the text: a vessel, a defective pixel.
    lowest = 1 + int(np.searchsorted(np.cumsum(counts), (1 - _HIGH) * pixels.size))
    for high in (lowest - 1, lowest):  # the text may exceed that share, or be the background
        if high > 0 and highest - high >= 2:
            second, most = np.partition(counts[high:], -2)[-2:]
            if most >= max(_FEWEST_BELOW, _STANDS_OUT * int(second)):
                return high + int(counts[high:].argmax())
    return None


def find_drawn_text(pixels: Pixels) -> list[TextBox]:
    """Find lines of text drawn with one high value, otherwise as :func:`find_text`.

    Args:
        pixels: (height, width), 8 or 16 bit.
    """
    value = plateau(pixels)
    if value is None:
        return []
    held = np.asarray(pixels == value, np.uint8)
    return [box for box in find_text(pixels) if _is_drawn(held, box)]


def _is_drawn(held: MaskImage, box: TextBox) -> bool:
    """Whether several letters of a line have the plateau's value; one is just a bright spot."""
    inside = np.ascontiguousarray(held[box.top : box.bottom, box.left : box.right])
    letters = cv2.connectedComponents(inside, connectivity=8)[0] - 1
    return int(inside.sum()) >= _FEWEST_IN_LINE and letters >= _FEWEST_LETTERS


def drawn_in_stack(stack: npt.NDArray[np.uint16], at_most: int | None) -> Iterator[DrawnOn]:
    """Find text drawn into a volume in any of the three planes.

    Args:
        stack: (slices, height, width).
        at_most: number of planes with a plateau to search in each direction; None for all.
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
    """At most ``at_most`` evenly spaced ``items`` including both ends; all if None."""
    few = len(items) if at_most is None else min(len(items), at_most)
    return [items[at * (len(items) - 1) // max(1, few - 1)] for at in range(few)]
