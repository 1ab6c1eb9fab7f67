"""Models on disk: half-precision safetensors beside a JSON card that holds their hash.

A quantised copy of the network for OpenVINO may lie beside them, under hashes in the same card.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ml.architectures import ARCHITECTURES, Network
from ml.errors import InvalidModel
from ml.uncertainty import Doubt

SERVING = Path(__file__).with_name("weights") / "vgg16-gap.json"
_REFERENCE = "doubt.reference"


@dataclass(frozen=True)
class Model:
    """A network with everything that was fitted to it.

    Attributes:
        card: what a reader should know: data, split, metrics, input, limits.
        sha256: of the weights file; the model's identity.
        quantised: the same network in 8-bit integers, in OpenVINO's format; None without one.
    """

    network: Network
    doubt: Doubt
    card: dict[str, Any]
    sha256: str
    quantised: Path | None = None

    @property
    def name(self) -> str:
        """Name and version, as shown beside every result."""
        return str(self.card["name"])


def save_model(
    network: Network, doubt: Doubt, card: dict[str, Any], *, folder: Path, stem: str
) -> Path:
    """Write ``stem.safetensors`` and ``stem.json``; return the card's path."""
    tensors = {
        name: tensor.detach().to(torch.float16).contiguous()
        for name, tensor in network.state_dict().items()
    }
    tensors[_REFERENCE] = doubt.reference.to(torch.float16).contiguous()
    content = save(tensors)
    weights = folder / f"{stem}.safetensors"
    weights.write_bytes(content)
    complete = card | {
        "weights": {
            "file": weights.name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "precision": "float16",
        },
        "doubt": {
            "temperature": doubt.temperature,
            "set_thresholds": list(doubt.thresholds),
            "distance_limit": doubt.distance_limit,
        },
    }
    path = folder / f"{stem}.json"
    write_card(complete, path)
    return path


def add_quantised(card_path: Path, quantised: Path, facts: dict[str, Any]) -> None:
    """Enter a quantised network (``.xml``, its ``.bin`` beside it) of the same folder in the card.

    Args:
        facts: what was measured on it.
    """
    card = json.loads(card_path.read_text(encoding="utf-8"))
    files = [quantised, quantised.with_suffix(".bin")]
    card["quantised"] = {"files": {file.name: _sha256(file) for file in files}} | facts
    write_card(card, card_path)


def write_card(card: dict[str, Any], path: Path) -> None:
    """Write ``card`` as people can read it."""
    path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def load_model(card_path: Path = SERVING) -> Model:
    """Load a model by its card and check the weights' hash.

    Raises:
        InvalidModel: something is missing, damaged, or does not fit.
    """
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        content = (card_path.parent / card["weights"]["file"]).read_bytes()
        expected = card["weights"]["sha256"]
        numbers = card["doubt"]
        architecture = ARCHITECTURES[card["architecture"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidModel(f"The model {card_path} cannot be read: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise InvalidModel(f"The weights of {card_path} have another hash than their card says.")
    network = architecture.build()
    network.both_sides = bool(card.get("input", {}).get("both_sides", False))
    try:
        tensors: dict[str, Tensor] = load(content)
        reference = tensors.pop(_REFERENCE).float()
        network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise InvalidModel(f"The weights of {card_path} do not fit the architecture.") from error
    doubt = Doubt(
        temperature=float(numbers["temperature"]),
        thresholds=tuple(float(value) for value in numbers["set_thresholds"]),
        reference=reference,
        distance_limit=float(numbers["distance_limit"]),
    )
    return Model(network.eval(), doubt, card, found, _quantised(card, card_path.parent))


def _quantised(card: dict[str, Any], folder: Path) -> Path | None:
    files: dict[str, str] = card.get("quantised", {}).get("files", {})
    for name, expected in files.items():
        try:
            found = _sha256(folder / name)
        except OSError as error:
            raise InvalidModel(f"The quantised network {name} cannot be read.") from error
        if found != expected:
            raise InvalidModel(f"The quantised network {name} has another hash than its card says.")
    return next((folder / name for name in files if name.endswith(".xml")), None)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
