"""What every drawn out-of-distribution picture is: pixels with their kind and their source."""

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ml.imaging.pictures import Pixels


@dataclass(frozen=True)
class Drawn:
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


def oval(height: int, width: int, *, share: float = 0.9) -> npt.NDArray[np.bool_]:
    """An ellipse in the middle that reaches over ``share`` of both sides."""
    rows, columns = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.asarray((rows / share) ** 2 + (columns / share) ** 2 <= 1)
