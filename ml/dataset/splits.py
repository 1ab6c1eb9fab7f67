"""Leak-free parts of a data set: whole groups (patients, near-copies) stay on one side."""

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from ml.dataset.manifest import Entry

_FOLDS = 20
_VALIDATION_FOLDS = 3
_CALIBRATION_FOLDS = 2


@dataclass(frozen=True)
class Split:
    """Three parts that share no group.

    ``training`` fits the weights, ``calibration`` fits temperature and thresholds of doubt, and
    ``validation`` is only ever measured on.
    """

    training: list[Entry]
    calibration: list[Entry]
    validation: list[Entry]


def split_by_group(entries: list[Entry], *, seed: int) -> Split:
    """Split into 75 % training, 10 % calibration and 15 % validation, stratified by class.

    The percentages hold for images only roughly, because groups are kept whole.
    """
    labels = np.array([entry.label.value for entry in entries])
    groups = np.array([entry.group for entry in entries])
    folds = StratifiedGroupKFold(n_splits=_FOLDS, shuffle=True, random_state=seed)
    fold_of = np.empty(len(entries), np.int64)
    for number, (_, members) in enumerate(folds.split(labels, labels, groups)):
        fold_of[members] = number
    validation = fold_of < _VALIDATION_FOLDS
    calibration = ~validation & (fold_of < _VALIDATION_FOLDS + _CALIBRATION_FOLDS)
    return Split(
        training=_chosen(entries, ~validation & ~calibration),
        calibration=_chosen(entries, calibration),
        validation=_chosen(entries, validation),
    )


def without_mirrored_twins(entries: list[Entry]) -> list[Entry]:
    """Keep one file of each original; the training's own flips make the mirror images."""
    kept: dict[str, Entry] = {}
    for entry in entries:
        key = entry.original or str(entry.path)
        if key not in kept or kept[key].mirrored:
            kept[key] = entry
    return list(kept.values())


def _chosen(entries: list[Entry], mask: np.ndarray) -> list[Entry]:
    return [entry for entry, chosen in zip(entries, mask, strict=True) if chosen]
