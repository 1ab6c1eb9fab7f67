"""A checkpoint comes back as it was, and only to the run that it is of."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from ml.errors import InvalidConfiguration
from ml.training.checkpoints import Checkpoint
from ml.training.recipe import Recipe, Stage

CPU = torch.device("cpu")


def checkpoint(**recipe: object) -> Checkpoint:
    return Checkpoint(
        epoch=2,
        step=30,
        network={"head.bias": torch.arange(4.0)},
        averaged={"head.bias": torch.ones(4)},
        optimizer={"state": {}},
        schedule={"last_epoch": 30},
        recipe=asdict(Recipe()) | recipe,
        start="scratch",
    )


def test_what_was_saved_comes_back_to_the_same_run_and_a_longer_one(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint().save(path)
    for recipe in (Recipe(), replace(Recipe(), stages=(Stage(128, 9),))):
        found = Checkpoint.load(path, recipe, CPU)
        assert (found.epoch, found.step, found.start) == (2, 30, "scratch")
        assert torch.equal(found.network["head.bias"], torch.arange(4.0))
        assert found.started_from is None
    assert [one.name for one in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_run_by_another_recipe_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint().save(path)
    with pytest.raises(InvalidConfiguration, match="batch = 32, not 8"):
        Checkpoint.load(path, Recipe(batch=8), CPU)


def test_run_by_an_option_that_is_gone_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint(mixup=0.2).save(path)
    with pytest.raises(InvalidConfiguration, match=r"mixup = 0\.2, which is no longer known"):
        Checkpoint.load(path, Recipe(), CPU)
    checkpoint(mixup=0.0).save(path)
    assert Checkpoint.load(path, Recipe(), CPU).epoch == 2


def test_run_from_before_a_field_was_renamed_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    kept = {name: value for name, value in asdict(Recipe()).items() if name != "inpainted"}
    replace(checkpoint(), recipe=kept | {"healed": 0.1}).save(path)
    assert Checkpoint.load(path, Recipe(inpainted=0.1), CPU).epoch == 2
    with pytest.raises(InvalidConfiguration, match=r"inpainted = 0\.1"):
        Checkpoint.load(path, Recipe(), CPU)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut off"])
def test_damaged_checkpoint_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(InvalidConfiguration, match=r"checkpoint\.pt is damaged"):
        Checkpoint.load(path, Recipe(), CPU)
