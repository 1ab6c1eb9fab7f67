"""Slices and heatmaps as pixels, in the true proportions of the anatomy."""

import io
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from ml.imaging import NO_LIMITS, read_bytes
from webapp.extensions import blob_to_read
from webapp.reporting.content import KeySlice
from webapp.storage import BlobStore
from webapp.studies.pictures import eight_bit

Grey = npt.NDArray[np.uint8]
Rgb = npt.NDArray[np.uint8]

_SHORTEST_LONG_SIDE = 512


@dataclass(frozen=True)
class Rendered:
    """A slice as it is shown, with and without its heatmap; pixels are square.

    Attributes:
        plain: (height, width, 3) uint8.
        heated: the same with the heatmap laid over; None where there is no heatmap.
        spacing: millimetres between pixels, where the file told.
    """

    plain: Rgb
    heated: Rgb | None
    spacing: float | None


def grey_slice(key: KeySlice, blobs: BlobStore) -> Grey:
    """(height, width) uint8 grey values as a screen shows them, in the slice's own pixels.

    Raises:
        MissingBlob: the slice is gone.
    """
    with blob_to_read(key.blob_key, blobs) as content:
        shown = eight_bit(content, window=key.window)
        pixels = read_bytes(shown, NO_LIMITS)[0].pixels
        if pixels.ndim == 3:
            return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        return np.asarray(pixels, dtype=np.uint8)


def render(key: KeySlice, blobs: BlobStore) -> Rendered:
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


def _shown_size(key: KeySlice) -> tuple[int, int]:
    """(width, height) with square pixels."""
    stretch = 1.0
    if key.row_spacing and key.column_spacing:
        stretch = key.row_spacing / key.column_spacing
    # The finer of the two directions keeps its pixels.
    width = key.width * max(1.0, 1.0 / stretch)
    height = key.height * max(1.0, stretch)
    factor = max(1.0, _SHORTEST_LONG_SIDE / max(width, height))
    return max(1, round(width * factor)), max(1, round(height * factor))


def _laid_over(plain: Rgb, heatmap: bytes) -> Rgb:
    with Image.open(io.BytesIO(heatmap)) as image:
        size = (plain.shape[1], plain.shape[0])
        layer = np.asarray(image.convert("RGBA").resize(size, Image.Resampling.BILINEAR))
    alpha = layer[..., 3:].astype(np.float32) / 255
    mixed = plain * (1 - alpha) + layer[..., :3] * alpha
    return np.asarray(mixed.round(), dtype=np.uint8)
