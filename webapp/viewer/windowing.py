"""Windowing of slices for pages, reports and DICOMweb.

The file's window (VOI LUT module, DICOM PS3.3 C.11.2.1.2) is used if it is wide enough; else the
grey values between the 0.5th and the 99.5th percentile are spread.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Row

from ml.imaging import Slice
from webapp.studies.models import Image

_SHOWN_PERCENTILES = (0.5, 99.5)
# A window narrower than this fraction of the slice's grey values is a threshold: nearly every
# pixel would be black or white.
_NARROWEST = 0.02
Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Suggestion:
    """A file's window: centre and width in the scanner's values, pixel * scale + offset."""

    centre: float
    width: float
    scale: float = 1.0
    offset: float = 0.0

    @property
    def is_valid(self) -> bool:
        """Whether the window is finite and has a width of at least 1, as the standard requires."""
        numbers = (self.centre, self.width, self.scale, self.offset)
        return all(map(math.isfinite, numbers)) and self.width >= 1 and self.scale != 0

    @property
    def ends(self) -> tuple[float, float]:
        """The pixel values at and below which all is black, and at and above which all is white."""
        half = (self.width - 1) / 2
        ends = (self.centre - 0.5 - half, self.centre - 0.5 + half)
        low, high = sorted((end - self.offset) / self.scale for end in ends)
        return low, high


def suggestion_of(image: Image | Row[*tuple[Any, ...]]) -> Suggestion | None:
    """The window of a stored slice's file; None if there is no valid one."""
    if image.window_centre is None or image.window_width is None:
        return None
    found = Suggestion(
        image.window_centre, image.window_width, image.value_scale, image.value_offset
    )
    return found if found.is_valid else None


def suggestion_in(one: Slice) -> Suggestion | None:
    """The window of a newly read slice's file; None if it is invalid or too narrow."""
    if one.window is None:
        return None
    found = Suggestion(*one.window, one.scale, one.offset)
    return found if found.is_valid and _shows_something(found, _percentiles(one.pixels)) else None


def shown_in_grey(
    pixels: npt.NDArray[Any],
    suggestion: Suggestion | None = None,
    *,
    wanted: Suggestion | None = None,
) -> Grey:
    """Pixels as 8-bit grey values, or as colours if there are any.

    Args:
        suggestion: the file's window, used if it is wide enough.
        wanted: a window requested by the user, always used.
    """
    if pixels.dtype == np.uint8 and wanted is None:
        return np.asarray(pixels)  # already 8 bit
    low, high = wanted.ends if wanted else _display_window(pixels, suggestion)
    values = pixels.astype(np.float32)
    if high <= low:  # width 1: values above the level are white
        return np.asarray(np.where(values > low, 255, 0), dtype=np.uint8)
    spread = (values - low) * (255.0 / (high - low))
    return np.asarray(np.clip(np.rint(spread), 0, 255), dtype=np.uint8)


def _display_window(pixels: npt.NDArray[Any], suggestion: Suggestion | None) -> tuple[float, float]:
    """The pixel values shown as black and as white."""
    usual = _percentiles(pixels)
    if suggestion and suggestion.is_valid and _shows_something(suggestion, usual):
        return suggestion.ends
    low, high = usual
    return low, max(high, low + 1.0)


def _percentiles(pixels: npt.NDArray[Any]) -> tuple[float, float]:
    low, high = np.percentile(pixels, _SHOWN_PERCENTILES)
    return float(low), float(high)


def _shows_something(suggestion: Suggestion, usual: tuple[float, float]) -> bool:
    return suggestion.width / abs(suggestion.scale) >= _NARROWEST * (usual[1] - usual[0])
