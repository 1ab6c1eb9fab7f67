"""Map scanner values to 16-bit grey, losslessly if 16 bits suffice."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ml.errors import UnreadableImage

Values = npt.NDArray[np.generic]
_UNSIGNED = (0, 65535)
_SIGNED = (-32768, 32767)
_CHUNK = 2**22  # values per step, so that a volume is never held as float64


@dataclass(frozen=True)
class Mapping:
    """Mapping of stored values to 16-bit pixels: scanner's value = pixel * scale + offset.

    Attributes:
        pixels: computes the pixels of any part of the values.
        scale: above 0.
    """

    pixels: Callable[[Values], npt.NDArray[np.uint16]]
    scale: float
    offset: float


def to_uint16(
    values: Values, slope: float, intercept: float
) -> tuple[npt.NDArray[np.uint16], float, float]:
    """Convert values to 16 bits; return pixels, scale and offset. See :func:`mapping`."""
    found = mapping(values, slope, intercept)
    return found.pixels(values), found.scale, found.offset


def mapping(values: Values, slope: float, intercept: float) -> Mapping:
    """A monotonic mapping of values to unsigned 16 bits.

    Integers that fit into 16 bits, signed or unsigned, and others that span at most 65536 values
    are kept exactly. All other values are scaled linearly to the range; values that are not finite
    become its lowest.

    Args:
        values: of any shape and real type, as stored in the file; not empty.
        slope, intercept: scanner's value = stored value * slope + intercept.

    Raises:
        UnreadableImage: ``truncated`` if the result is not finite.
    """
    if values.dtype.kind in "iub":
        low, high = int(values.min()), int(values.max())
        for bottom, top in (_UNSIGNED, _SIGNED, (low, high)):
            if bottom <= low and high <= top and top - bottom <= 65535:
                return _shifting(bottom, top, slope, intercept)
    return _spreading(values, slope, intercept)


def _shifting(bottom: int, top: int, slope: float, intercept: float) -> Mapping:
    def pixels(values: Values) -> npt.NDArray[np.uint16]:
        shifted = values.astype(np.uint16)  # modulo 65536, which the shift undoes
        if slope >= 0:
            shifted -= np.uint16(bottom % 65536)
        else:
            np.subtract(np.uint16(top % 65536), shifted, out=shifted)
        return shifted

    end = bottom if slope >= 0 else top
    return Mapping(pixels, *_finite(abs(slope), intercept + slope * end))


def _spreading(values: Values, slope: float, intercept: float) -> Mapping:
    low, high = _range(_flat(values)[0])
    step = (high / 65535 - low / 65535) or 1.0
    end = low if slope >= 0 else high

    def pixels(values: Values) -> npt.NDArray[np.uint16]:
        flat, layout = _flat(values)
        spread = np.empty(flat.shape, np.uint16)
        for start in range(0, flat.size, _CHUNK):
            piece = flat[start : start + _CHUNK].astype(np.float64)
            piece[~np.isfinite(piece)] = end
            steps = np.abs(piece / step - end / step)
            spread[start : start + _CHUNK] = np.clip(steps, 0, 65535, out=steps).round()
        return spread.reshape(values.shape, order=layout)

    return Mapping(pixels, *_finite(abs(slope) * step, intercept + slope * end))


def _flat(values: Values) -> tuple[Values, Literal["C", "F"]]:
    columns_first = values.flags.f_contiguous and not values.flags.c_contiguous
    layout: Literal["C", "F"] = "F" if columns_first else "C"
    return values.reshape(-1, order=layout), layout


def _range(flat: Values) -> tuple[float, float]:
    """Lowest and highest finite value; zeros if there is none."""
    low, high = math.inf, -math.inf
    for start in range(0, flat.size, _CHUNK):
        piece = flat[start : start + _CHUNK].astype(np.float64)
        if not math.isfinite(piece.min()) or not math.isfinite(piece.max()):
            piece = piece[np.isfinite(piece)]
        if piece.size:
            low, high = min(low, float(piece.min())), max(high, float(piece.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def _finite(scale: float, offset: float) -> tuple[float, float]:
    if not (math.isfinite(scale) and math.isfinite(offset)):
        raise UnreadableImage("truncated", "The values of the image make no sense.")
    return scale, offset
