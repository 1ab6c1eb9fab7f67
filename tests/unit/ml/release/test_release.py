"""One command makes a model from its recipe, and goes on where it ended."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from ml.__main__ import main
from ml.dataset import read_manifest, split_as_kept
from ml.experiments.crossvalidation import unseen_by_folds
from ml.registry import load_model
from ml.serving.predictor import Predictor
from ml.uncertainty.calibration import Calibration
from tests.heads import slices, write_manifest

STEP = """
[[steps]]
name = "{name}"
[steps.recipe]
architecture = "narrow"
start = "{start}"
input_size = 32
frozen = 0
[[steps.recipe.stages]]
size = 32
epochs = 1
"""
BLEND = '[[steps]]\nname = "between"\nkind = "blend"\nof = ["one", "two"]\nshare = 0.25\n'
STEPS = STEP.format(name="one", start="scratch") + STEP.format(name="two", start="step:one") + BLEND


def recipe(folder: Path, text: str) -> str:
    path = folder / "recipe.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.usefixtures("narrow_networks")
def test_recipe_becomes_a_model_with_card_and_pages_and_a_rerun_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = slices(tmp_path, 96)
    manifest, out = str(write_manifest(tmp_path, data)), tmp_path / "out"
    config = recipe(tmp_path, "folds = 2\nquantised = false\n" + STEPS)
    release = ["release", "--config", config, "--manifest", manifest, "--out", str(out)]
    assert main(release) == 0
    path = out / "model" / "narrow.json"
    assert capsys.readouterr().out.strip().endswith(str(path))
    model = load_model(path)
    card = model.card
    assert card["split"]["calibration"] == {"slices": 0, "groups": 0}
    assert card["metrics"]["part"] == "validation"
    assert card["metrics"]["n"] == card["split"]["validation"]["slices"]
    learnt = card["split"]["training"]["slices"]
    assert card["calibration"]["slices"] == learnt == 96 - card["metrics"]["n"]
    assert card["cross_validations"]["group"]["n"] == learnt
    assert card["training"]["after"]["started_from"]["training"]["start"] == "scratch"
    unseen = unseen_by_folds(out / "folds", ["fold-1", "fold-2"])
    assert model.doubt.calibration == Calibration.fit(unseen.logits, unseen.labels)
    pages = "".join(page.read_text() for page in (out / "pages").glob("*.md"))
    assert "python -m ml release --config recipe.toml" in pages
    assert str(tmp_path) not in pages + json.dumps(card)
    assert Predictor.load(path, device="cpu").name == model.name
    assert len(split_as_kept(read_manifest(Path(manifest)), card).validation) == 96 - learnt

    # A run that stopped while it wrote the pages: all before it stays.
    kept = {file: file.stat().st_mtime_ns for file in out.glob("[sfcm]*/**/*.*")}
    shutil.rmtree(out / "pages")
    (out / "pages.partial").mkdir()
    (out / "pages.partial" / "half").touch()
    assert main(release) == 0
    changed = {file.name for file in kept if file.stat().st_mtime_ns != kept[file]}
    assert changed <= {"settings.json"}
    assert {page.name for page in (out / "pages").glob("*.md")} == {"model.md", "model-tables.md"}
    assert not (out / "pages" / "half").exists()
    assert not list(out.glob("*.partial"))

    content = data[0].path.read_bytes()
    data[0].path.write_bytes(data[1].path.read_bytes())
    assert main(release) == 1
    assert "part have changed since the release" in capsys.readouterr().err
    data[0].path.write_bytes(content)
    recipe(tmp_path, "folds = 3\nquantised = false\n" + STEPS)
    assert main(release) == 1
    assert "another recipe" in capsys.readouterr().err


@pytest.mark.usefixtures("narrow_networks")
def test_cross_validation_makes_the_folds_of_the_same_recipe(tmp_path: Path) -> None:
    manifest, out = str(write_manifest(tmp_path, slices(tmp_path, 48))), tmp_path / "folds"
    config = recipe(tmp_path, "folds = 2\n" + STEPS)
    crossval = ["crossval", "--config", config, "--manifest", manifest, "--out", str(out)]
    assert main(crossval) == 0
    figures = json.loads((out / "figures.json").read_text())
    assert (figures["n"], figures["start"]) == (48, "scratch")
    assert figures["calibrated_by_others"]
    one, two, between = (load_state(out / "fold-1" / name) for name in ("one", "two", "between"))
    torch.testing.assert_close(between, 0.75 * one + 0.25 * two)
    assert not torch.equal(one, two)
    assert main([*crossval, "--by", "source"]) == 1
    assert main([*crossval, "--batch", "8"]) == 1


def load_state(step: Path) -> torch.Tensor:
    """The first layer that a step made."""
    from safetensors.torch import load_file

    return load_file(step / "network.safetensors")["features.0.weight"]


@pytest.mark.usefixtures("narrow_networks")
def test_without_folds_the_doubt_is_fitted_on_a_calibration_part(tmp_path: Path) -> None:
    manifest, out = str(write_manifest(tmp_path, slices(tmp_path, 160))), tmp_path / "out"
    config = recipe(tmp_path, "folds = 1\n" + STEP.format(name="one", start="scratch"))
    assert main(["release", "--config", config, "--manifest", manifest, "--out", str(out)]) == 0
    card = load_model(out / "model" / "narrow.json").card
    assert "calibration" not in card
    assert card["split"]["calibration"]["slices"] > 0
    assert not (out / "folds").exists()
    assert (out / "pages" / "model.md").exists()
