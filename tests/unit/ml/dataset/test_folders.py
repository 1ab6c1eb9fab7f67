"""Data sets are built from folders and manifests without leaks, contradictions or silence."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from config import REPOSITORY
from ml.dataset import Entry, read_corrections, read_exclusions, read_manifest, write_manifest
from ml.dataset.corrections import Correction, correct, write_left_out
from ml.dataset.curation import curate
from ml.dataset.folders import folder_label, from_folders
from ml.errors import InvalidManifest
from ml.imaging import read_path
from ml.imaging.pictures import encode_png
from ml.labels import Label

SAMPLES = REPOSITORY / "ml" / "samples"


def put(source: str, target: Path, *, mirrored: bool = False) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    pixels = read_path(SAMPLES / source)[0].pixels
    target.write_bytes(encode_png(np.ascontiguousarray(pixels[:, ::-1]) if mirrored else pixels))
    return target


def entry(path: Path, label: Label = Label.GLIOMA, group: str = "", **more: str) -> Entry:
    return Entry(path, label, group or path.stem, **more)


@pytest.fixture
def public_layout(tmp_path: Path) -> Path:
    """Training and Testing, with a copy, a mirror image and names in several spellings."""
    root = tmp_path / "public"
    put("glioma-1.jpg", root / "Training" / "glioma_tumor" / "a.png")
    put("glioma-1.jpg", root / "Testing" / "glioma" / "b.png")
    put("no_tumor-1.jpg", root / "Training" / "notumor" / "c.png")
    put("no_tumor-1.jpg", root / "Testing" / "no_tumor" / "d.png", mirrored=True)
    put("pituitary-1.jpg", root / "Testing" / "Pituitary Tumour" / "patient 7" / "e.png")
    put("meningioma-1.jpg", root / "Training" / "meningioma" / "f.PNG")
    put("meningioma-2.jpg", root / "figures" / "logo.png")
    (root / "Training" / "meningioma" / "broken.jpg").write_bytes(b"no image")
    return root


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("notumor", Label.NO_TUMOR),
        ("no_tumor", Label.NO_TUMOR),
        ("No Tumour", Label.NO_TUMOR),
        ("healthy", Label.NO_TUMOR),
        ("glioma_tumor", Label.GLIOMA),
        ("Glioma", Label.GLIOMA),
        ("meningioma-tumour", Label.MENINGIOMA),
        ("pituitary", Label.PITUITARY),
        ("Training", None),
        ("tumor", None),
    ],
)
def test_common_spellings_of_a_class_are_known(name: str, label: Label | None) -> None:
    assert folder_label(name) is label


def test_copies_and_mirror_images_share_a_group_and_the_rest_stand_alone(
    public_layout: Path,
) -> None:
    found = {one.path.stem: one for one in from_folders(public_layout, []).curated.entries}
    assert set(found) == set("abcdef")
    assert found["a"].group == found["b"].group
    assert found["c"].group == found["d"].group
    assert found["a"].group.startswith("dup-")
    assert len({one.group for one in found.values()}) == 4
    assert found["e"].label is Label.PITUITARY
    assert all(one.sha256 for one in found.values())


def test_what_folders_hold_beside_classes_is_told(public_layout: Path) -> None:
    found = from_folders(public_layout, [])
    assert found.unknown == {"figures": 1}
    assert [one.entry.path.name for one in found.curated.unreadable] == ["broken.jpg"]


def test_folders_without_classes_are_refused(tmp_path: Path) -> None:
    put("glioma-1.jpg", tmp_path / "pictures" / "a.png")
    with pytest.raises(InvalidManifest, match="named by class"):
        from_folders(tmp_path, [])


def test_groups_are_named_alike_wherever_the_same_files_lie(
    public_layout: Path, tmp_path: Path
) -> None:
    shutil.copytree(public_layout, tmp_path / "moved")
    groups = [
        sorted(one.group for one in from_folders(root, []).curated.entries)
        for root in (public_layout, tmp_path / "moved")
    ]
    assert groups[0] == groups[1]


def test_contradicting_copies_are_left_out_and_told(tmp_path: Path) -> None:
    one = entry(put("glioma-1.jpg", tmp_path / "one.png"), Label.GLIOMA)
    other = entry(put("glioma-1.jpg", tmp_path / "other.png", mirrored=True), Label.PITUITARY)
    third = entry(put("no_tumor-1.jpg", tmp_path / "third.png"), Label.NO_TUMOR)
    curated = curate([one, other, third], [])
    assert [kept.path for kept in curated.entries] == [third.path]
    assert {change.entry.path for change in curated.left_out} == {one.path, other.path}
    assert "mirrored copy other is labelled pituitary" in curated.contradicting[0].reason


def test_a_correction_settles_a_contradiction(tmp_path: Path) -> None:
    one = entry(put("glioma-1.jpg", tmp_path / "one.png"), Label.GLIOMA)
    other = entry(put("glioma-1.jpg", tmp_path / "other.png"), Label.PITUITARY)
    curated = curate([one, other], [Correction("other", None, Label.GLIOMA, "read again")])
    assert {kept.label for kept in curated.entries} == {Label.GLIOMA}
    assert [change.entry.label for change in curated.corrected] == [Label.PITUITARY]
    assert not curated.contradicting


def test_groups_that_share_copies_become_one(tmp_path: Path) -> None:
    mine = entry(put("glioma-1.jpg", tmp_path / "one.png"), group="hospital-a")
    theirs = entry(put("glioma-1.jpg", tmp_path / "two.png"), group="hospital-b")
    alone = entry(put("glioma-2.jpg", tmp_path / "three.png"), group="hospital-c")
    curated = curate([mine, theirs, alone], [])
    assert [one.group for one in curated.entries] == ["hospital-a", "hospital-a", "hospital-c"]
    assert curated.joined == {"hospital-a": ["hospital-a", "hospital-b"]}


def test_neighbours_in_a_volume_may_differ_however_alike(tmp_path: Path) -> None:
    path, copy = put("glioma-1.jpg", tmp_path / "1.png"), put("glioma-1.jpg", tmp_path / "2.png")
    tumor = entry(path, Label.GLIOMA, "p", original="v-1", source="v")
    free = entry(copy, Label.NO_TUMOR, "p", original="v-2", source="v")
    assert len(curate([tumor, free], []).entries) == 2


def test_copies_by_record_contradict_each_other_though_they_look_different(tmp_path: Path) -> None:
    one = entry(put("glioma-1.jpg", tmp_path / "1.png"), Label.GLIOMA, original="7", source="s")
    two = entry(put("glioma-2.jpg", tmp_path / "2.png"), Label.PITUITARY, original="7", source="s")
    rest = entry(put("glioma-3.jpg", tmp_path / "3.png"), Label.GLIOMA)
    assert len(curate([one, two, rest], []).contradicting) == 2


def test_a_file_listed_twice_stays_once(tmp_path: Path) -> None:
    one = entry(put("glioma-1.jpg", tmp_path / "1.png"))
    curated = curate([one, one], [])
    assert len(curated.entries) == len(curated.repeated) == 1


def test_list_of_what_was_left_out_can_be_filled_in_and_used(tmp_path: Path) -> None:
    one = entry(put("glioma-1.jpg", tmp_path / "one.png"), Label.GLIOMA)
    other = entry(put("glioma-1.jpg", tmp_path / "other.png", mirrored=True), Label.PITUITARY)
    third = entry(put("no_tumor-1.jpg", tmp_path / "third.png"), Label.NO_TUMOR)
    path = tmp_path / "left-out.csv"
    write_left_out(path, curate([one, other, third], []).left_out)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["label"] = "meningioma"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    curated = curate([one, other, third], read_corrections(path))
    assert [kept.label for kept in curated.entries] == ["meningioma", "meningioma", "no_tumor"]


def test_corrections_go_by_name_and_by_hash(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "x.png", tmp_path / "b" / "x.png"
    put("glioma-1.jpg", first)
    put("glioma-2.jpg", second)
    curated = curate([entry(first), entry(second, group="q")], [])
    digest = curated.entries[0].sha256
    assert digest is not None
    by_both = Correction("x", digest, None, "wrong")
    unused = Correction("y", None, None, "not here")
    corrected = correct(curated.entries, [by_both, unused])
    assert [one.path for one in corrected.entries] == [second]
    assert corrected.unused == [unused]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("stem,label\nx,glioma\n", "reason"),
        ("stem,label,reason\nx,cyst,seen\n", "line 2.*cyst"),
        ("stem,sha256,reason\n,,nothing\n", "neither"),
    ],
)
def test_wrong_corrections_are_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "corrections.csv"
    path.write_text(text)
    with pytest.raises(InvalidManifest, match=told):
        read_corrections(path)


def test_labels_to_be_corrected_are_no_exclusions(tmp_path: Path) -> None:
    path = tmp_path / "corrections.csv"
    path.write_text("stem,label,reason\nx,glioma,seen\n")
    with pytest.raises(InvalidManifest, match="dataset merge"):
        read_exclusions(path)


def test_written_manifests_are_read_as_they_were(tmp_path: Path) -> None:
    path = put("glioma-1.jpg", tmp_path / "images" / "a.png")
    figshare = Entry(
        path, Label.GLIOMA, "p", "77", mirrored=True, box=(0.25, 0.5, 0.125, 0.25),
        source="figshare", plane="axial", sha256="ab",
    )  # fmt: skip
    other = Entry(path, Label.NO_TUMOR, "q", "v-1", source="volumes")
    plain = Entry(path, Label.NO_TUMOR, "r")
    target = tmp_path / "elsewhere" / "manifest.csv"
    write_manifest(target, [figshare, other, plain])
    read = read_manifest(target)
    assert [one.path.resolve() for one in read] == [path.resolve()] * 3
    assert [vars(one) | {"path": path} for one in read] == [
        vars(one) for one in (figshare, other, plain)
    ]


@pytest.mark.parametrize("box", ["nan,0,0.1,0.1", "0.5,0.5,0.6,0.1", "0.5,0.5,0,0.1"])
def test_boxes_outside_the_image_are_refused(tmp_path: Path, box: str) -> None:
    put("glioma-1.jpg", tmp_path / "a.png")
    path = tmp_path / "manifest.csv"
    path.write_text(f"path,label,box_x,box_y,box_w,box_h\na.png,glioma,{box}\n")
    with pytest.raises(InvalidManifest, match="box"):
        read_manifest(path)


@pytest.mark.data
def test_the_real_data_contradict_themselves_only_where_it_is_known(data_root: Path) -> None:
    entries = read_manifest(data_root / "brain-mri" / "manifest.csv")
    known = set(read_exclusions())
    assert known <= {one.entry.path.stem for one in curate(entries, []).contradicting}
    curated = curate(entries, read_corrections())
    assert len(curated.entries) == len(entries) - len(known)
    assert not curated.contradicting
    assert not curated.joined
