"""The state of a training run on disk, written after each epoch, from which a rerun goes on."""

import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ml.architectures.network import State
from ml.errors import InvalidConfiguration
from ml.files import in_one_piece
from ml.training.recipe import Recipe, kept_values

# What a rerun may change and still go on with the same run.
_CHANGEABLE = ("stages", "input_size", "flip", "start_name", "winograd")


@dataclass(frozen=True)
class Checkpoint:
    """A run after some epochs.

    Attributes:
        epoch, step: how many of each are done.
        network, averaged: the weights, and their moving average.
        optimizer, schedule: the state of both, as torch gives it.
        recipe: by field.
        start, started_from: as :class:`ml.training.trainer.Trained` has them.
    """

    epoch: int
    step: int
    network: State
    averaged: State
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    recipe: dict[str, Any]
    start: str
    started_from: dict[str, Any] | None = None

    def save(self, path: Path) -> None:
        """Write it in one piece: a run that is stopped meanwhile keeps the one before."""
        with in_one_piece(path) as partial:
            torch.save(vars(self), partial)

    @classmethod
    def load(cls, path: Path, recipe: Recipe, device: torch.device) -> "Checkpoint":
        """Read what :meth:`save` wrote.

        Args:
            recipe: the one that the run is to go on by.
            device: what the tensors are put on.

        Raises:
            InvalidConfiguration: the file is damaged, or of a run by another recipe.
        """
        try:
            found = cls(**torch.load(path, map_location=device, weights_only=True))
        except (OSError, EOFError, RuntimeError, TypeError, pickle.UnpicklingError) as error:
            raise InvalidConfiguration(
                f"The checkpoint {path} is damaged: delete it, or name another folder."
            ) from error
        _check_same_run(found.recipe, recipe, path.parent)
        return found


def _check_same_run(kept: Mapping[str, Any], recipe: Recipe, folder: Path) -> None:
    before, now = kept_values(kept), asdict(recipe)
    if gone := [name for name in before if name not in now]:
        raise InvalidConfiguration(
            f"{folder} holds a run with {gone[0]} = {before[gone[0]]!r}, which is no longer "
            "known: name another folder."
        )
    for name in now:
        if name not in _CHANGEABLE and before[name] != now[name]:
            raise InvalidConfiguration(
                f"{folder} holds a run with {name} = {before[name]!r}, not {now[name]!r}: name "
                "another folder."
            )
