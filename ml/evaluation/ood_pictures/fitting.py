"""Fit the bundled rule of :mod:`ml.uncertainty.ood` from brain slices and odd pictures."""

from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from tqdm import tqdm

from ml.evaluation.ood_pictures.pictures import Random
from ml.evaluation.ood_pictures.variation import varied
from ml.imaging.pictures import Pixels
from ml.uncertainty.ood.picture_rule import Rule
from ml.uncertainty.ood.picture_statistics import Vector, statistics

_BRAIN_VARIATIONS = 2
_ODD_VARIATIONS = 3
_CLIPPED = (0.005, 0.995)  # quantiles
_COST, _GAMMA = 5.0, 0.005
_SEED = 20261125


def fit_rule(brains: Sequence[Pixels], odd: Sequence[Pixels]) -> Rule:
    """Fit on each picture as it is and on random variations of it."""
    random = np.random.default_rng(_SEED)
    rows, is_odd = [], []
    for pixels, odd_one in tqdm(
        [(one, False) for one in brains] + [(one, True) for one in odd],
        "measuring",
        unit="picture",
        disable=None,
    ):
        for numbers in _numbers(pixels, random, is_odd=odd_one):
            rows.append(numbers)
            is_odd.append(odd_one)
    measured = np.array(rows)
    low, high = np.quantile(measured, _CLIPPED, axis=0)
    scaler = StandardScaler().fit(np.clip(measured, low, high))
    machine = SVC(C=_COST, gamma=_GAMMA)
    machine.fit(scaler.transform(np.clip(measured, low, high)), is_odd)
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


def _numbers(pixels: Pixels, random: Random, *, is_odd: bool) -> Iterator[Vector]:
    times = _ODD_VARIATIONS if is_odd else _BRAIN_VARIATIONS
    pictures = [pixels] + [varied(pixels, random, is_brain=not is_odd) for _ in range(times)]
    for picture in pictures:
        numbers = statistics(picture)
        if numbers is not None:
            yield numbers
