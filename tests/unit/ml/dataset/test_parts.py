"""A list fixes a held-out part, and a hash tells whether its images or labels changed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ml.__main__ import main
from ml.dataset import (
    Entry,
    Split,
    read_exclusions,
    read_manifest,
    split_as_kept,
    split_as_listed,
    split_by_group,
)
from ml.dataset.parts import groups_hash, images_hash, listed
from ml.errors import InvalidManifest
from ml.labels import Label
from ml.registry import SERVING, load_model
from tests.heads import slices, write_manifest


def kept(split: Split) -> dict[str, Any]:
    """What a card says about the parts."""
    return {
        "seed": 1,
        "calibration": listed(split.calibration),
        "validation": listed(split.validation),
    }


def made(folder: Path) -> tuple[list[Entry], dict[str, Any]]:
    entries = slices(folder, 80)
    return entries, {"name": "narrow", "split": kept(split_by_group(entries, seed=1))}


def test_new_patients_change_no_listed_part_and_are_learnt_from(tmp_path: Path) -> None:
    entries, card = made(tmp_path)
    before = split_as_kept(entries, card)
    new = [replace(entries[n], group=f"new-{n}") for n in range(40)]
    after = split_as_kept([*new, *entries], card)
    assert after.calibration == before.calibration
    assert after.validation == before.validation
    assert after.training == [*new, *before.training]
    assert before == split_by_group(entries, seed=1)


def test_other_labels_images_and_missing_groups_are_refused(tmp_path: Path) -> None:
    entries, card = made(tmp_path)
    part = split_by_group(entries, seed=1).validation
    label = Label.GLIOMA if part[0].label is not Label.GLIOMA else Label.NO_TUMOR
    relabelled = [replace(one, label=label) if one == part[0] else one for one in entries]
    with pytest.raises(InvalidManifest, match="other labels"):
        split_as_kept(relabelled, card)
    content = part[0].path.read_bytes()
    part[0].path.write_bytes(part[1].path.read_bytes())
    with pytest.raises(InvalidManifest, match="validation part of narrow holds other images"):
        split_as_kept(entries, card)
    part[0].path.write_bytes(content)
    assert split_as_kept(entries, card)
    with pytest.raises(InvalidManifest, match="lacks 1 of the groups"):
        split_as_kept([one for one in entries if one != part[0]], card)


def test_a_list_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    entries, card = made(tmp_path)
    card["split"]["validation"]["group_names"].pop()
    with pytest.raises(InvalidManifest, match="do not fit their hash"):
        split_as_listed(entries, card["split"])


def test_hashes_depend_on_neither_order_nor_file_names(tmp_path: Path) -> None:
    entries = slices(tmp_path, 8)
    copy = tmp_path / "copy.png"
    copy.write_bytes(entries[0].path.read_bytes())
    assert groups_hash(["b", "a"]) == groups_hash(["a", "b", "a"])
    assert images_hash(entries) == images_hash([*entries[:0:-1], replace(entries[0], path=copy)])


def test_cards_without_lists_are_dealt_by_their_seed_and_counted(tmp_path: Path) -> None:
    entries = slices(tmp_path, 80)
    split = split_by_group(entries, seed=1)
    counts = {
        name: {"slices": len(part), "groups": len(part)}
        for name, part in (("calibration", split.calibration), ("validation", split.validation))
    }
    card = {"name": "old", "split": {"seed": 1, **counts}}
    assert split_as_kept(entries, card) == split
    with pytest.raises(InvalidManifest, match="of old holds other images"):
        split_as_kept([*entries, *[replace(one, group="n" + one.group) for one in entries]], card)


@pytest.mark.usefixtures("narrow_networks")
def test_model_is_trained_on_and_measured_with_the_same_list_after_new_patients_came(
    tmp_path: Path,
) -> None:
    data = slices(tmp_path, 160)
    few = ["--manifest", str(write_manifest(tmp_path, data[:120]))]
    narrow = ["--architecture", "narrow", "--frozen", "0", "--stages", "32:1"]
    small = [*narrow, "--input-size", "32", "--start"]
    assert main(["train", *few, *small, "scratch", "--out", str(tmp_path / "a")]) == 0
    first = tmp_path / "a" / "narrow.json"
    more = ["--manifest", str(write_manifest(tmp_path, data))]
    assert main(["train", *more, *small, str(first), "--out", str(tmp_path / "b")]) == 0
    given = ["scratch", "--split", str(first), "--out", str(tmp_path / "c")]
    assert main(["train", *more, *small, *given]) == 0
    before = load_model(first).card["split"]
    for name in ("b", "c"):
        after = load_model(tmp_path / name / "narrow.json").card["split"]
        assert after["validation"] == before["validation"]
        assert after["calibration"] == before["calibration"]
        assert after["training"]["slices"] == before["training"]["slices"] + 40
    assert main(["measure", "--model", str(first), *more]) == 0


@pytest.mark.data
def test_parts_of_the_model_that_serves_are_as_its_card_counts_them(data_root: Path) -> None:
    card = load_model(SERVING).card
    read = read_manifest(data_root / "brain-mri" / "manifest.csv", excluded=read_exclusions())
    split = split_as_kept(read, card)
    assert len(split.training) == card["split"]["training"]["slices"]
    assert split == split_by_group(read, seed=card["split"]["seed"])
