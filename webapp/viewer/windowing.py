"""The window that a slice is shown with: page, reports and DICOMweb all ask here.

The file's own suggestion (VOI LUT module, DICOM PS3.3 C.11.2.1.2) is used where it shows
something; else the grey values between the 0.5th and the 99.5th percentile are spread.
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
# A window that covers less of the slice's grey values is a threshold: nearly every pixel would
# be black or white.
_NARROWEST = 0.02
Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Suggestion:
    """What a file suggests: centre and width in the scanner's values, pixel * scale + offset."""

    centre: float
    width: float
    scale: float = 1.0
    offset: float = 0.0

    @property
    def is_valid(self) -> bool:
        """Whether the standard allows it: a width is at least 1."""
        numbers = (self.centre, self.width, self.scale, self.offset)
        return all(map(math.isfinite, numbers)) and self.width >= 1 and self.scale != 0

    @property
    def ends(self) -> tuple[float, float]:
        """The pixels from which everything is black, and from which it is white."""
        half = (self.width - 1) / 2
        ends = (self.centre - 0.5 - half, self.centre - 0.5 + half)
        low, high = sorted((end - self.offset) / self.scale for end in ends)
        return low, high


def suggestion_of(image: Image | Row[*tuple[Any, ...]]) -> Suggestion | None:
    """What the file of a kept slice suggests; None where that is nothing valid."""
    if image.window_centre is None or image.window_width is None:
        return None
    found = Suggestion(
        image.window_centre, image.window_width, image.value_scale, image.value_offset
    )
    return found if found.is_valid else None


def suggestion_in(one: Slice) -> Suggestion | None:
    """What the file of a slice that was just read suggests, as far as it shows something."""
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
    """Pixels as 8-bit grey values, or as colours where there are any.

    Args:
        suggestion: the file's own window, used where it shows something.
        wanted: a window that a person asked for, used as it is.
    """
    if pixels.dtype == np.uint8 and wanted is None:
        return np.asarray(pixels)  # as many grey values as a screen has
    low, high = wanted.ends if wanted else _display_window(pixels, suggestion)
    values = pixels.astype(np.float32)
    if high <= low:  # width 1: what is above the level is white
        return np.asarray(np.where(values > low, 255, 0), dtype=np.uint8)
    spread = (values - low) * (255.0 / (high - low))
    return np.asarray(np.clip(np.rint(spread), 0, 255), dtype=np.uint8)


def _display_window(pixels: npt.NDArray[Any], suggestion: Suggestion | None) -> tuple[float, float]:
    """The lowest and the highest pixel that are told apart."""
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
