"""Tumour outlines: a JSON file that maps a slice's identifier to a polygon.

Each polygon is a list of ``[x, y]`` points as fractions of width and height, in the orientation
of the original slice. A manifest line that is the mirror image of its original gets the polygon
mirrored.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from ml.dataset.manifest import Entry
from ml.errors import InvalidManifest
from ml.preprocess import MaskImage

_TOLERANCE = 0.03  # of width and height

Outline = tuple[tuple[float, float], ...]


def read_outlines(path: Path) -> dict[str, Outline]:
    """Read ``path``: identifier of the original slice -> polygon.

    Raises:
        InvalidManifest: the file cannot be read or a polygon has fewer than three points.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        outlines = {
            str(name): tuple((float(x), float(y)) for x, y in points)
            for name, points in content.items()
        }
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InvalidManifest(f"{path} cannot be read as outlines: {error}") from error
    for name, points in outlines.items():
        if len(points) < 3:
            raise InvalidManifest(f"{path}: the outline of {name} has fewer than three points.")
    return outlines


def with_outlines(entries: Iterable[Entry], outlines: Mapping[str, Outline]) -> list[Entry]:
    """The entries with the outline of their original, in the file's orientation.

    An outline that does not match the manifest's box of the same tumour is ignored.
    """
    return [_with_outline(entry, outlines.get(entry.original or "")) for entry in entries]


def outline_mask(outline: Outline, shape: tuple[int, int]) -> MaskImage:
    """Fill the polygon on a grid of ``shape`` (height, width): 1 inside, 0 outside."""
    height, width = shape
    # Pixel centres lie at half-integers after scaling the fractions.
    points = np.array(outline) * (width, height) - 0.5
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 1)
    return mask


def _with_outline(entry: Entry, outline: Outline | None) -> Entry:
    if outline is None:
        return entry
    if entry.mirrored:
        outline = tuple((1 - x, y) for x, y in outline)
    if entry.box is not None and not _fills(outline, entry.box):
        return entry
    return replace(entry, outline=outline)


def _fills(outline: Outline, box: tuple[float, float, float, float]) -> bool:
    points = np.array(outline)
    left, top, width, height = box
    corners = (left, top), (left + width, top + height)
    return bool(np.abs((points.min(0), points.max(0)) - np.array(corners)).max() < _TOLERANCE)
