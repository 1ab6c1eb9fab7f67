"""Replayed features: what a model's head saw of its base collection, kept beside the weights.

The convolutions stay as they are when a head is fitted anew, so that their features of the base
collection stay as well: learning goes on from them without the images, and nothing is forgotten.
The file holds no picture and no name, and is good for one file of weights alone.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ml.dataset import Entry, Split, without_mirrored_twins
from ml.errors import InvalidModel
from ml.files import in_one_piece
from ml.registry import Model
from ml.release.features import (
    Features,
    Watch,
    exact_engine,
    features_of,
    serving_engine,
)

FORMAT = "1"
_PARTS = ("learnt", "unlearnt")

PartWatch = Callable[[str], Watch]  # by the name of the part


@dataclass(frozen=True)
class Replay:
    """Features of a model's base collection.

    Attributes:
        learnt: of its training part, without mirrored twins, by the engine that serves.
        unlearnt: of its calibration part, in float32; empty where the model kept none. No weight
            is fitted on it.
    """

    learnt: Features
    unlearnt: Features


def replay_path(card: Path) -> Path:
    """Where the replayed features of a card's model lie."""
    return card.with_name(f"{card.stem}.replay.safetensors")


def make_replay(
    model: Model,
    split: Split,
    watch: PartWatch,
    *,
    learnt: int | None = None,
    unlearnt: int | None = None,
) -> Replay:
    """Compute the features of a model's training and calibration part.

    Args:
        learnt, unlearnt: slices of each that are kept at most, drawn by a hash; all without it.

    Raises:
        UnreadableImage: a file is not a readable image.
    """
    known = sorted(without_mirrored_twins(split.training), key=drawn)[:learnt]
    new = sorted(split.calibration, key=drawn)[:unlearnt]
    return Replay(
        features_of(serving_engine(model), model, known, watch("training part")),
        features_of(exact_engine(model), model, new, watch("calibration part")),
    )


def save_replay(replay: Replay, path: Path, *, sha256: str) -> None:
    """Write the file in one piece.

    Args:
        sha256: of the weights whose features they are.
    """
    tensors: dict[str, Tensor] = {}
    for part in _PARTS:
        features: Features = getattr(replay, part)
        tensors |= {
            f"{part}.features": features.values.half().contiguous(),
            f"{part}.labels": features.labels.to(torch.uint8),
            f"{part}.groups": features.groups,
            f"{part}.folds": features.folds.to(torch.uint8),
        }
    with in_one_piece(path) as partial:
        partial.write_bytes(save(tensors, {"format": FORMAT, "weights_sha256": sha256}))


def load_replay(card: Path, model: Model) -> Replay:
    """The features that lie beside a card, made with these very weights.

    Raises:
        InvalidModel: there are none, they are damaged, or of other weights.
    """
    path = replay_path(card)
    if not path.exists():
        raise InvalidModel(
            f"{card} has no replayed features: python -m ml replay --model {card} --manifest "
            "FILE.csv makes them, --base FILE.csv computes them for this one time."
        )
    return read_replay(path, sha256=model.sha256)


def read_replay(path: Path, *, sha256: str) -> Replay:
    """Read what :func:`save_replay` wrote.

    Raises:
        InvalidModel: it is damaged, or of other weights.
    """
    try:
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InvalidModel(f"{path} cannot be read as safetensors.") from error
    if told.get("format") != FORMAT:
        raise InvalidModel(f"{path} holds replayed features of a format that is not known.")
    if told.get("weights_sha256") != sha256:
        raise InvalidModel(f"{path} holds features of other weights.")
    try:
        return Replay(*(_part(tensors, part) for part in _PARTS))
    except KeyError as error:
        raise InvalidModel(f"{path} lacks {error.args[0]}.") from error


def drawn(entry: Entry) -> str:
    """Sorts slices as if at random, the same each time."""
    return hashlib.sha256(f"replay:{entry.path.stem}".encode()).hexdigest()


def _part(tensors: dict[str, Tensor], part: str) -> Features:
    return Features(
        tensors[f"{part}.features"].float(),
        *(tensors[f"{part}.{name}"].long() for name in ("labels", "groups", "folds")),
    )
