"""Volumes of other scanners and readers' answers become labelled slices."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from config import REPOSITORY
from ml.__main__ import main
from ml.dataset import outline_mask, read_manifest, read_outlines, with_outlines
from ml.dataset.feedback import from_feedback
from ml.dataset.slicing import CutSet, Cutting, cut_volumes
from ml.dataset.tilting import tilted
from ml.errors import InvalidManifest
from ml.imaging import read_path
from ml.imaging.pictures import encode_png
from ml.labels import Label
from tests.dicoms import axial_series

SIDE = 128
HEALTHY = Cutting(Label.NO_TUMOR, "p1", every=8.0, source="elsewhere")
GLIOMA = Cutting(Label.GLIOMA, "p1", every=1.0)
BOX = (30, 50, 40, 64, 90, 100)  # of the tumour, in voxels: right, front, head; from and to
Voxels = npt.NDArray[np.float32]


def ball() -> Voxels:
    """A head: a bright ball of 50 mm radius with a brighter front, in noise."""
    right, front, up = np.mgrid[:SIDE, :SIDE, :SIDE] - SIDE / 2
    noise = np.random.default_rng(1).normal(20, 5, (SIDE,) * 3)
    inside = right**2 + front**2 + up**2 < 50**2
    return np.asarray(noise + inside * (200 + front), np.float32)


def tumor() -> Voxels:
    mask = np.zeros((SIDE,) * 3, np.float32)
    x0, x1, y0, y1, z0, z1 = BOX
    mask[x0:x1, y0:y1, z0:z1] = 1
    return mask


def save(voxels: Voxels, path: Path, sizes: tuple[float, float, float] = (1, 1, 1)) -> Path:
    nib.save(nib.Nifti1Image(voxels, np.diag([*sizes, 1])), path)
    return path


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CutSet]:
    folder = tmp_path_factory.mktemp("healthy")
    path = save(ball(), folder / "T1.nii.gz")
    return folder / "out", cut_volumes([path], [], HEALTHY, folder / "out")


@pytest.fixture(scope="module")
def glioma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("glioma")
    volume, mask = save(ball(), folder / "T1.nii.gz"), save(tumor(), folder / "mask.nii.gz")
    cut_volumes([volume], [mask], GLIOMA, folder / "out")
    return folder / "out"


def test_a_volume_is_cut_in_three_planes_at_the_distance_asked_for(
    healthy: tuple[Path, CutSet],
) -> None:
    folder, made = healthy
    entries = read_manifest(folder / "manifest.csv")
    assert [one.path.name for one in entries] == [one.path.name for one in made.entries]
    assert {one.plane for one in entries} == {"axial", "coronal", "sagittal"}
    assert {(one.group, one.source, one.label) for one in entries} == {
        ("p1", "elsewhere", Label.NO_TUMOR)
    }
    numbers = [int(one.path.stem[-3:]) for one in entries if one.plane == "axial"]
    assert set(np.diff(numbers)) == {8}


def test_head_that_nods_is_cut_in_other_planes(tmp_path: Path) -> None:
    path = save(ball(), tmp_path / "T1.nii.gz")
    cutting = replace(HEALTHY, tilts=(0.0, 15.0))
    made = cut_volumes([path], [], cutting, tmp_path / "out")
    planes = [one.path.stem.rsplit("-", 1)[0] for one in made.entries]
    assert sorted(set(planes)) == [
        "p1-00-axial", "p1-00-axial-tilt+15", "p1-00-coronal", "p1-00-coronal-tilt+15",
        "p1-00-sagittal",
    ]  # fmt: skip
    assert len({one.sha256 for one in made.entries}) == len(made.entries)


def test_lowest_part_of_the_head_alone_is_cut(tmp_path: Path) -> None:
    path = save(ball(), tmp_path / "T1.nii.gz")
    command = ["dataset", "volumes", str(path), "--label", "no_tumor", "--group", "p1"]
    command += ["--every", "4", "--tilts", "0", "15"]
    assert main([*command, "--out", str(tmp_path / "whole")]) == 0
    lowest = [*command, "--planes", "axial", "--lowest", "0.45", "--out", str(tmp_path / "low")]
    assert main(lowest) == 0
    whole, low = (
        {one.path.name for one in read_manifest(tmp_path / name / "manifest.csv")}
        for name in ("whole", "low")
    )
    heights = {name: int(name[-7:-4]) for name in whole if "axial" in name}
    limit = min(heights.values()) + 0.45 * (max(heights.values()) - min(heights.values()))
    assert low == {name for name, height in heights.items() if height <= limit}
    assert {"tilt" in name for name in low} == {True, False}


def test_chin_goes_down_and_masks_stay_masks() -> None:
    voxels = np.zeros((33, 33, 33), np.float32)
    voxels[16, 28, 16] = 1  # 12 mm in front of the middle
    affine = np.diag([1.0, 1, 1, 1])
    volume = nib.Nifti1Image(voxels, affine).to_bytes()
    turned = nib.Nifti1Image.from_bytes(tilted(volume, 30)).get_fdata()
    # 12 mm * cos 30° = 10.4 mm in front, 12 mm * sin 30° = 6 mm below
    assert np.unravel_index(turned.argmax(), turned.shape) == (16, 26, 10)
    mask = nib.Nifti1Image.from_bytes(tilted(volume, 30, is_mask=True)).get_fdata()
    assert set(np.unique(mask)) <= {0, 1}


def test_slices_beside_the_head_are_left_out(healthy: tuple[Path, CutSet]) -> None:
    for entry in read_manifest(healthy[0] / "manifest.csv"):
        # Where 0.4 of the largest area is seen the ball is 39 mm from its middle.
        assert abs(int(entry.path.stem[-3:]) - SIDE / 2) <= 40
        pixels = read_path(entry.path)[0].pixels
        assert (pixels.shape, pixels.dtype) == ((SIDE, SIDE), np.uint8)
        assert pixels.mean() > 40


def test_brightness_is_scaled_alike_in_the_whole_volume(healthy: tuple[Path, CutSet]) -> None:
    pictures = [read_path(one.path)[0].pixels for one in healthy[1].entries]
    middles = [float(np.median(one[SIDE // 2 - 8 : SIDE // 2 + 8])) for one in pictures]
    assert max(middles) > 200
    assert len({int(one[0, 0]) // 32 for one in pictures}) == 1


def test_a_mask_tells_tumour_slices_from_free_ones_and_leaves_out_what_is_between(
    glioma: Path,
) -> None:
    axial = {
        int(one.path.stem[-3:]): one.label
        for one in read_manifest(glioma / "manifest.csv")
        if one.plane == "axial"
    }
    assert all(axial[number] is Label.GLIOMA for number in range(90, 100))
    assert axial[85] is axial[84] is Label.NO_TUMOR
    assert not {86, 87, 88, 89} & axial.keys()


def test_boxes_and_outlines_lie_on_the_tumour_in_every_plane(glioma: Path) -> None:
    entries = read_manifest(glioma / "manifest.csv")
    entries = with_outlines(entries, read_outlines(glioma / "outlines.json"))
    volume = nib.Nifti1Image(tumor(), np.eye(4)).to_bytes()
    (glioma / "mask.nii").write_bytes(volume)
    tumors = [one for one in entries if one.label is Label.GLIOMA]
    assert {one.plane for one in tumors} == {"axial", "coronal", "sagittal"}
    for entry in tumors[::5]:
        slices = read_path(glioma / "mask.nii", plane=entry.plane or "")
        real = slices[int(entry.path.stem[-3:])].pixels > 0
        assert entry.outline is not None
        assert entry.box is not None
        assert (outline_mask(entry.outline, (SIDE, SIDE)).astype(bool) == real).all()
        rows, columns = np.nonzero(real)
        left, top, width, height = (round(value * SIDE) for value in entry.box)
        assert (left, top) == (columns.min(), rows.min())
        assert (width, height) == (np.ptp(columns) + 1, np.ptp(rows) + 1)


def test_planes_with_coarse_pixels_are_left_out(tmp_path: Path) -> None:
    path = save(ball()[:, :, ::5], tmp_path / "thick.nii.gz", (1, 1, 5))
    made = cut_volumes([path], [], HEALTHY, tmp_path / "out")
    assert {one.plane for one in made.entries} == {"axial"}
    assert made.planes_left_out == ["p1-00-sagittal", "p1-00-coronal"]


def test_a_dicom_series_is_cut_like_a_volume(tmp_path: Path) -> None:
    series = tmp_path / "series"
    series.mkdir()
    for number, content in enumerate(axial_series(60, size=128, spacing=2.0)):
        (series / f"{number}.dcm").write_bytes(content)
    made = cut_volumes([series], [], HEALTHY, tmp_path / "out")
    assert {one.plane for one in made.entries} == {"axial", "coronal", "sagittal"}
    axial = next(one for one in made.entries if one.path.stem.endswith("axial-028"))
    original = read_path(series / "28.dcm")[0].pixels
    picture = read_path(axial.path)[0].pixels
    assert np.corrcoef(original.ravel(), picture.ravel())[0, 1] > 0.99
    assert {read_path(one.path)[0].pixels.shape for one in made.entries} == {
        (128, 128),
        (120, 128),
    }


def test_masks_that_do_not_fit_and_used_folders_are_refused(tmp_path: Path) -> None:
    volume = save(ball(), tmp_path / "T1.nii.gz")
    mask = save(tumor()[:, :, :64], tmp_path / "mask.nii.gz")
    with pytest.raises(InvalidManifest, match="grid"):
        cut_volumes([volume], [mask], GLIOMA, tmp_path / "a")
    with pytest.raises(InvalidManifest, match="as many masks"):
        cut_volumes([volume, volume], [mask], GLIOMA, tmp_path / "b")
    with pytest.raises(InvalidManifest, match="must name one"):
        cut_volumes([volume], [mask], HEALTHY, tmp_path / "c")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "manifest.csv").touch()
    with pytest.raises(InvalidManifest, match="already holds"):
        cut_volumes([volume], [], HEALTHY, tmp_path / "d")


def test_pictures_are_no_volume(tmp_path: Path) -> None:
    with pytest.raises(InvalidManifest, match="no volume"):
        cut_volumes([REPOSITORY / "ml" / "samples" / "glioma-1.jpg"], [], HEALTHY, tmp_path / "o")


REGION = [[0.1, 0.2], [0.3, 0.2], [0.2, 0.5]]
COLUMNS = "path,label,group,image_id,study_id,reader,verdict,region"


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Two readers about 1, who agree, and about 2, who do not; one each about the others."""
    folder = tmp_path / "export"
    (folder / "images").mkdir(parents=True)
    for number in (1, 2, 3):
        pixels = np.full((64, 64), number, np.uint8)
        (folder / "images" / f"{number}.png").write_bytes(encode_png(pixels))
    cell = '"' + json.dumps(REGION) + '"'
    wider = '"' + json.dumps([[0.2, 0.3], [0.6, 0.3], [0.6, 0.4]]) + '"'
    lines = [
        COLUMNS,
        f"images/1.png,glioma,aa,1,s1,r1,agree,{cell}",
        f"images/1.png,glioma,aa,1,s1,r2,agree,{wider}",
        "images/2.png,glioma,aa,2,s1,r1,agree,",
        "images/2.png,pituitary,aa,2,s1,r2,disagree,",
        f"images/3.png,no_tumor,,3,s2,r1,disagree,{cell}",
        "images/4.png,glioma,bb,4,s3,r1,agree,",
    ]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_readers_who_agree_give_one_line_with_a_box_around_their_regions(export: Path) -> None:
    first, _ = from_feedback(export).entries
    assert (first.path.name, first.label, first.group) == ("1.png", Label.GLIOMA, "aa")
    assert first.box == pytest.approx((0.1, 0.2, 0.5, 0.3))
    assert first.source == "feedback"


def test_without_a_patient_the_study_is_the_group_and_no_tumour_has_no_box(export: Path) -> None:
    _, second = from_feedback(export / "manifest.csv").entries
    assert (second.group, second.box) == ("study-s2", None)


def test_disagreement_and_missing_images_are_told(export: Path) -> None:
    found = from_feedback(export)
    (disagreement,) = found.disagreements
    assert disagreement.path.name == "2.png"
    assert disagreement.labels == {"r1": Label.GLIOMA, "r2": Label.PITUITARY}
    assert [path.name for path in found.missing] == ["4.png"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("images/1.png,cyst,aa,1,s1,r1,agree,", "line 2.*cyst"),
        ("images/1.png,glioma,aa,1,s1,r1,agree,[[0]]", "region"),
        ('images/1.png,glioma,aa,1,s1,r1,agree,"[[0,0],[1,0],[2,2]]"', "polygon"),
        (",glioma,aa,1,s1,r1,agree,", "not named"),
        ("images/9.png,glioma,aa,1,s1,r1,agree,", "holds no image"),
    ],
)
def test_broken_exports_are_refused(export: Path, line: str, told: str) -> None:
    (export / "manifest.csv").write_text(f"{COLUMNS}\n{line}\n")
    with pytest.raises(InvalidManifest, match=told):
        from_feedback(export)
