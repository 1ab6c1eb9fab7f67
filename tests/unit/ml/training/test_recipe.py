"""A recipe is read strictly: what is not known, of a wrong type or out of range is refused."""

from pathlib import Path

import pytest

from ml.architectures.vgg import SHARED
from ml.errors import InvalidConfiguration
from ml.training.recipe import Recipe, Stage, read_recipe

RECIPES = Path(__file__).parents[4] / "ml" / "recipes"


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_file_and_options_replace_the_usual_values(tmp_path: Path) -> None:
    path = written(
        tmp_path, "batch = 8\nseed = 3\nweight_decay = 0\n[[stages]]\nsize = 64\nepochs = 2"
    )
    recipe = read_recipe(path, {"seed": 4, "manifest": Path("passed-over.csv")})
    assert recipe == Recipe(batch=8, seed=4, weight_decay=0.0, stages=(Stage(64, 2),))


def test_both_halves_of_the_serving_model_have_their_recipe() -> None:
    whole, places = (read_recipe(RECIPES / f"{name}.toml", {}) for name in ("whole", "places"))
    assert whole.architecture == "vgg16-gap"
    assert places.architecture == "vgg16-odds"
    assert places.frozen == SHARED
    # What one has learnt to see, the other sees as well.
    assert whole.preprocessing == places.preprocessing
    assert whole.input_size == places.input_size


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("batchsize = 8", "batchsize"),
        ("mixup = 0.2", "mixup is not known"),  # there was once
        ("balance = 0.5", "balance is not known"),  # as well
        ("batch = 'eight'", "batch"),
        ("batch = true", "batch"),
        ("batch = 0", "batch"),
        ("body_rate = nan", "body_rate"),
        ("stages = 3", "stages"),
        ("stages = []", "stages"),
        ("stages = [{size = 64}]", "epochs"),
        ("stages = [{size = 64, epochs = 0}]", "epochs"),
        ("frozen = 0\nvariants = 2", "variants"),
        ("batch = ", "recipe.toml"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match=said):
        read_recipe(written(tmp_path, text), {})


def test_earlier_name_of_a_field_still_reads_unless_both_are_given(tmp_path: Path) -> None:
    assert read_recipe(written(tmp_path, "healed = 0.1"), {}) == Recipe(inpainted=0.1)
    with pytest.raises(InvalidConfiguration, match="earlier name of inpainted"):
        read_recipe(written(tmp_path, "healed = 0.1\ninpainted = 0.2"), {})


def test_missing_file_is_named() -> None:
    with pytest.raises(InvalidConfiguration, match="nowhere"):
        read_recipe(Path("nowhere.toml"), {})
