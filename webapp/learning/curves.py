"""The figures of a retraining in rows: losses by strength of the prior, and by epoch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class StrengthRow:
    """The loss of heads that left the patients out, by how strongly the head is held.

    Attributes:
        strength: of the prior; None where the head stays unchanged.
        base: None where there is no calibration part of the base collection.
        is_least: whether the sum of both losses is the least one, which is taken.
    """

    strength: float | None
    snapshot: float
    base: float | None
    is_least: bool


@dataclass(frozen=True)
class EpochRow:
    """One epoch of a training."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Curves:
    """What is known of a retraining by now; both are empty at first."""

    losses: Sequence[StrengthRow]
    epochs: Sequence[EpochRow]


def curves_of(figures: Mapping[str, Any]) -> Curves:
    """The figures of a :class:`webapp.learning.models.Retraining`."""
    return Curves(_losses(figures.get("losses") or {}), _epochs(figures.get("epochs") or []))


def _losses(table: Mapping[str, Mapping[str, float | None]]) -> list[StrengthRow]:
    """From weak to strong; the unchanged head last."""
    rows = sorted((_held(name), one["snapshot"] or 0.0, one["base"]) for name, one in table.items())
    totals = [own + (base or 0.0) for _strength, own, base in rows]
    # Of equals the one that changes least.
    least = min(range(len(rows)), key=lambda n: (totals[n], -n), default=None)
    return [
        StrengthRow(strength if math.isfinite(strength) else None, own, base, n == least)
        for n, (strength, own, base) in enumerate(rows)
    ]


def _held(name: str) -> float:
    return math.inf if name == "unchanged" else float(name)


def _epochs(rows: Sequence[Mapping[str, float]]) -> list[EpochRow]:
    return [EpochRow(one["loss"], one["held_out_accuracy"]) for one in rows]
