"""Heatmaps: the positions of the evidence for a class in a slice."""

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from ml.imaging.pictures import encode_palette_png
from ml.labels import INDEX, Label, likeliest_tumor
from ml.preprocess import FloatImage, Prepared

_MOST_OPAQUE = 0.85
_MOST_AS_FLOATS = 4_000_000  # px; for larger pictures the heat is enlarged as bytes
LEAST_RANGE = 4.0  # minimum range of the evidence, in the unit of the logits


def heat(
    maps: Tensor,
    prepared: Prepared,
    probabilities: npt.NDArray[np.float64],
    *,
    least_range: float = LEAST_RANGE,
) -> FloatImage:
    """The heatmap of one slice.

    The positive part of the exact class-activation map (Zhou et al. 2016) of the likeliest tumour,
    scaled to its maximum, times the probability of any tumour. A healthy slice stays nearly dark,
    because the absence of a tumour has no position. If hardly any position supports the tumour,
    the positions with the least evidence against it are shown.

    Args:
        maps: (4, h, w) class-activation maps of the slice.
        least_range: minimum range from coldest to hottest, in the maps' unit. With 0,
            non-negative maps are scaled by their peak.

    Returns:
        (height, width) float32 in 0..1, in the pixels of the source slice.
    """
    wanted = maps[INDEX[likeliest_tumor(probabilities)]].float().numpy()
    floor = min(0.0, float(wanted.max()) - least_range)
    positive = np.maximum(wanted - floor, 0)
    strength = 1.0 - float(probabilities[INDEX[Label.NO_TUMOR]])
    placed = np.maximum(prepared.to_source(positive.astype(np.float32)), 0)
    # The enlarged map may overshoot the map's values. It is not clipped there, because a plateau
    # would hide the position of the maximum.
    hottest = max(float(positive.max()), float(placed.max()), 1e-6)
    return np.asarray(placed * (strength / hottest), np.float32)


def overlay(field: FloatImage) -> npt.NDArray[np.uint8]:
    """(height, width) heat in 0..1 to (height, width, 4) RGBA; cold pixels are transparent."""
    return _palette()[_levels(field)]


def overlay_png(field: FloatImage, shape: tuple[int, int] | None = None) -> bytes:
    """The overlay as a transparent palette PNG, to be drawn over the slice.

    It has one byte per pixel instead of four: the heat, which determines colour and opacity.

    Args:
        shape: (height, width) of the PNG, by default that of ``field``.
    """
    if shape is None or shape == field.shape:
        return encode_palette_png(_levels(field), _palette())
    height, width = shape
    if height * width <= _MOST_AS_FLOATS:
        return overlay_png(np.asarray(cv2.resize(field, (width, height)), np.float32))
    levels = np.asarray(cv2.resize(_levels(field), (width, height)), np.uint8)
    return encode_palette_png(levels, _palette())


def _levels(field: FloatImage) -> npt.NDArray[np.uint8]:
    levels = (field * 255).astype(np.uint8)
    # All invisible pixels get the same value, which keeps files small.
    return np.where(_palette()[:, 3][levels] > 0, levels, np.uint8(0))


@cache
def _palette() -> npt.NDArray[np.uint8]:
    """(256, 4) RGBA for the heat 0..255."""
    levels = np.arange(256, dtype=np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    # Steeper than the heat, so that weak evidence does not cover the slice.
    opacity = np.clip(levels / 255 * 1.25 - 0.15, 0, 1) * _MOST_OPAQUE * 255
    return np.column_stack([colours.reshape(-1, 3), opacity.astype(np.uint8)])


def blend(
    pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16], field: FloatImage
) -> npt.NDArray[np.uint8]:
    """Slice and overlay in one RGB picture (height, width, 3), for separate files."""
    layer = overlay(field)
    grey = pixels if pixels.ndim == 2 else pixels[..., :3].mean(axis=2)
    low, high = np.percentile(grey, [0.5, 99.5])
    shown = np.clip((grey - low) / max(float(high - low), 1e-6), 0, 1) * 255
    alpha = layer[..., 3:].astype(np.float32) / 255
    mixed = shown[..., None] * (1 - alpha) + layer[..., :3] * alpha
    return np.asarray(mixed.round(), dtype=np.uint8)
