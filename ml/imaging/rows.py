"""Detect images with a wrong row length or with missing rows."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ml.preprocess import FloatImage, percentiles

MOST_VALUES = 2**20
"""Maximum number of values that are analysed: whole rows from the middle of the image."""
VALUE_BYTES = 52
"""Bytes of memory per analysed value, measured and rounded up."""
_SHORTEST = 64  # px; smaller images are not checked
_LEAST = 0.5  # minimum correlation of neighbouring rows of the true length
_CLEARER = 1.4  # ratio by which rows of another length must differ less
_MISSING = 0.08  # share of the rows
_LIT = 0.15  # share of the range above the darkest value; brighter pixels are not background
_CUT = 0.1  # share of the last row that is lit

Stored = npt.NDArray[Any]


def row_length(stored: Stored) -> int:
    """The true row length of an image, from the similarity of neighbouring rows.

    Values cut into rows of a wrong length give a sheared picture: each row looks like the next one
    shifted sideways. The autocorrelation of the values is highest at the true row length.

    Args:
        stored: (height, width), of any real type.

    Returns:
        ``width``, unless another length between half and twice the width is clearly better.
    """
    height, width = (int(side) for side in stored.shape)
    rows = min(height, max(_SHORTEST, MOST_VALUES // width))
    top = (height - rows) // 2
    values = np.array(stored[top : top + rows], np.float32).ravel()
    values -= values.mean()
    power = float(values @ values)
    if min(stored.shape) < _SHORTEST or not np.isfinite(power) or power <= 0:
        return width
    near = [float(values[lag:] @ values[:-lag]) / power for lag in (width - 1, width, width + 1)]
    if near[1] >= max(near):
        return width
    spectrum = np.fft.rfft(values, 2 ** int(len(values) + 2 * width - 1).bit_length())
    alike = np.fft.irfft(np.abs(spectrum) ** 2)[: 2 * width] / power
    best = width // 2 + int(alike[width // 2 :].argmax())
    other = float(alike[best])
    # A continuing pattern such as a ramp has its maximum at an end of the tested lengths.
    is_peak = width // 2 < best < 2 * width - 1
    clearer = 1 - near[1] > _CLEARER * (1 - other)
    return best if is_peak and other >= _LEAST and clearer else width


def missing_rows(grey: FloatImage) -> int:
    """The number of last rows without data: all of one value although the head continues.

    Decoders fill missing data of a damaged file with grey, and a partly written file ends with
    zeros. Saving the picture again keeps these rows. Air below a head is different: it is dark,
    and the head ends above it.

    Args:
        grey: (height, width) of any range.
    """
    low, high = percentiles(grey, [0, 99.9])
    value = float(grey[-1, -1])
    other = np.flatnonzero((grey != value).any(axis=1))
    if not other.size:
        return 0
    last = int(other[-1])
    rows = len(grey) - 1 - last
    is_filled = value >= low + _LIT * (high - low)
    is_cut = float((grey[last] > low + _LIT * (high - low)).mean()) >= _CUT
    return rows if rows >= _MISSING * len(grey) and (is_filled or is_cut) else 0
