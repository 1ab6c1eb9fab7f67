"""Pooled features of slices: all that a linear head sees of them."""

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ml.dataset import Entry
from ml.dataset.snapshot import fold_of
from ml.dataset.tensors import prepare
from ml.labels import INDEX
from ml.registry import Model
from ml.serving.engines import Engine, TorchEngine, choose_device, choose_engine

_BATCH = 16
_PIECE = 256  # slices that are prepared at once

# Told after each batch: slices done, slices in all. What it raises ends the work.
Watch = Callable[[int, int], None]


@dataclass(frozen=True)
class Features:
    """Slices as the head sees them.

    Attributes:
        values: (N, C) float32 pooled features.
        labels: (N,) int64 class indices.
        groups: (N,) int64 of :func:`group_number`.
        folds: (N,) int64 of :func:`ml.dataset.snapshot.fold_of`.
    """

    values: Tensor
    labels: Tensor
    groups: Tensor
    folds: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(cls, values: Tensor, entries: Sequence[Entry]) -> "Features":
        """(N, C) ``values`` of ``entries``."""
        names = [entry.group for entry in entries]
        return cls(
            values.float(),
            torch.tensor([INDEX[entry.label.value] for entry in entries], dtype=torch.int64),
            torch.tensor([group_number(name) for name in names], dtype=torch.int64),
            torch.tensor([fold_of(name) for name in names], dtype=torch.int64),
        )

    def where(self, chosen: Tensor) -> "Features":
        """Those that a mask (N,) or positions choose."""
        parts = (self.values, self.labels, self.groups, self.folds)
        return Features(*(part[chosen] for part in parts))


def group_number(group: str) -> int:
    """A group's name as 63 bits of its SHA-256: it can be told apart, and not be read."""
    return int(hashlib.sha256(group.encode()).hexdigest()[:16], 16) >> 1


def serving_engine(model: Model) -> Engine:
    """What serves on this machine. Weights are fitted on what it makes of slices."""
    return choose_engine(_own(model), choose_device("auto"))


def exact_engine(model: Model) -> Engine:
    """Float32. Doubt is fitted on what it makes of slices."""
    return TorchEngine(_own(model).network, device=choose_device("auto"), dtype=torch.float32)


def pooled_features(engine: Engine, images: Tensor, watch: Watch | None = None) -> Tensor:
    """(N, C) float32 of prepared slices (N, 1, S, S)."""
    found = []
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH].float().contiguous()
        found.append(engine.run(batch.numpy()).features)
        if watch is not None:
            watch(min(start + _BATCH, len(images)), len(images))
    return torch.cat(found)


def features_of(
    engine: Engine, model: Model, entries: Sequence[Entry], watch: Watch | None = None
) -> Features:
    """Read, prepare and answer slices, a few hundred at a time.

    Raises:
        UnreadableImage: a file is not a readable image.
    """
    found = []
    for start in range(0, len(entries), _PIECE):
        piece = list(entries[start : start + _PIECE])
        found.append(pooled_features(engine, prepared(model, piece), _from(watch, start, entries)))
    width = model.doubt.reference.shape[1]
    return Features.of(torch.cat(found) if found else torch.empty(0, width), entries)


def prepared(model: Model, entries: list[Entry]) -> Tensor:
    """(N, 1, S, S) float16 in 0..1, as the model takes slices.

    Raises:
        UnreadableImage: a file is not a readable image.
    """
    taken = model.card["input"]
    return prepare(entries, preprocessing=taken["preprocessing"], size=taken["size"]).images


def _from(watch: Watch | None, start: int, entries: Sequence[Entry]) -> Watch | None:
    """Counts on after ``start`` slices."""
    if watch is None:
        return None
    return lambda done, _total: watch(start + done, len(entries))


def _own(model: Model) -> Model:
    """A copy: an engine moves its network to its device and precision."""
    return Model(
        copy.deepcopy(model.network), model.doubt, model.card, model.sha256, model.quantised
    )
