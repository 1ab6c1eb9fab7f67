"""Test whether two classifiers differ significantly on the same slices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from ml.evaluation.metrics import bootstrap_intervals

Right = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Difference:
    """One classifier compared with the reference.

    Attributes:
        accuracy: its accuracy minus the reference's.
        low, high: 95 % bootstrap interval of that over groups.
        only_this, only_reference: number of slices that only one of the two classifies correctly.
        p: of the exact McNemar test (McNemar 1947) on these. It assumes independent slices;
            those of one patient are not, which the interval over groups accounts for.
    """

    accuracy: float
    low: float
    high: float
    only_this: int
    only_reference: int
    p: float


def difference(right: Right, reference: Right, groups: Sequence[str]) -> Difference:
    """Compare on the same slices.

    Args:
        right, reference: (N,) whether each classified a slice correctly.
        groups: (N,) the group of each slice.
    """
    only_this = int((right & ~reference).sum())
    only_reference = int((reference & ~right).sum())
    gain = right.astype(float) - reference
    interval = bootstrap_intervals(groups, {"gain": lambda chosen: float(gain[chosen].mean())})
    low, high = interval["gain"]
    return Difference(
        accuracy=float(gain.mean()),
        low=low,
        high=high,
        only_this=only_this,
        only_reference=only_reference,
        p=mcnemar(only_this, only_reference),
    )


def mcnemar(one: int, other: int) -> float:
    """Two-sided exact p that ``one`` and ``other`` discordant pairs come from a fair coin."""
    if one + other == 0:
        return 1.0
    return float(binomtest(one, one + other).pvalue)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p values corrected for their number (Holm 1979, Scandinavian Journal of Statistics 6)."""
    corrected: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda one: p_values[one])):
        largest = max(largest, min(1.0, p_values[name] * (len(p_values) - rank)))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}
