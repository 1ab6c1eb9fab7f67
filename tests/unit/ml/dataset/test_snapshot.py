"""A snapshot is written in one piece, and read only if it is still what was written."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from ml.dataset import Entry
from ml.dataset.out_of_scope import OutOfScopeSlice
from ml.dataset.snapshot import (
    CONTRADICTING,
    REPEATED,
    Snapshot,
    fold_of,
    part_of,
    read_snapshot,
    write_snapshot,
)
from ml.errors import InvalidManifest
from ml.imaging.pictures import encode_png
from ml.labels import Label
from tests.snapshots import PLAN, agreed, group_names

REGION = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.5))


def picture(seed: int, *, mirrored: bool = False) -> bytes:
    """A made slice that resembles no other."""
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 8))
    pixels = np.kron(coarse, np.ones((8, 8))).astype(np.uint8)
    return encode_png(np.ascontiguousarray(pixels[:, ::-1]) if mirrored else pixels)


def written(folder: Path) -> Snapshot:
    training, held_out = next(group_names("training")), next(group_names("holdout"))
    slices = [
        agreed(picture(1), Label.GLIOMA, training, region=REGION, spacing=(0.5, 0.75)),
        agreed(picture(2), Label.NO_TUMOR, training, pixel_aspect=1.5),
        agreed(picture(3), Label.PITUITARY, held_out),
    ]
    return write_snapshot(folder, slices, plan=PLAN, left_out={"disputed": 4})


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    snapshot = written(tmp_path / "snapshot")
    assert snapshot == read_snapshot(tmp_path / "snapshot")
    assert snapshot.plan_version == 1
    by_label = {entry.label: entry for entry in snapshot.training}
    assert by_label[Label.GLIOMA].outline == REGION
    assert by_label[Label.GLIOMA].box == (0.25, 0.25, 0.5, 0.25)
    assert by_label[Label.GLIOMA].spacing == (0.5, 0.75)
    assert by_label[Label.NO_TUMOR].spacing == (1.5, 1.0)
    (held_out,) = snapshot.holdout
    assert held_out.label is Label.PITUITARY
    assert snapshot.provenance[str(held_out.sha256)].readers == ("r1", "r2")
    assert snapshot.facts["left_out"] == {"disputed": 4}
    assert snapshot.facts["counts"] == {
        "slices": 3,
        "groups": 2,
        "labels": {"glioma": 1, "meningioma": 0, "no_tumor": 1, "pituitary": 1},
        "holdout_slices": 1,
        "holdout_groups": 1,
        "out_of_scope": 0,
    }


def test_part_of_a_patient_follows_from_the_name_and_never_changes() -> None:
    # printf fold:patient-0 | sha256sum
    assert fold_of("patient-0") == int("aab40b4c", 16) % 10
    parts = [part_of(f"patient-{n}") for n in range(2000)]
    assert 0.17 < parts.count("holdout") / len(parts) < 0.23
    name = next(group_names("training"))
    assert part_of(name, locked={name}) == "holdout"


def test_locked_patient_is_held_out_and_stays_so_when_it_is_read(tmp_path: Path) -> None:
    locked, other = islice(group_names("training"), 2)
    slices = [
        agreed(picture(1), Label.GLIOMA, locked),
        agreed(picture(2), Label.GLIOMA, other),
    ]
    snapshot = write_snapshot(tmp_path / "s", slices, plan=PLAN, locked={locked})
    assert [entry.group for entry in snapshot.holdout] == [locked]
    assert [entry.group for entry in snapshot.training] == [other]


def test_image_twice_is_kept_once_and_one_with_two_labels_or_patients_not_at_all(
    tmp_path: Path,
) -> None:
    group, other = islice(group_names("training"), 2)
    slices = [
        agreed(picture(1), Label.GLIOMA, group),
        agreed(picture(1), Label.GLIOMA, group),
        agreed(picture(2), Label.GLIOMA, group),
        agreed(picture(2), Label.MENINGIOMA, group),
        agreed(picture(2), Label.MENINGIOMA, group),
        agreed(picture(3), Label.GLIOMA, group),
        agreed(picture(3), Label.GLIOMA, other),
    ]
    snapshot = write_snapshot(tmp_path / "s", slices, plan=PLAN)
    assert snapshot.facts["left_out"] == {REPEATED: 1, CONTRADICTING: 5}
    assert len(snapshot.training) == 1


def test_patients_with_copies_of_what_is_held_out_are_left_out_and_listed(tmp_path: Path) -> None:
    first, second, third = islice(group_names("training"), 3)
    (tmp_path / "reference.png").write_bytes(picture(9))
    reference = Entry(tmp_path / "reference.png", Label.GLIOMA, "public")
    slices = [
        agreed(picture(1), Label.GLIOMA, next(group_names("holdout"))),
        agreed(picture(1, mirrored=True), Label.GLIOMA, first),
        agreed(picture(2), Label.GLIOMA, first),
        agreed(picture(9), Label.GLIOMA, second),
        agreed(picture(3), Label.NO_TUMOR, third),
    ]
    snapshot = write_snapshot(tmp_path / "s", slices, plan=PLAN, held_out=[reference])
    assert [entry.group for entry in snapshot.training] == [third]
    assert snapshot.facts["left_out"] == {
        "group with copies (mirrored)": 2,
        "group with copies (exact)": 1,
    }
    assert sorted(snapshot.facts["copies"].values()) == [
        "group with copies (exact)",
        "group with copies (mirrored)",
        "group with copies (mirrored)",
    ]


def test_folder_is_there_in_one_piece_or_not_at_all(tmp_path: Path) -> None:
    def breaks() -> object:
        yield agreed(picture(1), Label.GLIOMA, "p")
        raise RuntimeError("the database went away")

    with pytest.raises(RuntimeError, match="went away"):
        write_snapshot(tmp_path / "s", breaks(), plan=PLAN)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidManifest, match="No slice is left"):
        write_snapshot(tmp_path / "s", [], plan=PLAN)
    written(tmp_path / "s")
    with pytest.raises(InvalidManifest, match="already"):
        written(tmp_path / "s")


def relabel(folder: Path) -> None:
    path = folder / "manifest.csv"
    path.write_text(path.read_text().replace("glioma", "pituitary"))


def remove_image(folder: Path) -> None:
    next((folder / "images").iterdir()).unlink()


def change_image(folder: Path) -> None:
    next((folder / "images").iterdir()).write_bytes(picture(70))


def add_image(folder: Path) -> None:
    (folder / "images" / "zzz.png").write_bytes(picture(71))


def remove_card(folder: Path) -> None:
    (folder / "snapshot.json").unlink()


def change_card(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "snapshot.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (relabel, "manifest.csv is not what was written"),
        (remove_image, "cannot be read"),
        (change_image, "is not what was written: its hash differs"),
        (add_image, "zzz.png, which is not listed"),
        (remove_card, "cannot be read as a snapshot"),
        (change_card(format=3), "has the format 3"),
        (change_card(format=2), "out_of_scope_sha256"),
        (change_card(images_sha256="0" * 64), "images_sha256"),
        (change_card(counts={}), "counts other slices"),
        (change_card(plan={}), "cannot be read as a snapshot"),
    ],
)
def test_tampered_folder_is_refused_by_what_differs(
    tmp_path: Path, tamper: Callable[[Path], None], words: str
) -> None:
    written(tmp_path / "s")
    tamper(tmp_path / "s")
    with pytest.raises(InvalidManifest, match=words):
        read_snapshot(tmp_path / "s")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (",training,", ",holdout,", "lies in both parts"),
        (",holdout,", ",training,", "held out by its fold"),
        ("images/", "../images/", "is not named by its hash"),
        (",quorum,", ",guess,", "the rule 'guess'"),
        ("glioma", "cyst", "'cyst' is not a valid Label"),
    ],
)
def test_manifest_that_was_made_otherwise_is_refused_though_its_hash_fits(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    from ml.dataset import content_hash

    written(tmp_path / "s")
    path = tmp_path / "s" / "manifest.csv"
    path.write_text(path.read_text().replace(old, new, 1), newline="\n")
    change_card(manifest_sha256=content_hash(path))(tmp_path / "s")
    with pytest.raises(InvalidManifest, match=words):
        read_snapshot(tmp_path / "s")


def test_manifest_from_before_it_was_asked_whether_the_model_was_shown_is_read(
    tmp_path: Path,
) -> None:
    from ml.dataset import content_hash

    written(tmp_path / "s")
    path = tmp_path / "s" / "manifest.csv"
    lines = [line.rpartition(",")[0] for line in path.read_text().splitlines()]
    assert not lines[0].endswith("model_shown")
    path.write_text("\n".join([*lines, ""]), newline="\n")
    change_card(manifest_sha256=content_hash(path))(tmp_path / "s")
    assert all(one.model_shown for one in read_snapshot(tmp_path / "s").provenance.values())


def other(seed: int, group: str, finding: str = "stroke") -> OutOfScopeSlice:
    one = agreed(picture(seed), Label.GLIOMA, group)
    return OutOfScopeSlice(one.content, group, finding, one.provenance, spacing=(0.5, 0.75))


def with_others(folder: Path, *others: OutOfScopeSlice) -> Snapshot:
    slices = [agreed(picture(seed), Label.GLIOMA, next(group_names("training"))) for seed in (1, 2)]
    return write_snapshot(folder, slices, plan=PLAN, out_of_scope=others)


def test_slices_of_none_of_the_classes_are_a_list_of_their_own(tmp_path: Path) -> None:
    group, held_out = next(group_names("training")), next(group_names("holdout"))
    snapshot = with_others(tmp_path / "s", other(3, group), other(4, held_out, ""))
    assert snapshot == read_snapshot(tmp_path / "s")
    assert snapshot.facts["format"] == 2
    assert (len(snapshot.training), snapshot.holdout) == (2, [])
    counts = snapshot.facts["counts"]
    assert [counts[name] for name in ("slices", "groups", "out_of_scope")] == [2, 1, 2]
    found = {one.group: one for one in snapshot.out_of_scope}
    assert {name: one.finding for name, one in found.items()} == {group: "stroke", held_out: ""}
    assert found[group].provenance.readers == ("r1", "r2")
    assert found[group].pixels().shape == (64, 96)
    assert not {one.sha256 for one in snapshot.out_of_scope} & snapshot.provenance.keys()


def test_image_with_a_label_and_without_is_on_neither_list(tmp_path: Path) -> None:
    group = next(group_names("training"))
    snapshot = with_others(tmp_path / "s", other(2, group), other(3, group), other(3, group, ""))
    assert snapshot.facts["left_out"] == {REPEATED: 1, CONTRADICTING: 2}
    assert [len(snapshot.training), len(snapshot.out_of_scope)] == [1, 1]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("stroke", "Mr Smith", "the finding is no key"),
        ("images/", "../images/", "is not named by its hash"),
        (",quorum,", ",guess,", "the rule 'guess'"),
        ("", "x", "out_of_scope.csv is not what was written"),
    ],
)
def test_second_list_that_was_made_otherwise_is_refused(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    from ml.dataset import content_hash

    with_others(tmp_path / "s", other(3, next(group_names("training"))))
    path = tmp_path / "s" / "out_of_scope.csv"
    path.write_text(path.read_text().replace(old, new, 1), newline="\n")
    if old:
        change_card(out_of_scope_sha256=content_hash(path))(tmp_path / "s")
    with pytest.raises(InvalidManifest, match=words):
        read_snapshot(tmp_path / "s")


def test_snapshots_are_written_without_torch(tmp_path: Path) -> None:
    code = "import sys, ml.dataset.snapshot; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_region_of_a_slice_without_tumour_is_no_box(tmp_path: Path) -> None:
    group = next(group_names("training"))
    one = replace(agreed(picture(1), Label.NO_TUMOR, group), region=REGION)
    snapshot = write_snapshot(tmp_path / "s", [one], plan=PLAN)
    assert snapshot.training[0].box is None
