"""Cross-validation measures every slice once and never on a patient that it learnt from."""

from collections import Counter
from pathlib import Path

import pytest

from ml.dataset import Entry, Split, folds_by_group, folds_by_hash, read_manifest, split_by_hash
from ml.errors import InvalidManifest
from ml.labels import LABELS


def entries(groups: int = 80, slices: int = 3) -> list[Entry]:
    return [
        Entry(Path(f"{group}-{number}.png"), LABELS[group % 4], f"patient-{group}")
        for group in range(groups)
        for number in range(slices)
    ]


def parts(split: Split) -> tuple[list[Entry], list[Entry], list[Entry]]:
    return split.training, split.calibration, split.validation


def assert_honest(splits: list[Split], everything: list[Entry]) -> None:
    """Every entry is measured once, is in one part of each fold, and no group is in two."""
    measured = Counter(entry for split in splits for entry in split.validation)
    assert measured == Counter(everything)
    for split in splits:
        assert sum(map(len, parts(split))) == len(everything)
        of_part = [{entry.group for entry in part} for part in parts(split)]
        assert len(set.union(*of_part)) == sum(map(len, of_part))


def test_every_entry_is_measured_once_and_groups_stay_whole() -> None:
    assert_honest(folds_by_group(entries(), folds=5, seed=1), entries())


def test_every_part_of_every_fold_holds_every_class() -> None:
    for split in folds_by_group(entries(), folds=5, seed=1):
        for part in parts(split):
            assert {entry.label for entry in part} == set(LABELS)


def test_folds_without_calibration_parts_measure_the_same_and_train_on_all_the_rest() -> None:
    apart = folds_by_group(entries(), folds=5, seed=1)
    whole = folds_by_group(entries(), folds=5, seed=1, calibrated_apart=False)
    for one, other in zip(apart, whole, strict=True):
        assert other.validation == one.validation
        assert other.calibration == []
        assert set(other.training) == {*one.training, *one.calibration}


def test_folds_are_repeatable_and_depend_on_the_seed() -> None:
    assert folds_by_group(entries(), folds=5, seed=1) == folds_by_group(entries(), folds=5, seed=1)
    assert folds_by_group(entries(), folds=5, seed=1) != folds_by_group(entries(), folds=5, seed=2)


def test_new_groups_change_no_other_groups_part_where_parts_go_by_hash() -> None:
    few, many = entries(160), entries(240)
    for one, other in zip(
        [split_by_hash(few, seed=1), *folds_by_hash(few, folds=3, seed=1)],
        [split_by_hash(many, seed=1), *folds_by_hash(many, folds=3, seed=1)],
        strict=True,
    ):
        for before, after in zip(parts(one), parts(other), strict=True):
            assert [entry for entry in after if entry in set(few)] == before
            assert {entry.label for entry in after} == {entry.label for entry in before}


def test_parts_by_hash_are_honest_and_roughly_of_their_size() -> None:
    assert_honest(folds_by_hash(entries(), folds=4, seed=1), entries())
    many = entries(800, 1)
    split = split_by_hash(many, seed=1)
    assert sum(map(len, parts(split))) == len(many)
    assert 90 < len(split.validation) < 150
    assert 55 < len(split.calibration) < 105
    assert split_by_hash(many, seed=2) != split


def test_a_part_by_hash_without_a_class_is_refused_by_name() -> None:
    with pytest.raises(InvalidManifest, match="part holds no slice of"):
        split_by_hash(entries(8), seed=1)
    with pytest.raises(InvalidManifest, match="fold 1 measures holds no slice"):
        folds_by_hash(entries(4), folds=3, seed=1)


@pytest.mark.parametrize(
    ("groups", "folds", "told"),
    [(80, 1, "at least two folds"), (16, 5, "4 groups"), (12, 2, "calibrate"), (0, 5, "no images")],
)
def test_too_few_groups_are_refused(groups: int, folds: int, told: str) -> None:
    with pytest.raises(InvalidManifest, match=told):
        folds_by_group(entries(groups), folds=folds, seed=1)


@pytest.mark.data
def test_folds_of_the_real_data_are_honest_and_even(data_root: Path) -> None:
    read = read_manifest(data_root / "brain-mri" / "manifest.csv")
    splits = folds_by_group(read, folds=5, seed=20261123)
    assert_honest(splits, read)
    for split in splits:
        counts = Counter(entry.label for entry in split.validation)
        assert min(counts.values()) > 200
        assert 0.17 < len(split.validation) / len(read) < 0.23
        assert 0.08 < len(split.calibration) / len(read) < 0.12
