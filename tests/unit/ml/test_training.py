"""Training learns, leaves checkpoints, and goes on where it stopped."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ml.__main__ import main
from ml.dataset import Entry
from ml.imaging import read_path
from ml.imaging.pictures import encode_png
from ml.labels import LABELS, Label
from ml.predictor import Predictor, Result
from ml.training import Recipe, Stage, prepare, train


def slices(folder: Path, n: int) -> list[Entry]:
    """Heads that differ by class in where a bright spot lies: easy to learn."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    head = (rows - 32) ** 2 + (columns - 32) ** 2 < 28**2
    entries = []
    for number in range(n):
        label = number % 4
        row, column = 20 + 24 * (label // 2), 20 + 24 * (label % 2)
        spot = (rows - row) ** 2 + (columns - column) ** 2 < 36
        pixels = random.integers(0, 10, (64, 64)) + head * 80 + spot * 150
        path = folder / f"{number}.png"
        path.write_bytes(encode_png(pixels.clip(0, 255).astype(np.uint8)))
        entries.append(Entry(path, LABELS[label], f"patient-{number}"))
    return entries


def with_spots_outlined(data: list[Entry]) -> list[Entry]:
    """The spot of every class but no tumour is called a tumour, and outlined."""
    outlined = []
    for number, entry in enumerate(data):
        row, column = 20 + 24 * (number % 4 // 2), 20 + 24 * (number % 4 % 2)
        corners = ((-6, -6), (6, -6), (6, 6), (-6, 6))
        points = tuple(((column + x + 0.5) / 64, (row + y + 0.5) / 64) for x, y in corners)
        has_tumor = entry.label is not Label.NO_TUMOR
        outlined.append(replace(entry, outline=points if has_tumor else None))
    return outlined


def epochs_logged(folder: Path) -> list[int]:
    with (folder / "log.csv").open() as file:
        return [int(row["epoch"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_interrupted_run_resumes_and_ends_like_an_unbroken_one(tmp_path: Path) -> None:
    data = with_spots_outlined(slices(tmp_path, 8))

    def recipe(epochs: int) -> Recipe:
        return Recipe(start="scratch", stages=(Stage(32, epochs),), batch=4)

    folder = tmp_path / "run"
    train(recipe(1), data, data[:4], folder=folder)
    assert epochs_logged(folder) == [1]
    network = train(recipe(2), data, data[:4], folder=folder)
    assert epochs_logged(folder) == [1, 2]
    again = train(recipe(2), data, data[:4], folder=folder)
    assert epochs_logged(folder) == [1, 2]
    for one, other in zip(network.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.slow
def test_command_trains_measures_and_packages_a_model_that_serves(tmp_path: Path) -> None:
    data = slices(tmp_path, 160)
    manifest = tmp_path / "manifest.csv"
    lines = [f"{entry.path.name},{entry.label.value},{entry.group}" for entry in data]
    manifest.write_text("\n".join(["path,label,group", *lines]))
    folder = tmp_path / "run"
    arguments = ["train", "--manifest", str(manifest), "--out", str(folder), "--start", "scratch"]
    assert main([*arguments, "--stages", "32:1", "--input-size", "32"]) == 0
    predictor = Predictor.load(folder / "vgg16-gap.json", device="cpu")
    (result,) = predictor.predict([read_path(data[0].path)[0].pixels])
    assert isinstance(result, Result)
    split = predictor.card["split"]
    parts = [split[name]["groups"] for name in ("training", "calibration", "validation")]
    assert sum(parts) == 160
    assert predictor.card["metrics"]["n"] == split["validation"]["slices"]


def test_masks_lie_where_the_outline_lies_in_the_prepared_slice(tmp_path: Path) -> None:
    data = with_spots_outlined(slices(tmp_path, 4))
    prepared = prepare(data, preprocessing="head-crop", size=96)
    for entry, image, mask in zip(data, prepared.images, prepared.masks, strict=True):
        inside = mask > 0
        if entry.outline is None:
            assert not inside.any()
        else:
            bright = image > 0.9
            assert (inside & bright).sum() > 0.9 * bright.sum()
    assert prepared.known.all()


def test_tumour_without_an_outline_is_not_taken_for_healthy_tissue(tmp_path: Path) -> None:
    prepared = prepare(slices(tmp_path, 4), preprocessing="head-crop", size=32)
    assert prepared.known.tolist() == [label is Label.NO_TUMOR for label in LABELS]
