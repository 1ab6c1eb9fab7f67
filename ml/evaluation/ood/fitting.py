"""Fit the bundled rule of :mod:`ml.uncertainty.ood` from brain slices and OOD pictures."""

from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from tqdm import tqdm

from ml.evaluation.ood.variation import Random, varied
from ml.imaging.pictures import Pixels
from ml.uncertainty.ood.picture_rule import Rule
from ml.uncertainty.ood.picture_statistics import Vector, statistics

_BRAIN_VARIATIONS = 2
_OOD_VARIATIONS = 3
_CLIPPED = (0.005, 0.995)  # quantiles
_COST, _GAMMA = 5.0, 0.005
_SEED = 20261125


def fit_rule(brains: Sequence[Pixels], ood: Sequence[Pixels]) -> Rule:
    """Fit on each picture as it is and on random variations of it."""
    random = np.random.default_rng(_SEED)
    rows, is_ood = [], []
    for pixels, outside in tqdm(
        [(one, False) for one in brains] + [(one, True) for one in ood],
        "measuring",
        unit="picture",
        disable=None,
    ):
        for numbers in _numbers(pixels, random, is_ood=outside):
            rows.append(numbers)
            is_ood.append(outside)
    measured = np.array(rows)
    low, high = np.quantile(measured, _CLIPPED, axis=0)
    scaler = StandardScaler().fit(np.clip(measured, low, high))
    machine = SVC(C=_COST, gamma=_GAMMA)
    machine.fit(scaler.transform(np.clip(measured, low, high)), is_ood)
    return Rule(
        low=low,
        high=high,
        mean=np.asarray(scaler.mean_),
        deviation=np.asarray(scaler.scale_),
        vectors=machine.support_vectors_,
        weights=machine.dual_coef_[0],
        intercept=float(machine.intercept_[0]),
        gamma=_GAMMA,
    )


def _numbers(pixels: Pixels, random: Random, *, is_ood: bool) -> Iterator[Vector]:
    times = _OOD_VARIATIONS if is_ood else _BRAIN_VARIATIONS
    pictures = [pixels] + [varied(pixels, random, is_brain=not is_ood) for _ in range(times)]
    for picture in pictures:
        numbers = statistics(picture)
        if numbers is not None:
            yield numbers
