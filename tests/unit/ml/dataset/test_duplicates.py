"""The audit finds copies of every kind, leaks and contradictions, and nothing else."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from config import REPOSITORY
from ml.dataset.duplicates import audit
from ml.errors import InvalidManifest
from ml.imaging import read_path
from ml.imaging.pictures import Pixels, encode_png

SAMPLES = REPOSITORY / "ml" / "samples"


def put(folder: Path, name: str, pixels: Pixels) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(encode_png(pixels))


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Training and Testing, with a copy of each kind and one wrong label."""
    root = tmp_path / "collection"
    training, testing = root / "Training", root / "Testing"
    for label in ("glioma", "meningioma", "pituitary"):
        for number in (1, 2):
            pixels = read_path(SAMPLES / f"{label}-{number}.jpg")[0].pixels
            put(training / label, f"{number}.png", pixels)
    glioma = read_path(SAMPLES / "glioma-1.jpg")[0].pixels
    put(testing / "glioma", "exact.png", glioma)
    put(testing / "glioma", "unseen.png", read_path(SAMPLES / "glioma-3.jpg")[0].pixels)
    pituitary = read_path(SAMPLES / "pituitary-1.jpg")[0].pixels
    put(testing / "pituitary", "mirrored.png", np.ascontiguousarray(pituitary[:, ::-1]))
    meningioma = read_path(SAMPLES / "meningioma-1.jpg")[0].pixels
    smaller = np.asarray(cv2.resize(meningioma, (300, 300), interpolation=cv2.INTER_AREA))
    put(testing / "glioma", "mislabelled.png", smaller.astype(np.uint8))
    (testing / "glioma" / "broken.png").write_bytes(b"no image")
    return root


def pairs(report: dict[str, list[dict[str, str]]]) -> set[tuple[str, str, str]]:
    return {(p["kind"], p["first"], p["second"]) for p in report["all_pairs"]}


def test_every_kind_of_copy_is_found_and_nothing_else(collection: Path) -> None:
    assert pairs(audit(collection)) == {
        ("exact", "Testing/glioma/exact.png", "Training/glioma/1.png"),
        ("mirrored", "Testing/pituitary/mirrored.png", "Training/pituitary/1.png"),
        ("near", "Testing/glioma/mislabelled.png", "Training/meningioma/1.png"),
    }


def test_contradicting_labels_are_named(collection: Path) -> None:
    (conflict,) = audit(collection)["label_conflicts"]
    assert conflict["labels"] == ["glioma", "meningioma"]


def test_leaks_are_counted_from_both_sides(collection: Path) -> None:
    leaks = {(leak["part"], leak["other_part"]): leak for leak in audit(collection)["leaks"]}
    assert leaks["Testing", "Training"]["images"] == 3
    assert leaks["Testing", "Training"]["of"] == 4
    assert leaks["Training", "Testing"]["of"] == 6


def test_unreadable_files_are_listed(collection: Path) -> None:
    assert audit(collection)["unreadable"] == ["Testing/glioma/broken.png"]


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidManifest):
        audit(tmp_path)


def test_command_writes_table_json_and_pictures(collection: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "audit.json", tmp_path / "report"
    arguments = ["audit", "--root", collection, "--json", out, "--report", page]
    done = subprocess.run(
        [sys.executable, "-m", "ml", *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "leak: 3 of 4 images of Testing have a copy in Training" in done.stdout
    assert len(json.loads(out.read_text())["all_pairs"]) == 3
    text = (page / "report.md").read_text()
    for picture in page.glob("*.png"):
        assert picture.name in text
    assert len(list(page.glob("*.png"))) == 4


@pytest.mark.data
def test_leaks_of_the_official_folders_are_found(data_root: Path, tmp_path: Path) -> None:
    """File names of the public set tell which official folder a file came from."""
    parts = {"Tr": "Training", "Te": "Testing"}
    for path in (data_root / "brain-mri" / "images").glob("*/*.jpg"):
        folder = tmp_path / parts[path.name[:2]] / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / path.name)
    report = audit(tmp_path)
    (leak,) = [leak for leak in report["leaks"] if leak["part"] == "Testing"]
    assert leak["images"] / leak["of"] > 0.3
    stems = {
        Path(pair[side]).stem for pair in report["label_conflicts"] for side in ("first", "second")
    }
    assert {"Te-piTr_0002", "Tr-pi_0043", "Tr-pi_0515", "Tr-pi_0520"} <= stems
