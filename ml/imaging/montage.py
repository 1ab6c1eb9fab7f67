"""Detect pictures with several slices side by side, such as films and screenshots."""

import cv2
import numpy as np

from ml.imaging.pictures import Pixels
from ml.preprocess import FloatImage, percentiles, to_grey

_SIDE = 384  # px; the longer side of the copy that is analysed
_DARK = 0.07  # share of the 99th percentile; darker pixels are air around a head
_LEAST = 0.5  # a head's longer side relative to that of the largest head
_LEAST_OF_PICTURE = 0.02  # a head's bounding box relative to the picture's area
_WHITE = 0.5  # share of the 99th percentile; brighter pixels may be a line between slices
_LINE = 0.9  # share of a row or column that is white in such a line
_FULL = 0.4  # share of its bounding box that a head fills
_LONGEST = 2.2  # a head's longer side relative to its shorter one


def several_slices(pixels: Pixels) -> float:
    """The number of slices if the picture shows more than one, else 0.

    Args:
        pixels: (height, width) or (height, width, 3) RGB, 8 or 16 bit.
    """
    heads = heads_in(pixels)
    return float(heads) if heads > 1 else 0.0


def heads_in(pixels: Pixels | FloatImage) -> int:
    """The number of separate heads: regions of similar size with air between them.

    Args:
        pixels: (height, width) or (height, width, 3) RGB, 8 or 16 bit.
    """
    grey = to_grey(pixels)
    scale = min(1.0, _SIDE / max(grey.shape))
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    small = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)
    low, high = percentiles(small, [1, 99])
    if high <= low:
        return 0
    lit = np.asarray(small > low + _DARK * (high - low), np.uint8)
    # Lines from edge to edge separate slices and must not connect them.
    white = small > low + _WHITE * (high - low)
    lit[white.mean(axis=1) > _LINE] = 0
    lit[:, white.mean(axis=0) > _LINE] = 0
    # Dark tissue between skull and brain is part of the head; captions and thin frames are not.
    lit = np.asarray(cv2.morphologyEx(lit, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), np.uint8)
    contours, _ = cv2.findContours(lit, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    sides, filled = [], []
    for contour in contours:
        _left, _top, width, height = cv2.boundingRect(contour)
        area = width * height
        if area < _LEAST_OF_PICTURE * lit.size or max(width, height) > _LONGEST * min(
            width, height
        ):
            continue
        sides.append(max(width, height))
        filled.append(cv2.contourArea(contour) >= _FULL * area)
    largest = max(sides, default=0)
    return sum(full and side >= _LEAST * largest for side, full in zip(sides, filled, strict=True))
