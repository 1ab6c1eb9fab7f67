"""Two rules for MRI of any scanner: it has no colour, and there is air around the head."""

import cv2
import numpy as np

from ml.imaging.pictures import Pixels
from ml.preprocess import FloatImage, percentiles, to_grey

# Channels of grey pictures saved as colour JPEG differ by less than 2.
_COLOUR_LIMIT = 6.0
# 99.5 % of the training slices stay below 0.08; slices cut close to the head reach further.
_FRAME_LIMIT = 0.15
_SIDE, _FRAME_WIDTH = 256, 6


def colour_or_bright_frame(pixels: Pixels) -> float:
    """How strongly the picture violates one of the two rules; above 1 it does.

    Args:
        pixels: (height, width) or (height, width, 3) RGB, 8 or 16 bit.
    """
    return max(_colour(pixels) / _COLOUR_LIMIT, _frame_level(to_grey(pixels)) / _FRAME_LIMIT)


def _colour(pixels: Pixels) -> float:
    """Mean difference between the colour channels in 0..255, after removing a uniform tint.

    In a photograph of a grey film in warm or bluish light, the channels are linear functions of
    the brightness. These are removed before the channels are compared.
    """
    if pixels.ndim == 2:
        return 0.0
    top = float(np.iinfo(pixels.dtype).max)
    small = cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    channels = small.reshape(-1, 3).astype(np.float64) * (255.0 / top)
    grey = np.column_stack([channels.mean(axis=1), np.ones(len(channels))])
    tint, *_ = np.linalg.lstsq(grey, channels, rcond=None)
    return float(np.ptp(channels - grey @ tint, axis=1).mean())


def _frame_level(grey: FloatImage) -> float:
    """Median intensity of the outermost frame, from 0 (darkest) to 1 (99th percentile)."""
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    low, high = percentiles(small, [0.5, 99])
    inside = np.s_[_FRAME_WIDTH:-_FRAME_WIDTH]
    frame = np.ones(small.shape, bool)
    frame[inside, inside] = False
    return float((np.median(small[frame]) - low) / max(high - low, 1e-6))
