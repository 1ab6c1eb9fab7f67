"""The fitted rule: evidence from a picture's statistics that it is not a slice of a head."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from ml.errors import InvalidModel
from ml.imaging.pictures import Pixels
from ml.uncertainty.ood.picture_statistics import Vector, statistics

BUNDLED = Path(__file__).with_name("rule.npz")
# Score of a picture in which no object stands out, which is certainly not a head.
_NOTHING = 5.0

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """A support vector machine with Gaussian kernel (Cortes and Vapnik 1995) on statistics.

    Attributes:
        low, high: (n,) range that each number is clipped to, so that a picture outside the range
            of the fit is treated as one at its edge.
        mean, deviation: (n,) for standardisation after clipping.
        vectors: (m, n) support vectors, standardised.
        weights: (m,) above 0 for out-of-distribution pictures.
        intercept: the answer far from all support vectors.
        gamma: width of the kernel ``exp(-gamma * squared distance)``.
    """

    low: Vector
    high: Vector
    mean: Vector
    deviation: Vector
    vectors: Matrix
    weights: Vector
    intercept: float
    gamma: float

    def evidence(self, numbers: Vector) -> float:
        """The score of a picture; above 0 for no head; -1 and 1 are the margins of the fit."""
        place = (np.clip(numbers, self.low, self.high) - self.mean) / self.deviation
        distances = ((self.vectors - place) ** 2).sum(axis=1)
        return float(np.exp(-self.gamma * distances) @ self.weights + self.intercept)

    def save(self, path: Path) -> None:
        """Write the rule as NumPy arrays, in half precision where that suffices."""
        with path.open("wb") as file:
            np.savez_compressed(
                file,
                low=self.low,
                high=self.high,
                mean=self.mean,
                deviation=self.deviation,
                vectors=self.vectors.astype(np.float16),
                weights=self.weights.astype(np.float32),
                intercept=self.intercept,
                gamma=self.gamma,
            )

    @classmethod
    def load(cls, path: Path = BUNDLED) -> Self:
        """Read a rule.

        Raises:
            InvalidModel: the file is missing or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as found:
                arrays = {name: np.asarray(found[name], np.float64) for name in found.files}
            intercept, gamma = float(arrays.pop("intercept")), float(arrays.pop("gamma"))
            return cls(
                low=arrays["low"],
                high=arrays["high"],
                mean=arrays["mean"],
                deviation=arrays["deviation"],
                vectors=arrays["vectors"],
                weights=arrays["weights"],
                intercept=intercept,
                gamma=gamma,
            )
        except (OSError, EOFError, BadZipFile, ValueError, KeyError, TypeError) as error:
            raise InvalidModel(f"The rule {path} cannot be read: {error}") from error


@lru_cache(maxsize=1)
def bundled_rule() -> Rule:
    """The rule that ships with the package, read once."""
    return Rule.load()


def evidence_against_head(pixels: Pixels) -> float:
    """The bundled rule's score of a picture; above 0 for no head.

    Args:
        pixels: (height, width) or (height, width, 3) RGB, 8 or 16 bit.
    """
    numbers = statistics(pixels)
    return _NOTHING if numbers is None else bundled_rule().evidence(numbers)
