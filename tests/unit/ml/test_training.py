"""Training learns, leaves checkpoints, and goes on where it stopped."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from ml.__main__ import main
from ml.architectures import ARCHITECTURES
from ml.augmentation import augment
from ml.dataset import Entry
from ml.errors import InvalidModel
from ml.imaging import read_path
from ml.imaging.pictures import encode_png
from ml.labels import LABELS
from ml.predictor import Predictor, Result
from ml.training import Recipe, Stage, train


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


def epochs_logged(folder: Path) -> list[int]:
    with (folder / "log.csv").open() as file:
        return [int(row["epoch"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_interrupted_run_resumes_and_ends_like_an_unbroken_one(tmp_path: Path) -> None:
    data = slices(tmp_path, 8)

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


def test_augmentation_keeps_shape_and_range_and_is_repeatable() -> None:
    images = torch.rand(16, 1, 64, 64)
    first = augment(images, torch.Generator().manual_seed(3))
    second = augment(images, torch.Generator().manual_seed(3))
    assert first.shape == images.shape
    assert first.min() >= 0
    assert first.max() <= 1
    torch.testing.assert_close(first, second)
    assert not torch.allclose(first, images)


def test_class_maps_average_to_the_logits() -> None:
    network = ARCHITECTURES["vgg16-gap"].build().eval()
    with torch.inference_mode():
        output = network(torch.rand(2, 1, 64, 64))
    assert output.maps.shape == (2, 4, 4, 4)
    torch.testing.assert_close(
        output.maps.mean((2, 3)) + network.head.bias, output.logits, rtol=1e-4, atol=1e-4
    )


def test_starting_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "wrong.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InvalidModel):
        ARCHITECTURES["vgg16-gap"].build().start_from(str(path))
