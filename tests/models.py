"""Models that differ from the bundled one, made from it."""

from pathlib import Path

import torch

from ml.model_files import BUNDLED
from ml.registry import load_model, save_model

_MADE_ANEW = ("weights", "doubt", "quantised", "opinions")


def biased_model(folder: Path, *, name: str = "vgg16-biased", bias: float = 0.25) -> Path:
    """The bundled network with a shifted bias of its last layer, in float32; return its card."""
    model = load_model(BUNDLED)
    with torch.no_grad():
        last = [one for key, one in model.network.named_parameters() if key.endswith("bias")][-1]
        last[0] += bias
    card = {key: value for key, value in model.card.items() if key not in _MADE_ANEW}
    folder.mkdir(parents=True, exist_ok=True)
    return save_model(
        model.network, model.doubt, card | {"name": name}, folder=folder, stem="biased"
    )
