"""Make one model of two that share their first four blocks: the whole judged by one, places by
the other.
"""

from pathlib import Path
from typing import Any

from ml.architectures import VGG16GAP, VGG16Odds, VGG16Twofold
from ml.dataset import Split
from ml.errors import InvalidModel
from ml.recipe import Recipe
from ml.registry import Model
from ml.release import Released, release
from ml.training import Trained

_NAME = "vgg16-twofold"


def join(whole: Model, places: Model, split: Split, *, folder: Path, stem: str) -> Released:
    """Join two models, fit the doubt anew and measure the result.

    Args:
        whole: of architecture ``vgg16-gap``.
        places: of architecture ``vgg16-odds``, trained from ``whole`` with its first four blocks
            frozen (24 layers).
        split: the one that both were trained on.

    Raises:
        InvalidModel: the two do not fit together.
    """
    if not isinstance(places.network, VGG16Odds) or type(whole.network) is not VGG16GAP:
        raise InvalidModel("Joined are a vgg16-gap and a vgg16-odds, in this order.")
    if whole.card["input"] | {"size": 0} != places.card["input"] | {"size": 0}:
        raise InvalidModel("The two models do not prepare slices alike.")
    network = VGG16Twofold.of(whole.network, places.network)
    recipe = Recipe(
        architecture=_NAME,
        preprocessing=places.card["input"]["preprocessing"],
        input_size=int(places.card["input"]["size"]),
        seed=int(places.card["split"]["seed"]),
    )
    facts: dict[str, Any] = {
        "training": {"whole": whole.card["training"], "places": places.card["training"]},
        "data": places.card["data"],
    }
    trained = Trained(network, start=f"{whole.name} and {places.name}")
    return release(trained, recipe, split, folder=folder, stem=stem, facts=facts)
