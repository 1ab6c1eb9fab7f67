"""Whether an image is put together from its rows as it should be: none sheared, none missing."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ml.preprocess import FloatImage, percentiles

MOST_VALUES = 2**20
"""Of an image that are looked at, whole rows from its middle."""
VALUE_BYTES = 52
"""What each of them takes meanwhile, measured and rounded up."""
_SHORTEST = 64  # px; what is smaller says too little
_LEAST = 0.5  # correlation of true rows
_CLEARER = 1.4  # how much less rows of the other length differ
_MISSING = 0.08  # share of the rows
_LIT = 0.15  # of the range, above the darkest value: no background
_CUT = 0.1  # share of the last row that is lit

Stored = npt.NDArray[Any]


def row_length(stored: Stored) -> int:
    """The length that the rows of an image have, going by how alike each is to the next.

    Values that were cut into rows of a wrong length make a sheared picture: a row then looks like
    the next one moved aside. The correlation of the values with themselves is highest at the
    length of the true rows.

    Args:
        stored: (height, width), of any real type.

    Returns:
        ``width``, unless another length between half and twice of it is clearly better.
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
    # A pattern that goes on, as a ramp does, is most alike at one end of the lengths looked at.
    is_peak = width // 2 < best < 2 * width - 1
    clearer = 1 - near[1] > _CLEARER * (1 - other)
    return best if is_peak and other >= _LEAST and clearer else width


def missing_rows(grey: FloatImage) -> int:
    """The number of last rows that stand for nothing: all of one value, where a head goes on.

    Decoders fill up with grey what a damaged file lacks, and of a file that was not written to its
    end zeros remain. Whoever saves the picture again saves that too. Air below a head is no such
    thing: it is dark, and the head ends above it.

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
