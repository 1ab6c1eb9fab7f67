"""Checkpoints of a training run, written after each epoch, from which a rerun resumes."""

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

# Fields that a rerun may change and still resume the run.
_CHANGEABLE = ("stages", "input_size", "flip", "start_name", "winograd")


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after some epochs.

    Attributes:
        epoch, step: number of completed epochs and steps.
        network, averaged: the weights, and their moving average.
        optimizer, schedule: torch's state of both.
        recipe: values by field.
        start, started_from: as in :class:`ml.training.trainer.Trained`.
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
        """Write atomically: if the run is stopped meanwhile, the previous checkpoint stays."""
        with in_one_piece(path) as partial:
            torch.save(vars(self), partial)

    @classmethod
    def load(cls, path: Path, recipe: Recipe, device: torch.device) -> "Checkpoint":
        """Read a checkpoint of :meth:`save`.

        Args:
            recipe: the recipe to continue with.
            device: the device for the tensors.

        Raises:
            InvalidConfiguration: the file is damaged or from a run with another recipe.
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
