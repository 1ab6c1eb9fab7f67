"""Models on disk: half-precision safetensors and a JSON card with their hash.

The card may also list a quantised copy of the network for OpenVINO, with its hashes.
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

from ml.architectures import ARCHITECTURES, Network, VGG16Twofold
from ml.errors import InvalidModel
from ml.labels import DECISION_THRESHOLD, LABELS
from ml.model_files import BUNDLED
from ml.operating_points import OperatingPoints
from ml.uncertainty.calibration import TUMOR_SHARE, Calibration
from ml.uncertainty.doubt import Doubt

SERVING = BUNDLED
_REFERENCE = "doubt.reference"
_LARGEST_FILE = 31_000_000  # bytes of tensors
# How much each opinion of a network with two counts in its logits: of the whole slice, and of its
# localisation head, which cards call ``places``. Cards from before decision 18 may say otherwise,
# or nothing where both counted alike.
_OPINIONS = {"whole": 1.0, "places": 0.0}


@dataclass(frozen=True)
class Model:
    """A network with its calibration and card.

    Attributes:
        card: data, split, metrics, input and limits.
        sha256: hash of the concatenated weights files; identifies the model.
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

    @property
    def operating_points(self) -> OperatingPoints:
        """The operating points of its card."""
        return OperatingPoints.of_card(self.card)


def save_model(
    network: Network, doubt: Doubt, card: dict[str, Any], *, folder: Path, stem: str
) -> Path:
    """Write ``stem.safetensors`` and ``stem.json``; return the card's path."""
    tensors = {
        name: tensor.detach().to(torch.float16).contiguous()
        for name, tensor in network.state_dict().items()
    }
    tensors[_REFERENCE] = doubt.reference.to(torch.float16).contiguous()
    contents = [save(shard) for shard in _shards(tensors)]
    names = [
        f"{stem}{f'-{number}' if number else ''}.safetensors" for number in range(len(contents))
    ]
    for name, content in zip(names, contents, strict=True):
        (folder / name).write_bytes(content)
    complete = card | {
        **OperatingPoints.of_card(card).entry(),
        **({"opinions": _OPINIONS} if isinstance(network, VGG16Twofold) else {}),
        "weights": {
            "files": names,
            "sha256": hashlib.sha256(b"".join(contents)).hexdigest(),
            "bytes": [len(content) for content in contents],
            "precision": "float16",
        },
        "doubt": {
            "offsets": list(doubt.calibration.offsets),
            "temperature": doubt.calibration.temperature,
            "set_thresholds": list(doubt.calibration.thresholds),
            "tumor_share": doubt.calibration.tumor_share,
            "no_tumor_from": doubt.calibration.no_tumor_from,
            "distance_limit": doubt.distance_limit,
        },
    }
    path = folder / f"{stem}.json"
    write_card(complete, path)
    return path


def _shards(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Split the tensors into files small enough for version control and code review."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if size + tensor.nbytes > _LARGEST_FILE and shards[-1]:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    return shards


def add_quantised(card_path: Path, quantised: Path, facts: dict[str, Any]) -> None:
    """Add a quantised network (``.xml`` and ``.bin``) in the card's folder to the card.

    Args:
        facts: measurements of the quantised network.
    """
    card = read_card(card_path)
    files = [quantised, quantised.with_suffix(".bin")]
    card["quantised"] = {"files": {file.name: _sha256(file) for file in files}} | facts
    write_card(card, card_path)


def remove_quantised(card_path: Path, quantised: Path) -> None:
    """Delete the entry of :func:`add_quantised` and the files, as far as they exist."""
    card = read_card(card_path)
    card.pop("quantised", None)
    write_card(card, card_path)
    for file in (quantised, quantised.with_suffix(".bin")):
        file.unlink(missing_ok=True)


def write_card(card: dict[str, Any], path: Path) -> None:
    """Write ``card`` as indented JSON."""
    path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def read_card(path: Path) -> dict[str, Any]:
    """Read a card that :func:`write_card` wrote.

    Raises:
        InvalidModel: the card is missing.
    """
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidModel(f"The card {path} cannot be read: {error}") from error
    return card


def enter_figures(path: Path, name: str, figures: dict[str, Any], *, command: str) -> None:
    """Add measurements of a model to its card, for the model's page.

    An earlier entry of the same name is replaced.

    Args:
        name: of the entry; :mod:`ml.reporting.measured_sections` lists those on the page.
        command: the command line of the measurement.

    Raises:
        InvalidModel: the card is missing.
    """
    write_card(read_card(path) | {name: {"command": command} | figures}, path)


def load_model(card_path: Path = SERVING) -> Model:
    """Load a model by its card and check the weights' hash.

    Raises:
        InvalidModel: something is missing, damaged, or does not fit.
    """
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        contents = [(card_path.parent / name).read_bytes() for name in card["weights"]["files"]]
        expected = card["weights"]["sha256"]
        numbers = card["doubt"]
        architecture = ARCHITECTURES[card["architecture"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidModel(f"The model {card_path} cannot be read: {error}") from error
    OperatingPoints.of_card(card)  # refuses invalid operating points before the model is used
    found = hashlib.sha256(b"".join(contents)).hexdigest()
    if found != expected:
        raise InvalidModel(f"The weights of {card_path} have another hash than their card says.")
    network = architecture.build()
    network.both_sides = bool(card.get("input", {}).get("both_sides", False))
    if isinstance(network, VGG16Twofold) and card.get("opinions") != _OPINIONS:
        raise InvalidModel(
            f"The model {card_path} answers by a mean of two opinions, which is no longer known: "
            "calibrate it for the opinion about the whole with an earlier version "
            "(calibrate --whole-share 1)."
        )
    try:
        tensors: dict[str, Tensor] = {}
        for content in contents:
            tensors |= load(content)
        reference = tensors.pop(_REFERENCE).float()
        network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise InvalidModel(f"The weights of {card_path} do not fit the architecture.") from error
    calibration = Calibration(
        # Old cards have no offsets.
        offsets=tuple(float(value) for value in numbers.get("offsets", [0.0] * len(LABELS))),
        temperature=float(numbers["temperature"]),
        thresholds=tuple(float(value) for value in numbers["set_thresholds"]),
        tumor_share=float(numbers.get("tumor_share", TUMOR_SHARE)),
        no_tumor_from=float(numbers.get("no_tumor_from", DECISION_THRESHOLD)),
    )
    doubt = Doubt(
        calibration,
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
