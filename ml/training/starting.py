"""Build the network of a recipe and load its starting weights."""

from typing import Any

from ml.architectures import ARCHITECTURES, Network
from ml.errors import InvalidConfiguration
from ml.registry import load_model
from ml.training.recipe import Recipe


def build(recipe: Recipe) -> Network:
    """The recipe's network with random weights.

    Raises:
        InvalidConfiguration: the recipe does not match the network.
    """
    if recipe.architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise InvalidConfiguration(f"There is no network {recipe.architecture!r}, only {known}.")
    network = ARCHITECTURES[recipe.architecture].build()
    for size in (recipe.input_size, *(stage.size for stage in recipe.stages)):
        if size % network.multiple:
            raise InvalidConfiguration(
                f"{recipe.architecture} takes sizes that are multiples of {network.multiple}, "
                f"not {size}."
            )
    most = len(network.features) if network.most_frozen is None else network.most_frozen
    if recipe.frozen > most:
        raise InvalidConfiguration(
            f"{recipe.architecture} can keep its first {most} layers, frozen is {recipe.frozen}."
        )
    return network


def start(network: Network, recipe: Recipe) -> tuple[str, dict[str, Any] | None]:
    """Load the starting weights; return their description and their model's training history.

    Raises:
        InvalidModel: they are unavailable or do not fit.
    """
    history = None
    if recipe.starting_model is not None:
        model = load_model(recipe.starting_model)
        network.fill(model.network.state_dict(), recipe.start)
        words, history = f"model {model.name}", _history(model.card)
    else:
        words = network.start_from(recipe.start)
    return (f"{recipe.start_name} ({words})" if recipe.start_name else words), history


def _history(card: dict[str, Any]) -> dict[str, Any]:
    """Name and training of the model of ``card``, and further slices that it was trained on."""
    history = {"name": card["name"], "training": card["training"]}
    further = card.get("data", {}).get("further_training_slices")
    return history | ({"further_training_slices": further} if further else {})
