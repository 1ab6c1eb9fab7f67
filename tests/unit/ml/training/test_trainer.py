"""Training learns, leaves checkpoints, and goes on where it stopped."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ml.__main__ import main
from ml.dataset.tensors import prepare
from ml.errors import InvalidConfiguration, InvalidModel
from ml.imaging import read_path
from ml.labels import LABELS, Label
from ml.registry import SERVING, load_model
from ml.serving.predictor import Predictor, Result
from ml.training.recipe import Recipe, Stage
from ml.training.trainer import train
from tests.heads import slices, with_spots_outlined, write_manifest

REPOSITORY = Path(__file__).parents[4]
# What each of several processes does: train, and leave its weights.
TOGETHER = """
import sys
from pathlib import Path
import pytest
import torch
from ml.training.distributed import distributed_processes
from ml.training.recipe import Recipe, Stage
from ml.training.trainer import train
from tests import narrow
from tests.heads import slices

narrow.register(pytest.MonkeyPatch())
folder = Path(sys.argv[1])
with distributed_processes() as processes:
    data = slices(folder / f"data-{processes.rank}", 10)
    for epochs in (1, 2):
        recipe = Recipe(
            architecture="narrow", start="scratch", stages=(Stage(32, epochs),), input_size=32,
            batch=4, frozen=0,
        )
        trained = train(recipe, data, data[:4], folder=folder / "run", distributed=processes)
        torch.save(trained.network.state_dict(), folder / f"{epochs}-{processes.rank}.pt")
"""
TINY = Recipe(
    architecture="narrow-localisation", start="scratch", stages=(Stage(32, 1),), input_size=32,
    batch=4, frozen=0,
)  # fmt: skip


def epochs_logged(folder: Path) -> list[int]:
    with (folder / "log.csv").open() as file:
        return [int(row["epoch"]) for row in csv.DictReader(file)]


@pytest.mark.usefixtures("narrow_networks")
def test_interrupted_run_resumes_and_ends_like_an_unbroken_one(tmp_path: Path) -> None:
    data = with_spots_outlined(slices(tmp_path, 8))

    def recipe(epochs: int) -> Recipe:
        return replace(TINY, stages=(Stage(32, epochs),))

    folder = tmp_path / "run"
    train(recipe(1), data, data[:4], folder=folder)
    assert epochs_logged(folder) == [1]
    network = train(recipe(2), data, data[:4], folder=folder).network
    assert epochs_logged(folder) == [1, 2]
    again = train(recipe(2), data, data[:4], folder=folder).network
    assert epochs_logged(folder) == [1, 2]
    for one, other in zip(network.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    with pytest.raises(InvalidConfiguration, match="batch"):
        train(replace(recipe(3), batch=8), data, data[:4], folder=folder)


@pytest.mark.usefixtures("narrow_networks")
def test_frozen_layers_run_once_for_each_variant_and_the_rest_learns(tmp_path: Path) -> None:
    data = with_spots_outlined(slices(tmp_path, 16))
    folder = tmp_path / "run"
    recipe = replace(
        TINY, stages=(Stage(32, 12),), batch=8, frozen=2, variants=2, body_rate=0.01, head_rate=0.01
    )
    train(replace(recipe, stages=(Stage(32, 3),)), data, data, folder=folder)
    made = {path: path.stat().st_mtime_ns for path in (folder / "variants").iterdir()}
    assert len(made) == 2 * 3 + 1
    layers = train(recipe, data, data, folder=folder).network.features
    assert {path: path.stat().st_mtime_ns for path in made} == made
    with (folder / "log.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < losses[0]
    once = replace(recipe, stages=(Stage(32, 1),))
    others = train(once, data, data, folder=tmp_path / "once").network.features
    assert torch.equal(layers[0].weight, others[0].weight)
    assert not torch.equal(layers[2].weight, others[2].weight)


@pytest.mark.usefixtures("narrow_networks")
def test_kept_variants_are_shared_by_runs_that_may_and_refused_to_others(tmp_path: Path) -> None:
    data = with_spots_outlined(slices(tmp_path, 8))
    recipe = replace(TINY, stages=(Stage(32, 1),), batch=8, frozen=2, variants=1)
    kept = tmp_path / "variants"
    train(recipe, data, data, folder=tmp_path / "one", variants=kept)
    made = {path: path.stat().st_mtime_ns for path in kept.iterdir()}
    train(replace(recipe, head_rate=0.5), data, data, folder=tmp_path / "two", variants=kept)
    assert {path: path.stat().st_mtime_ns for path in kept.iterdir()} == made
    for change in ({"seed": 5}, {"elastic": 0.1}, {"inpainted": 0.1}):
        other = replace(recipe, **change)
        with pytest.raises(InvalidConfiguration, match="variants of other slices"):
            train(other, data, data, folder=tmp_path / "three", variants=kept)
    with pytest.raises(InvalidConfiguration, match="variants of other slices"):
        train(recipe, data[:4], data, folder=tmp_path / "four", variants=kept)


def test_network_and_recipe_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for recipe, said in (
        (Recipe(architecture="vgg17"), "vgg17"),
        (Recipe(start="scratch", stages=(Stage(100, 1),)), "multiples of 16"),
        (Recipe(start="scratch", frozen=99), "30 layers"),
        (Recipe(architecture="vgg16-twofold", start="scratch", frozen=25), "24 layers"),
    ):
        with pytest.raises(InvalidConfiguration, match=said):
            train(recipe, [], [], folder=tmp_path)


def test_run_starts_from_a_model_by_its_card_or_says_why_not(tmp_path: Path) -> None:
    recipe = replace(TINY, architecture="vgg16-twofold", start=str(SERVING), stages=(Stage(32, 1),))
    data = slices(tmp_path, 4)
    trained = train(replace(recipe, body_rate=0, head_rate=0), data, data, folder=tmp_path / "run")
    assert trained.start == f"model {load_model(SERVING).name}"
    served = load_model(SERVING).network
    assert torch.equal(trained.network.head.weight, served.head.weight)
    with pytest.raises(InvalidModel, match="nowhere"):
        train(replace(recipe, start="nowhere.json"), data, data, folder=tmp_path / "other")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_end_with_the_same_weights_and_resume(tmp_path: Path) -> None:
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         script, tmp_path],
        cwd=REPOSITORY, check=True, timeout=580,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert epochs_logged(tmp_path / "run") == [1, 2]
    first, later = (
        [torch.load(tmp_path / f"{epochs}-{rank}.pt") for rank in range(2)] for epochs in (1, 2)
    )
    for one, other in (first, later):
        for name, tensor in one.items():
            torch.testing.assert_close(other[name], tensor)
    assert not torch.equal(later[0]["head.weight"], first[0]["head.weight"])


@pytest.mark.usefixtures("narrow_networks")
def test_command_trains_measures_and_packages_a_model_that_serves(tmp_path: Path) -> None:
    data = slices(tmp_path, 160)
    manifest = write_manifest(tmp_path, data)
    folder = tmp_path / "run"
    arguments = ["train", "--manifest", str(manifest), "--out", str(folder), "--start", "scratch"]
    small = ["--architecture", "narrow-localisation", "--stages", "32:1", "--input-size", "32"]
    assert main([*arguments, *small, "--frozen", "0"]) == 0
    assert {path.name for path in folder.glob("*.png")} == {
        "confusion.png", "reliability.png", "roc.png", "training.png",
    }  # fmt: skip
    predictor = Predictor.load(folder / "narrow-localisation.json", device="cpu")
    (result,) = predictor.predict([read_path(data[0].path)[0].pixels])
    assert isinstance(result, Result)
    split = predictor.card["split"]
    parts = [split[name]["groups"] for name in ("training", "calibration", "validation")]
    assert sum(parts) == 160
    assert predictor.card["metrics"]["n"] == split["validation"]["slices"]
    assert 0.5 < predictor.card["doubt"]["tumor_share"] < 1


def test_transformer_is_packaged_at_its_own_size(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, slices(tmp_path, 160))
    given = ["--manifest", str(manifest), "--start", "scratch", "--frozen", "6"]
    small = ["--architecture", "dinov2-s14", "--stages", "28:1", "--input-size", "28"]
    folder = tmp_path / "run"
    assert main(["train", *given, *small, "--out", str(folder)]) == 0
    card = json.loads((folder / "dinov2-s14.json").read_text())
    assert card["metrics"]["n"] == card["split"]["validation"]["slices"]


@pytest.mark.usefixtures("narrow_networks")
def test_8_bit_integers_that_change_the_answers_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = write_manifest(tmp_path, slices(tmp_path, 160))
    folder = tmp_path / "run"
    given = ["--manifest", str(manifest), "--start", "scratch", "--out", str(folder)]
    small = ["--architecture", "narrow-uneven", "--stages", "32:4", "--input-size", "32"]
    assert main(["train", *given, *small, "--frozen", "4"]) == 0
    card = json.loads((folder / "narrow-uneven.json").read_text())
    assert "quantised" not in card
    assert not list(folder.glob("*.int8.*"))
    assert "int8" not in card["metrics"]["engine"]
    assert "left without 8-bit integers" in caplog.text


@pytest.mark.usefixtures("narrow_networks")
def test_model_that_learns_from_the_validation_part_is_measured_on_its_calibration_part(
    tmp_path: Path,
) -> None:
    manifest = write_manifest(tmp_path, slices(tmp_path, 160))
    given = ["--manifest", str(manifest), "--start", "scratch", "--frozen", "0"]
    small = ["--architecture", "narrow-localisation", "--stages", "32:1", "--input-size", "32"]
    folder = tmp_path / "run"
    assert main(["train", *given, *small, "--with-validation", "--out", str(folder)]) == 0
    path = folder / "narrow-localisation.json"
    card = load_model(path).card
    assert card["split"]["validation"] == {"slices": 0, "groups": 0}
    assert card["metrics"]["part"] == "calibration"
    assert card["metrics"]["n"] == card["split"]["calibration"]["slices"]
    assert main(["measure", "--model", str(path), "--manifest", str(manifest)]) == 0
    assert load_model(path).card["metrics"]["n"] == card["metrics"]["n"]
    leaking = ["--start", str(path), "--out", str(tmp_path / "leaking")]
    assert main(["train", *given, *small, *leaking]) == 1
    further = ["--start", str(path), "--out", str(tmp_path / "further"), "--with-validation"]
    assert main(["train", *given, *small, *further]) == 0


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
