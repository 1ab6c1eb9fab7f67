"""Manifests are checked, and splits never separate a patient's slices."""

from pathlib import Path

import pytest

from ml.dataset import (
    Entry,
    outline_mask,
    read_exclusions,
    read_manifest,
    read_outlines,
    split_by_group,
    with_outlines,
    without_mirrored_twins,
)
from ml.errors import InvalidManifest
from ml.labels import LABELS, Label


def manifest(folder: Path, text: str) -> Path:
    (folder / "a.png").touch()
    (folder / "b.png").touch()
    path = folder / "manifest.csv"
    path.write_text(text, encoding="utf-8")
    return path


def entries(groups: int = 200, slices: int = 4) -> list[Entry]:
    return [
        Entry(Path(f"{group}-{number}.png"), LABELS[group % 4], f"patient-{group}")
        for group in range(groups)
        for number in range(slices)
    ]


def test_manifest_is_read(tmp_path: Path) -> None:
    text = (
        "path,label,group,box_x,box_y,box_w,box_h\n"
        "a.png,glioma,p1,0.1,0.2,0.3,0.4\n"
        "b.png,no_tumor,p2,,,,\n"
    )
    first, second = read_manifest(manifest(tmp_path, text))
    assert first.label is Label.GLIOMA
    assert first.box == (0.1, 0.2, 0.3, 0.4)
    assert second.box is None


@pytest.mark.parametrize(
    ("identifier", "plane"),
    [
        ("207", "axial"),
        ("218", "coronal"),
        ("780", "sagittal"),
        ("781", "coronal"),
        ("3064", "coronal"),
        ("211", None),  # between two runs
        ("5", None),
        ("3065", None),
        ("patient-7", None),
    ],
)
def test_plane_of_a_figshare_slice_follows_from_its_number(
    tmp_path: Path, identifier: str, plane: str | None
) -> None:
    text = f"path,label,figshare_id\na.png,glioma,{identifier}\n"
    (entry,) = read_manifest(manifest(tmp_path, text))
    assert entry.plane == plane


def test_manifest_tells_the_plane_better_than_the_number(tmp_path: Path) -> None:
    text = "path,label,figshare_id,plane\na.png,glioma,207,sagittal\n"
    (entry,) = read_manifest(manifest(tmp_path, text))
    assert entry.plane == "sagittal"


def test_without_groups_every_file_stands_for_itself(tmp_path: Path) -> None:
    read = read_manifest(manifest(tmp_path, "path,label\na.png,glioma\nb.png,glioma\n"))
    assert len({entry.group for entry in read}) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("path\na.png\n", "label"),
        ("path,label\na.png,cyst\n", "cyst"),
        ("path,label\nc.png,glioma\n", "c.png"),
        ("path,label\n", "no images"),
    ],
)
def test_wrong_manifests_are_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InvalidManifest, match=told):
        read_manifest(manifest(tmp_path, text))


def test_excluded_files_are_left_out(tmp_path: Path) -> None:
    read = read_manifest(
        manifest(tmp_path, "path,label\na.png,glioma\nb.png,glioma\n"), excluded=["a"]
    )
    assert [entry.path.name for entry in read] == ["b.png"]


def test_bundled_exclusions_give_a_reason_each() -> None:
    assert len(read_exclusions()) == 4
    assert all(read_exclusions().values())


def test_no_group_is_in_two_parts() -> None:
    split = split_by_group(entries(), seed=1)
    parts = [
        {entry.group for entry in part}
        for part in (split.training, split.calibration, split.validation)
    ]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    assert sum(map(len, parts)) == 200


def test_validation_part_may_be_learnt_from_and_the_calibration_part_stays() -> None:
    usual = split_by_group(entries(), seed=1)
    learnt = split_by_group(entries(), seed=1, with_validation=True)
    assert usual.measured == ("validation", usual.validation)
    assert learnt.measured == ("calibration", usual.calibration)
    assert len(learnt.training) == len(usual.training) + len(usual.validation)


def test_every_part_holds_every_class() -> None:
    split = split_by_group(entries(), seed=1)
    for part in (split.training, split.calibration, split.validation):
        assert {entry.label for entry in part} == set(LABELS)


def test_split_is_repeatable() -> None:
    assert split_by_group(entries(), seed=5) == split_by_group(entries(), seed=5)


def test_of_mirrored_twins_the_unmirrored_one_stays() -> None:
    plain = Entry(Path("a"), Label.GLIOMA, "p", original="7")
    mirrored = Entry(Path("b"), Label.GLIOMA, "p", original="7", mirrored=True)
    other = Entry(Path("c"), Label.NO_TUMOR, "q")
    assert without_mirrored_twins([mirrored, plain, other]) == [plain, other]


TRIANGLE = ((0.1, 0.2), (0.4, 0.2), (0.1, 0.6))


def test_outlines_are_mirrored_with_their_file() -> None:
    plain = Entry(Path("a"), Label.GLIOMA, "p", original="7")
    mirrored = Entry(Path("b"), Label.GLIOMA, "p", original="7", mirrored=True)
    other = Entry(Path("c"), Label.NO_TUMOR, "q")
    first, second, third = with_outlines([plain, mirrored, other], {"7": TRIANGLE})
    assert first.outline == TRIANGLE
    assert second.outline == ((0.9, 0.2), (0.6, 0.2), (0.9, 0.6))
    assert third.outline is None


def test_mask_of_a_mirrored_outline_is_the_mirrored_mask() -> None:
    square = ((0.125, 0.25), (0.5, 0.25), (0.5, 0.75), (0.125, 0.75))
    mirrored = tuple((1 - x, y) for x, y in square)
    one, other = outline_mask(square, (64, 64)), outline_mask(mirrored, (64, 64))
    assert abs(int(one.sum()) - 24 * 32) < 70
    assert (one != other[:, ::-1]).mean() < 0.02


def test_outlines_are_read_and_broken_ones_refused(tmp_path: Path) -> None:
    path = tmp_path / "outlines.json"
    path.write_text('{"7": [[0.1, 0.2], [0.4, 0.2], [0.1, 0.6]]}')
    assert read_outlines(path) == {"7": TRIANGLE}
    for broken in ("[1]", '{"7": [[0.1, 0.2]]}', '{"7": 3}', "nonsense"):
        path.write_text(broken)
        with pytest.raises(InvalidManifest):
            read_outlines(path)


def test_outline_that_contradicts_the_box_is_not_taken() -> None:
    agreeing = Entry(Path("a"), Label.GLIOMA, "p", original="7", box=(0.1, 0.2, 0.3, 0.4))
    contradicting = Entry(Path("b"), Label.GLIOMA, "p", original="7", box=(0.2, 0.4, 0.6, 0.8))
    first, second = with_outlines([agreeing, contradicting], {"7": TRIANGLE})
    assert first.outline == TRIANGLE
    assert second.outline is None


@pytest.mark.data
def test_nearly_all_real_tumours_with_a_box_have_an_outline(data_root: Path) -> None:
    entries = with_outlines(
        read_manifest(data_root / "brain-mri" / "manifest.csv"),
        read_outlines(data_root / "tumour_outlines.json"),
    )
    for mirrored in (False, True):
        boxed = [one for one in entries if one.box is not None and one.mirrored is mirrored]
        assert sum(one.outline is not None for one in boxed) > 0.98 * len(boxed)


@pytest.mark.data
def test_every_figshare_slice_of_the_real_data_has_a_plane(data_root: Path) -> None:
    real = read_manifest(data_root / "brain-mri" / "manifest.csv")
    assert all(one.plane for one in real if one.source == "figshare")


@pytest.mark.data
def test_parts_of_the_real_data_share_no_patient(data_root: Path) -> None:
    read = read_manifest(data_root / "brain-mri" / "manifest.csv", excluded=read_exclusions())
    split = split_by_group(read, seed=20261123)
    training = {entry.group for entry in split.training}
    assert not training & {entry.group for entry in split.validation + split.calibration}
    assert 0.10 < len(split.validation) / len(read) < 0.20
