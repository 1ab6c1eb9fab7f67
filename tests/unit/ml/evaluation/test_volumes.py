"""Volumes of other hospitals are judged slice by slice against their masks."""

import json
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import pytest

from ml.__main__ import main
from ml.errors import InvalidManifest
from ml.evaluation.volumes import measure_volumes
from ml.labels import LABELS
from ml.reporting.measured_sections import THINNED, volume_table
from ml.serving.predictor import Predictor


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(device="cpu")


def head(slices: int = 5, size: int = 64) -> npt.NDArray[np.int16]:
    """A ball of tissue; the first slice is blank."""
    x, y, z = np.mgrid[:size, :size, :slices]
    ball = (x - size / 2) ** 2 + (y - size / 2) ** 2 < (size * 0.4) ** 2
    noise = np.random.default_rng(0).integers(0, 40, ball.shape)
    volume = (ball * 500 + noise) * (z > 0)
    return np.asarray(volume, dtype=np.int16)


def save(path: Path, volume: npt.NDArray[np.int16]) -> None:
    path.parent.mkdir(exist_ok=True)
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(volume, affine), path)


def test_slices_are_counted_by_their_masks(predictor: Predictor, tmp_path: Path) -> None:
    volume = head()
    before, after = np.zeros_like(volume), np.zeros_like(volume)
    before[20:40, 20:40, 2] = 1  # 400 px: must be found
    before[20:25, 20:25, 3] = 1  # 25 px: too small to be asked for, and no healthy slice either
    after[20:40, 20:40, 3] = 1
    save(tmp_path / "glioma" / "Pre_Scan_T1.nii.gz", volume)
    save(tmp_path / "glioma" / "Pre_Mask.nii.gz", before)
    save(tmp_path / "glioma" / "Post_Scan_T1.nii.gz", volume)
    save(tmp_path / "glioma" / "Post_Mask.nii.gz", after)
    save(tmp_path / "healthy.nii.gz", volume)
    figures = measure_volumes(predictor, glioma=tmp_path, healthy=tmp_path / "healthy.nii.gz")
    assert figures["tumor_slices_found"]["of"] == 2
    assert figures["false_alarms"]["of"] == 2 * 2  # slices 1 and 4 of both scans
    assert figures["healthy_false_alarms"]["of"] == 4
    pixels = [one["tumor_pixels"] for one in figures["volumes"]["glioma/Pre_Scan_T1.nii.gz"]]
    assert sorted(pixels) == [0, 0, 25, 400]
    assert len(volume_table(figures).splitlines()) == 11
    card = tmp_path / "card.json"
    card.write_text("{}")
    folders = ["--glioma", str(tmp_path), "--healthy", str(tmp_path / "healthy.nii.gz")]
    assert main(["volumes", *folders, "--device", "cpu", "--card", str(card)]) == 0
    entered = json.loads(card.read_text())["volumes"]
    assert entered["false_alarms"] == figures["false_alarms"]
    assert "volumes" not in entered  # the slices stay away
    assert entered["command"].endswith("--healthy healthy.nii.gz")


def test_whole_heads_are_measured_in_every_plane(predictor: Predictor, tmp_path: Path) -> None:
    save(tmp_path / "glioma" / "Pre_Scan_T1.nii.gz", head())
    save(tmp_path / "glioma" / "Pre_Mask.nii.gz", head() * 0)
    healthy, one = tmp_path / "healthy.nii.gz", tmp_path / "one.nii.gz"
    save(healthy, head())
    save(one, head(slices=36, size=36))
    figures = measure_volumes(predictor, glioma=tmp_path, healthy=healthy, heads=[one])["heads"]
    assert list(figures) == ["one, sagittal", "one, coronal", "one, axial"]
    for found in figures.values():
        assert 0 <= found["alarms"]["n"] <= found["alarms"]["of"] <= 36
        assert found["study"] in LABELS
    page = tmp_path / "figures.json"
    folders = ["--glioma", str(tmp_path), "--healthy", str(healthy)]
    heads = ["--heads", str(one)]
    assert main(["volumes", *folders, *heads, "--device", "cpu", "--json", str(page)]) == 0
    assert json.loads(page.read_text())["heads"] == figures


def test_thinned_volumes_are_answered_in_three_ways(predictor: Predictor, tmp_path: Path) -> None:
    volume = head(slices=9)
    mask = np.zeros_like(volume)
    mask[20:40, 20:40, 3:6] = 1
    save(tmp_path / "glioma" / "Pre_Scan_T1.nii.gz", volume)
    save(tmp_path / "glioma" / "Pre_Mask.nii.gz", mask)
    save(tmp_path / "healthy.nii.gz", volume)
    page, card = tmp_path / "figures.json", tmp_path / "card.json"
    card.write_text("{}")
    folders = ["--glioma", str(tmp_path), "--healthy", str(tmp_path / "healthy.nii.gz")]
    out = ["--json", str(page), "--card", str(card), "--device", "cpu", "--thinned", "3"]
    assert main(["volumes", *folders, *out]) == 0
    ways = json.loads(page.read_text())["thinned"]
    assert list(ways) == [
        "a third left out", "half left out", "a block missing", "steps of one to three"
    ]  # fmt: skip
    for way, found in ways.items():
        assert list(found) == ["alone", "by_number", "by_distance"]
        for figures in found.values():
            assert set(figures) == set(THINNED)
            assert figures["class_right"]["of"] == figures["healthy_called_tumor"]["of"] == 3
            assert figures["class_right"]["n"] <= figures["called_tumor"]["n"] <= 3
        # Eight slices show something; how many are left depends on the way alone.
        left = {one["healthy_false_alarms"]["of"] for one in found.values()}
        assert len(left) == 1
        expected = {"a third left out": {3 * 5}, "half left out": {3 * 4}, "a block missing": {18}}
        assert left == expected.get(way, left)
    entered = json.loads(card.read_text())
    assert entered["thinned"]["ways"] == ways
    assert entered["thinned"]["command"].endswith("--thinned 3")
    assert "thinned" not in entered["volumes"]


def test_folder_without_masks_is_named(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(InvalidManifest, match="no volumes with masks"):
        measure_volumes(predictor, glioma=tmp_path, healthy=tmp_path)


def test_mask_without_its_scan_is_named(predictor: Predictor, tmp_path: Path) -> None:
    save(tmp_path / "01" / "Pre_Mask.nii.gz", head())
    with pytest.raises(InvalidManifest, match="exactly one scan"):
        measure_volumes(predictor, glioma=tmp_path, healthy=tmp_path)
