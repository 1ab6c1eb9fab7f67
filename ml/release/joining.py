"""Make one model from two: join their heads, or interpolate their weights."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from ml.architectures import VGG16GAP, Network, VGG16Localisation, VGG16Twofold
from ml.dataset import Split
from ml.errors import InvalidModel
from ml.registry import Model
from ml.release.packaging import Released, release, serving_recipe
from ml.training.trainer import Trained


def join(whole: Model, places: Model, split: Split, *, folder: Path) -> Released:
    """Join two models, refit the uncertainty and measure the result.

    Args:
        whole: of architecture ``vgg16-gap``.
        places: of architecture ``vgg16-odds``, trained from ``whole`` with its first four blocks
            frozen (24 layers).
        split: the one that both were trained on.

    Raises:
        InvalidModel: the two do not fit together.
    """
    if not isinstance(places.network, VGG16Localisation) or type(whole.network) is not VGG16GAP:
        raise InvalidModel("Joined are a vgg16-gap and a vgg16-odds, in this order.")
    _check_preparation(whole, places)
    network = VGG16Twofold.of(whole.network, places.network)
    training = {"whole": whole.card["training"], "places": places.card["training"]}
    trained = Trained(network, start=f"{whole.name} and {places.name}")
    return _released(trained, places.card, training, split, folder=folder, name="vgg16-twofold")


def blend(before: Model, after: Model, share: float, split: Split, *, folder: Path) -> Released:
    """Interpolate between the weights of a model and of one fine-tuned from it.

    The interpolation is often better than both, in and out of distribution: Wortsman et al. 2022
    (CVPR), "Robust fine-tuning of zero-shot models". The uncertainty is refitted and the result is
    measured.

    Args:
        share: of ``after``, in 0..1.
        split: the one that both were trained on.

    Raises:
        InvalidModel: the two do not fit together.
    """
    if before.card["architecture"] != after.card["architecture"]:
        raise InvalidModel("Only models of one architecture have anything between them.")
    _check_preparation(before, after)
    network = between(before.network, after.network, share)
    training = {
        "share_of_after": share,
        "before": before.card["training"],
        "after": after.card["training"],
    }
    trained = Trained(network, start=f"between {before.name} and {after.name}")
    name = after.card["architecture"]
    return _released(trained, after.card, training, split, folder=folder, name=name)


def between(before: Network, after: Network, share: float) -> Network:
    """A network with weights interpolated between two networks of the same architecture.

    Args:
        share: of ``after``, in 0..1.
    """
    network = copy.deepcopy(after)
    old = before.state_dict()
    weights = {
        name: old[name].lerp(new, share) if new.is_floating_point() else new
        for name, new in network.state_dict().items()
    }
    network.load_state_dict(weights)
    return network


def _check_preparation(one: Model, other: Model) -> None:
    if one.card["input"] | {"size": 0} != other.card["input"] | {"size": 0}:
        raise InvalidModel("The two models do not prepare slices alike.")


def _released(
    trained: Trained,
    card: dict[str, Any],
    training: dict[str, Any],
    split: Split,
    *,
    folder: Path,
    name: str,
) -> Released:
    """Release a network with the same preparation of slices as the model of ``card``."""
    recipe = replace(serving_recipe(card), architecture=name)
    facts = {"training": training, "data": card["data"]}
    return release(trained, recipe, split, folder=folder, stem=name, facts=facts)
