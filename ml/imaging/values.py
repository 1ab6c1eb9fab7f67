"""Values of a scanner as 16-bit grey, without loss where 16 bits can hold them."""

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from ml.errors import UnreadableImage

_UNSIGNED = (0, 65535)
_SIGNED = (-32768, 32767)
_CHUNK = 2**22  # values that are spread together, so that a volume is never held as float64


def to_uint16(
    values: npt.NDArray[np.generic], slope: float, intercept: float
) -> tuple[npt.NDArray[np.uint16], float, float]:
    """Store values in 16 bits without sign, so that a larger pixel is a larger value.

    Integers that fit into 16 bits, with or without sign, and others that span no more than 65536
    values are kept exactly. Everything else is spread linearly over the range, with values that
    are not finite as its lowest.

    Args:
        values: of any shape and real type, as stored in the file; not empty.
        slope, intercept: scanner's value = stored value * slope + intercept.

    Returns:
        The pixels, and ``scale`` (above 0) and ``offset`` for which the scanner's
        value = pixel * scale + offset.

    Raises:
        UnreadableImage: ``truncated`` where that makes no finite numbers.
    """
    if values.dtype.kind in "iub":
        low, high = int(values.min()), int(values.max())
        for bottom, top in (_UNSIGNED, _SIGNED, (low, high)):
            if bottom <= low and high <= top and top - bottom <= 65535:
                return _shifted(values, bottom, top, slope, intercept)
    return _spread(values, slope, intercept)


def _shifted(
    values: npt.NDArray[np.generic], bottom: int, top: int, slope: float, intercept: float
) -> tuple[npt.NDArray[np.uint16], float, float]:
    pixels = values.astype(np.uint16)  # modulo 65536, which the shift undoes
    if slope >= 0:
        pixels -= np.uint16(bottom % 65536)
        return pixels, *_finite(slope, intercept + slope * bottom)
    np.subtract(np.uint16(top % 65536), pixels, out=pixels)
    return pixels, *_finite(-slope, intercept + slope * top)


def _spread(
    values: npt.NDArray[np.generic], slope: float, intercept: float
) -> tuple[npt.NDArray[np.uint16], float, float]:
    columns_first = values.flags.f_contiguous and not values.flags.c_contiguous
    layout: Literal["C", "F"] = "F" if columns_first else "C"
    flat = values.reshape(-1, order=layout)
    low, high = _range(flat)
    step = (high / 65535 - low / 65535) or 1.0
    end = low if slope >= 0 else high
    pixels = np.empty(flat.shape, np.uint16)
    for start in range(0, flat.size, _CHUNK):
        piece = flat[start : start + _CHUNK].astype(np.float64)
        piece[~np.isfinite(piece)] = end
        steps = np.abs(piece / step - end / step)
        pixels[start : start + _CHUNK] = np.clip(steps, 0, 65535, out=steps).round()
    shaped = pixels.reshape(values.shape, order=layout)
    return shaped, *_finite(abs(slope) * step, intercept + slope * end)


def _range(flat: npt.NDArray[np.generic]) -> tuple[float, float]:
    """Lowest and highest finite value; zeros where there is none."""
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
