"""A release's recipe is read with all its steps, and what is wrong in it is named."""

from pathlib import Path

import pytest

from config import REPOSITORY
from ml.errors import InvalidConfiguration
from ml.release.plan import is_plan, read_plan

TRAIN = '[[steps]]\nname = "one"\n[steps.recipe]\narchitecture = "vgg16-gap"\n'
BLEND = '[[steps]]\nname = "between"\nkind = "blend"\nof = ["one", "two"]\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_recipe_of_what_serves_goes_from_published_weights_to_one_network() -> None:
    path = REPOSITORY / "ml" / "recipes" / "serving.toml"
    assert is_plan(path)
    plan = read_plan(path, {})
    assert [step.kind for step in plan.steps] == [
        "train", "train", "join", "train", "blend", "train", "blend",
    ]  # fmt: skip
    assert plan.serving.architecture == "vgg16-twofold"
    assert plan.serving.input_size == 176
    training = plan.training(plan.steps[-1].name)
    assert training["share_of_after"] == 0.6
    assert training["before"]["before"]["whole"]["start"] == "imagenet"
    assert training["after"]["started_from"]["training"] == training["before"]
    started = read_plan(path, {"start": "/secret/weights.safetensors"})
    assert "secret" not in str(started.training(plan.steps[-1].name))


def test_recipe_of_one_training_is_a_release_of_one_step(tmp_path: Path) -> None:
    plain = REPOSITORY / "ml" / "recipes" / "whole.toml"
    assert not is_plan(plain)
    plan = read_plan(plain, {})
    assert [step.kind for step in plan.steps] == ["train"]
    assert (plan.folds, plan.serving.architecture) == (5, "vgg16-gap")
    assert is_plan(written(tmp_path, "folds = 1\n" + plain.read_text()))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("steps = []", "at least one"),
        ("folds = 99\n" + TRAIN, "folds go from 1 to 20"),
        ("wrong = 1\n" + TRAIN, "wrong is not known"),
        (TRAIN.replace("one", "../one"), "small letters"),
        (TRAIN + TRAIN, "two steps are called one"),
        (TRAIN.replace('"one"', '"one"\nkind = "mix"'), "'mix' is none of"),
        (TRAIN + BLEND, "no step before is 'two'"),
        (TRAIN + BLEND.replace(', "two"', ""), "of two steps"),
        (TRAIN + BLEND.replace('"two"', '"one"') + "share = 1.5", "share goes from 0 to 1"),
        (BLEND.replace('"one", "two"', '"between", "between"'), "no step before"),
        (TRAIN + 'start = "step:two"', "no step before is 'two'"),
        (TRAIN + 'start = "served.json"', "has learnt from slices"),
        (TRAIN + "batch = 0", "batch is 0"),
        (TRAIN + TRAIN.replace("one", "two") + 'preprocessing = "raw"', "alike"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InvalidConfiguration, match=told):
        read_plan(written(tmp_path, text), {})


def test_values_of_steps_are_not_overridden(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="batch is told there"):
        read_plan(written(tmp_path, TRAIN), {"batch": 8})
