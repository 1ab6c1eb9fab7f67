"""Slices and heatmaps as pixels, in true anatomical proportions."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from ml.imaging import NO_LIMITS, read_bytes
from webapp.reporting.content import ReportedSlice
from webapp.storage import BlobStore
from webapp.viewer.pictures import eight_bit

Grey = npt.NDArray[np.uint8]
Rgb = npt.NDArray[np.uint8]

_SHORTEST_LONG_SIDE, _LONGEST_SIDE = 512, 4096  # px
_ROWS = 256  # rows blended at once
# Bytes per pixel: of the largest slice during decoding, of each stored slice, of each shown one.
_DECODED_PIXEL, _KEPT_PIXEL, _SHOWN_PIXEL = 22, 2, 8


@dataclass(frozen=True)
class Rendered:
    """A slice as shown, with and without its heatmap; pixels are square.

    Attributes:
        plain: (height, width, 3) uint8.
        heated: the same with the heatmap overlaid; None if there is no heatmap.
        spacing: millimetres between pixels, if known.
    """

    plain: Rgb
    heated: Rgb | None
    spacing: float | None


def memory(keys: Sequence[ReportedSlice]) -> int:
    """Approximate bytes that pictures of these slices need while a report is made."""
    sizes = [key.width * key.height for key in keys]
    shown = sum(min(size, _LONGEST_SIDE**2) for size in sizes)
    largest = max(sizes, default=0)
    return _DECODED_PIXEL * largest + _KEPT_PIXEL * sum(sizes) + _SHOWN_PIXEL * shown


def grey_slice(key: ReportedSlice, blobs: BlobStore) -> Grey:
    """(height, width) uint8 grey values after windowing, in the slice's original pixels.

    Raises:
        MissingBlob: the slice is gone.
    """
    shown = eight_bit(blobs.get(key.blob_key), window=key.window)
    pixels = read_bytes(shown, NO_LIMITS)[0].pixels
    if pixels.ndim == 3:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    return np.asarray(pixels, dtype=np.uint8)


def render(key: ReportedSlice, blobs: BlobStore) -> Rendered:
    """The slice in true proportions, at least 512 pixels long, with and without its heatmap.

    Raises:
        MissingBlob: the slice or its heatmap is gone.
    """
    size = _shown_size(key)
    grey = cv2.resize(grey_slice(key, blobs), size, interpolation=cv2.INTER_CUBIC)
    plain = np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), dtype=np.uint8)
    heated = _laid_over(plain, blobs.get(key.heatmap_key)) if key.heatmap_key else None
    spacing = key.column_spacing * key.width / size[0] if key.column_spacing else None
    return Rendered(plain, heated, spacing)


def _shown_size(key: ReportedSlice) -> tuple[int, int]:
    """(width, height) in square pixels."""
    stretch = key.pixel_aspect or 1.0
    if key.row_spacing and key.column_spacing:
        stretch = key.row_spacing / key.column_spacing
    # The finer of the two directions keeps its resolution.
    width = key.width * max(1.0, 1.0 / stretch)
    height = key.height * max(1.0, stretch)
    longest = max(width, height)
    factor = max(1.0, _SHORTEST_LONG_SIDE / longest) * min(1.0, _LONGEST_SIDE / longest)
    return max(1, round(width * factor)), max(1, round(height * factor))


def _laid_over(plain: Rgb, heatmap: bytes) -> Rgb:
    with Image.open(io.BytesIO(heatmap)) as image:
        size = (plain.shape[1], plain.shape[0])
        layer = np.asarray(image.convert("RGBA").resize(size, Image.Resampling.BILINEAR))
    laid = np.empty_like(plain)
    for top in range(0, len(plain), _ROWS):  # in parts: floats need eight times the memory
        rows = slice(top, top + _ROWS)
        alpha = layer[rows, :, 3:].astype(np.float32) / 255
        laid[rows] = (plain[rows] * (1 - alpha) + layer[rows, :, :3] * alpha).round()
    return laid
