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
# One in so many parts of a fold's remaining data is used for calibration.
_CALIBRATION_PARTS = 8
# Shares of the groups for validation and for calibration in a split by hash.
_VALIDATION_SHARE = 0.15
_CALIBRATION_SHARE = 0.1


@dataclass(frozen=True)
class Split:
    """Three parts that share no group.

    ``training`` fits the weights, ``calibration`` fits temperature and uncertainty thresholds, and
    ``validation`` is only used for measurement. Without a validation part the model is trained on
    all but ``calibration`` and measured there.
    """

    training: list[Entry]
    calibration: list[Entry]
    validation: list[Entry]

    @property
    def measured(self) -> tuple[str, list[Entry]]:
        """Name and slices of the part that a model is measured on, which is not trained on."""
        return (
            ("validation", self.validation)
            if self.validation
            else ("calibration", self.calibration)
        )


def split_by_group(entries: list[Entry], *, seed: int, with_validation: bool = False) -> Split:
    """Split into 75 % training, 10 % calibration and 15 % validation, stratified by class.

    The percentages are approximate for images, because groups are kept whole.

    Args:
        with_validation: add the validation part to the training part, for a serving model whose
            recipe has been validated before. The calibration part stays the same.
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

    A group's part is independent of other groups, so new patients do not change it. The
    percentages are approximate for groups.

    Raises:
        InvalidManifest: a part has no slice of a class.
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
    """As :func:`folds_by_group` without calibration parts, with folds by a hash of the groups.

    Raises:
        InvalidManifest: ``folds`` is below 2, or a fold's validation part lacks a class.
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

    Stratified by class as far as whole groups allow. An eighth of the remaining data of a fold,
    again by group, is its calibration part. Each part keeps the order of ``entries``.

    Args:
        calibrated_apart: if False, the calibration parts are empty and all remaining data are for
            training. The validation parts stay the same.

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
    """Write a CSV file with one line per entry.

    ``fold`` is the number, from 0, of the fold that validates on it; ``calibrates`` lists the
    folds, separated by blanks, that calibrate on it.
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
    """The same folds, changed so that a slice's source predicts no class or the wrong one.

    Sources with both tumour and tumour-free slices are *mixed*. Their tumours are removed from the
    training and calibration parts, where the source then predicts the class; only these tumours
    are measured. A model that has learnt sources instead of tumours calls all of them tumour-free.

    Returns:
        Empty if no source is mixed.
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
    """Keep one file of each original; augmentation creates the mirror images."""
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
    """The number of groups of the class with the fewest; refuse fewer than ``fewest``."""
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
    """A uniform hash in [0, 1): 48 bits of the SHA-256."""
    return int(hashlib.sha256(words.encode()).hexdigest()[:12], 16) / 2**48


def _dealt(entries: list[Entry], parts: int, seed: int) -> npt.NDArray[np.int64]:
    """(N,) the number, from 0, of the part that each entry's group was assigned to."""
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
