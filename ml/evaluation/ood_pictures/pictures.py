"""What every out-of-distribution picture is: pixels with the kind and the source they come from."""

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ml.imaging.pictures import Pixels

Grey = npt.NDArray[np.uint8]
Random = np.random.Generator


@dataclass(frozen=True)
class OODPicture:
    """A picture that is no MRI of a brain.

    Attributes:
        kind: what it shows, such as ``grey photograph in a black oval``.
        source: the image or the drawing rule it was made from; all its variants share it.
        pixels: (height, width) grey or (height, width, 3) RGB, 8 bit.
    """

    kind: str
    source: str
    pixels: Pixels


def random_of(source: str) -> np.random.Generator:
    """Random numbers that depend on the source's name alone, whatever else is made beside it."""
    return np.random.default_rng(zlib.crc32(source.encode()))


def to_bytes(field: npt.NDArray[np.generic]) -> Grey:
    """Stretch any numbers to 0..255 between their 0.5th and 99.5th percentile."""
    values = np.asarray(field, np.float64)
    low, high = np.percentile(values, [0.5, 99.5])
    if high <= low:
        low, high = float(values.min()), float(values.max()) + 1e-9
    return np.asarray(np.clip((values - low) / (high - low), 0, 1) * 255, np.uint8)


def oval(height: int, width: int, *, share: float = 0.9) -> npt.NDArray[np.bool_]:
    """An ellipse in the middle that reaches over ``share`` of both sides."""
    rows, columns = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.asarray((rows / share) ** 2 + (columns / share) ** 2 <= 1)
