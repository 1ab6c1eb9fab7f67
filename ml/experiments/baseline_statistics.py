"""Twelve statistics of a picture's brightness and texture, without anatomical information.

They are the features of the baseline classifier in :mod:`ml.experiments.baseline`.
"""

import cv2
import numpy as np
import numpy.typing as npt

from ml.imaging.slices import Pixels
from ml.preprocess import FloatImage, to_grey

STATISTICS = (
    "mean",
    "deviation",
    "skewness",
    "kurtosis",
    "median",
    "percentile_95",
    "entropy",
    "gradient_energy",
    "laplacian_variance",
    "pattern_entropy",
    "background_share",
    "symmetry",
)
_SIDE = 224  # px; texture is measured at a fixed size, so that it does not reveal the file's size
_BACKGROUND = 0.05  # of the full range
_BRIGHTEST = 255  # histogram and patterns use 8 bit, as most files do
_NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
_TINY = 1e-6

Row = npt.NDArray[np.float32]


def file_statistics(pixels: Pixels) -> Row:
    """Statistics (12,) of a decoded file, (height, width) or (height, width, 3) RGB."""
    full = float(np.iinfo(pixels.dtype).max)
    return statistics(to_grey(pixels) / np.float32(full))


def statistics(image: FloatImage) -> Row:
    """Statistics (12,), in the order of :data:`STATISTICS`, of a grey image in 0..1.

    Texture statistics are relative to the image's contrast: energy of the gradient, variance of
    the Laplacian, and entropy of the local binary patterns (Ojala, Pietikäinen and Mäenpää 2002,
    eight neighbours, not rotation-invariant). Symmetry is the correlation with the mirror image.
    """
    side = (_SIDE, _SIDE)
    image = np.asarray(cv2.resize(image, side, interpolation=cv2.INTER_AREA), np.float32)
    levels = np.round(np.clip(image, 0, 1) * _BRIGHTEST).astype(np.uint8)
    counts = np.bincount(levels.ravel(), minlength=_BRIGHTEST + 1)
    median, bright = np.searchsorted(counts.cumsum(), np.array([0.5, 0.95]) * image.size)
    mean, deviation = float(image.mean()), float(image.std())
    standard = (image - mean) / max(deviation, _TINY)
    squared = standard * standard
    across, down = np.diff(standard, axis=1), np.diff(standard, axis=0)
    return np.array(
        [
            mean,
            deviation,
            (squared * standard).mean(),
            (squared * squared).mean(),
            median / _BRIGHTEST,
            bright / _BRIGHTEST,
            _entropy(counts),
            (across * across).mean() + (down * down).mean(),
            cv2.Laplacian(standard, cv2.CV_32F).var(),
            _entropy(np.bincount(_patterns(levels).ravel(), minlength=256)),
            counts[: round(_BACKGROUND * _BRIGHTEST)].sum() / image.size,
            (standard * standard[:, ::-1]).mean(),
        ],
        np.float32,
    )


def _patterns(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Local binary patterns: one bit per neighbour that is brighter than the pixel."""
    height, width = image.shape
    middle = image[1:-1, 1:-1]
    patterns = np.zeros(middle.shape, np.uint8)
    for bit, (down, right) in enumerate(_NEIGHBOURS):
        moved = image[1 + down : height - 1 + down, 1 + right : width - 1 + right]
        patterns |= (moved > middle).astype(np.uint8) << bit
    return patterns


def _entropy(counts: npt.NDArray[np.int64]) -> float:
    """Shannon entropy of a histogram, in bits."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())
