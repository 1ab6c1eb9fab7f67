"""Leak-free parts of a data set: whole groups (patients, near-copies) stay on one side."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ml.dataset.manifest import Entry, relative_path, write_rows
from ml.errors import InvalidManifest
from ml.labels import Label

_FOLDS = 20
_VALIDATION_FOLDS = 3
_TOO_FEW_FOLDS = "Cross-validation wants at least two folds."
_CALIBRATION_FOLDS = 2
# Of what a cross-validation's fold leaves, the part that doubt is fitted on: one in eight.
_CALIBRATION_PARTS = 8
# Shares of the groups that a split by their hash measures, and fits doubt on.
_VALIDATION_SHARE = 0.15
_CALIBRATION_SHARE = 0.1


@dataclass(frozen=True)
class Split:
    """Three parts that share no group.

    ``training`` fits the weights, ``calibration`` fits temperature and thresholds of doubt, and
    ``validation`` is only ever measured on. Without one the model learns from all but
    ``calibration``, and is measured there.
    """

    training: list[Entry]
    calibration: list[Entry]
    validation: list[Entry]

    @property
    def measured(self) -> tuple[str, list[Entry]]:
        """Name and slices of the part that a model is measured on; no weight learnt from it."""
        return (
            ("validation", self.validation)
            if self.validation
            else ("calibration", self.calibration)
        )


def split_by_group(entries: list[Entry], *, seed: int, with_validation: bool = False) -> Split:
    """Split into 75 % training, 10 % calibration and 15 % validation, stratified by class.

    The percentages hold for images only roughly, because groups are kept whole.

    Args:
        with_validation: the validation part belongs to the training part, for a model that serves
            after it was told how good its recipe is. The calibration part stays the same.
    """
    fold_of = _dealt(entries, _FOLDS, seed)
    validation = fold_of < _VALIDATION_FOLDS
    calibration = ~validation & (fold_of < _VALIDATION_FOLDS + _CALIBRATION_FOLDS)
    if with_validation:
        validation = np.zeros_like(validation)
    return Split(
        training=_chosen(entries, ~validation & ~calibration),
        calibration=_chosen(entries, calibration),
        validation=_chosen(entries, validation),
    )


def split_by_hash(entries: list[Entry], *, seed: int) -> Split:
    """75 % training, 10 % calibration and 15 % validation by a hash of each group's name.

    A group's part depends on no other group, so that new patients change nobody's part. The
    percentages hold for groups only roughly.

    Raises:
        InvalidManifest: a part holds no slice of a class.
    """
    shares = [_share_of(f"part:{seed}:{entry.group}") for entry in entries]
    validation = np.array(shares) < _VALIDATION_SHARE
    calibration = ~validation & (np.array(shares) < _VALIDATION_SHARE + _CALIBRATION_SHARE)
    split = Split(
        training=_chosen(entries, ~validation & ~calibration),
        calibration=_chosen(entries, calibration),
        validation=_chosen(entries, validation),
    )
    for name in ("training", "calibration", "validation"):
        _want_every_class(entries, getattr(split, name), f"The {name} part")
    return split


def folds_by_hash(entries: list[Entry], *, folds: int, seed: int) -> list[Split]:
    """Cross-validation as :func:`folds_by_group`, without calibration parts, by a hash of groups.

    Raises:
        InvalidManifest: ``folds`` is below 2, or a fold measures no slice of a class.
    """
    if folds < 2:
        raise InvalidManifest(_TOO_FEW_FOLDS)
    numbers = [int(folds * _share_of(f"fold:{seed}:{entry.group}")) for entry in entries]
    fold_of = np.array(numbers, np.int64)
    splits = [
        Split(_chosen(entries, fold_of != number), [], _chosen(entries, fold_of == number))
        for number in range(folds)
    ]
    for number, split in enumerate(splits, 1):
        _want_every_class(entries, split.validation, f"What fold {number} measures")
        _want_every_class(entries, split.training, f"What fold {number} learns from")
    return splits


def folds_by_group(
    entries: list[Entry], *, folds: int, seed: int, calibrated_apart: bool = True
) -> list[Split]:
    """Cross-validation: each entry is in the validation part of exactly one of ``folds`` splits.

    Stratified by class as far as whole groups allow. An eighth of what a fold leaves, again by
    group, is its calibration part. The order of ``entries`` is kept within each part.

    Args:
        calibrated_apart: without it the calibration parts are empty and all that a fold leaves is
            trained on. The validation parts stay the same.

    Raises:
        InvalidManifest: ``folds`` is below 2, or a class has fewer groups than there are folds
            or too few left to calibrate on.
    """
    if folds < 2:
        raise InvalidManifest(_TOO_FEW_FOLDS)
    _want_groups(entries, folds, f"for {folds} folds")
    fold_of = _dealt(entries, folds, seed)
    parts = [
        (_chosen(entries, fold_of != number), _chosen(entries, fold_of == number))
        for number in range(folds)
    ]
    if not calibrated_apart:
        return [Split(rest, [], validation) for rest, validation in parts]
    return [_with_calibration(rest, validation, seed) for rest, validation in parts]


def write_folds(path: Path, folds: Sequence[Split]) -> None:
    """Write a CSV file with a line for each entry.

    ``fold`` is the number, from 0, of the fold that measures it, ``calibrates`` those (with
    blanks between) whose doubt is fitted on it.
    """
    calibrates: dict[Entry, list[str]] = defaultdict(list)
    for number, split in enumerate(folds):
        for entry in split.calibration:
            calibrates[entry].append(str(number))
    write_rows(
        path,
        ("path", "label", "group", "fold", "calibrates"),
        (
            {
                "path": relative_path(entry.path, path.parent),
                "label": entry.label.value,
                "group": entry.group,
                "fold": number,
                "calibrates": " ".join(calibrates[entry]),
            }
            for number, split in enumerate(folds)
            for entry in split.validation
        ),
    )


def folds_against_source(folds: list[Split]) -> list[Split]:
    """The same folds where the source of a slice tells nothing of its class, or the wrong one.

    Sources that hold both slices with a tumour and slices without are *mixed*. Their tumours are
    taken out of the training and calibration parts, where the source then tells the class; only
    they are measured. What has learnt sources instead of tumours calls all of them tumour-free.

    Returns:
        Nothing where no source is mixed.
    """
    everything = [entry for split in folds for entry in split.validation]
    with_tumor = {entry.source for entry in everything if entry.label is not Label.NO_TUMOR}
    mixed = with_tumor & {entry.source for entry in everything if entry.label is Label.NO_TUMOR}
    if not mixed:
        return []

    def coincide(entry: Entry) -> bool:
        return entry.source not in mixed or entry.label is Label.NO_TUMOR

    return [
        Split(
            training=list(filter(coincide, split.training)),
            calibration=list(filter(coincide, split.calibration)),
            validation=[entry for entry in split.validation if entry.source in mixed],
        )
        for split in folds
    ]


def without_mirrored_twins(entries: list[Entry]) -> list[Entry]:
    """Keep one file of each original; the training's own flips make the mirror images."""
    kept: dict[str, Entry] = {}
    for entry in entries:
        key = entry.original or str(entry.path)
        if key not in kept or kept[key].mirrored:
            kept[key] = entry
    return list(kept.values())


def _with_calibration(rest: list[Entry], validation: list[Entry], seed: int) -> Split:
    fewest = _want_groups(rest, 2, "to train and to calibrate on")
    part_of = _dealt(rest, min(_CALIBRATION_PARTS, fewest), seed)
    return Split(
        training=_chosen(rest, part_of != 0),
        calibration=_chosen(rest, part_of == 0),
        validation=validation,
    )


def _want_groups(entries: list[Entry], fewest: int, purpose: str) -> int:
    """Groups of the class that has fewest of them; at least ``fewest``."""
    groups: dict[Label, set[str]] = defaultdict(set)
    for entry in entries:
        groups[entry.label].add(entry.group)
    if not groups:
        raise InvalidManifest(f"There are no images {purpose}.")
    label = min(groups, key=lambda one: len(groups[one]))
    if len(groups[label]) < fewest:
        raise InvalidManifest(f"{label.value} has {len(groups[label])} groups, too few {purpose}.")
    return len(groups[label])


def _want_every_class(entries: list[Entry], part: list[Entry], what: str) -> None:
    held = {entry.label for entry in part}
    for label in sorted({entry.label for entry in entries} - held):
        raise InvalidManifest(
            f"{what} holds no slice of {label.value}: there are too few groups. Another seed may "
            "deal them better."
        )


def _share_of(words: str) -> float:
    """In 0..1 without 1, even over all words: 48 bits of their SHA-256."""
    return int(hashlib.sha256(words.encode()).hexdigest()[:12], 16) / 2**48


def _dealt(entries: list[Entry], parts: int, seed: int) -> npt.NDArray[np.int64]:
    """(N,) the number, from 0, of the part that each entry's group went to."""
    labels = np.array([entry.label.value for entry in entries])
    groups = np.array([entry.group for entry in entries])
    # Imported here: the web image freezes snapshots, deals no parts, and has no scikit-learn.
    from sklearn.model_selection import StratifiedGroupKFold

    dealer = StratifiedGroupKFold(n_splits=parts, shuffle=True, random_state=seed)
    part_of = np.empty(len(entries), np.int64)
    for number, (_, members) in enumerate(dealer.split(labels, labels, groups)):
        part_of[members] = number
    return part_of


def _chosen(entries: list[Entry], mask: npt.NDArray[np.bool_]) -> list[Entry]:
    return [entry for entry, chosen in zip(entries, mask, strict=True) if chosen]
