"""Fit a linear head anew on pooled features: new slices and replayed ones, held to the old weights.

What is fitted is a change of the head that serves, by multinomial logistic regression at its own
temperature. The change costs its square, in units of the channels' deviation on the base
collection: a Gaussian prior around the old weights. How strongly it is held is chosen on answers
about groups that were left out, where "not at all changed" is among the choices.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ml.architectures import Network
from ml.dataset.snapshot import fold_of
from ml.errors import InvalidManifest, InvalidModel
from ml.labels import LABELS
from ml.release.features import Features
from ml.release.replay import Replay
from ml.uncertainty.doubt import Doubt, Unseen
from ml.uncertainty.ood.feature_distance import Subspace

# How strongly the head is held: 1 is a standard normal prior over each weight's change.
STRENGTHS = (1.0, 10.0, 100.0, 1000.0, 3000.0, 10000.0, float("inf"))
_STEPS = 60
_REFERENCE = 1200  # features that say what is familiar
_LEAST_DEVIATION = 0.05  # of a channel, beside the usual one

Told = Callable[[int, int], None]


@dataclass(frozen=True)
class Head:
    """A linear layer: (4, C) weights and (4,) biases, float64."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, network: Network) -> Self:
        """The one that serves."""
        layer = network.head
        return cls(layer.weight.detach().double(), layer.bias.detach().double())

    @classmethod
    def blank(cls, width: int) -> Self:
        """One that says nothing."""
        return cls(
            torch.zeros(len(LABELS), width, dtype=torch.float64),
            torch.zeros(len(LABELS), dtype=torch.float64),
        )

    def logits(self, values: Tensor) -> Tensor:
        """(N, C) features to (N, 4) float64."""
        return values.double() @ self.weight.T + self.bias

    @torch.no_grad()
    def put_into(self, network: Network) -> None:
        """Let the network answer by this head."""
        network.head.weight.copy_(self.weight)
        network.head.bias.copy_(self.bias)


@dataclass(frozen=True)
class Local:
    """A snapshot's training slices as the head sees them.

    Attributes:
        exact: in float32, as they are; doubt is fitted on them.
        views: the same slices, as they are and varied, by the engine that serves; they are learnt
            from.
    """

    exact: Features
    views: Sequence[Features]

    @property
    def folds(self) -> Tensor:
        """(N,) number of the fold that a slice is left out with; a group has one."""
        return self.exact.folds

    @property
    def fold_numbers(self) -> list[int]:
        """Those that there are."""
        return sorted(set(self.folds.tolist()))


@dataclass(frozen=True)
class HeadData:
    """What heads are fitted on.

    Attributes:
        learnt: (N,) bool, the slices of the snapshot that may be learnt from; the others are
            answered all the same.
    """

    old: Head
    temperature: float
    local: Local
    replay: Replay
    learnt: Tensor


def fit_head(data: HeadData, chosen: Tensor, strength: float) -> Head:
    """Fit to the chosen slices of the snapshot (N,) bool, and stay with the old answers elsewhere.

    Of the snapshot the labels are learnt, each slice counting once, whatever the number of its
    views. Of replayed slices that the old head calls right, its own answers are, as they are: Li
    and Hoiem 2016 (ECCV), "Learning without Forgetting". Their labels would teach nothing but
    certainty, because the convolutions have learnt these very slices.
    """
    if strength == float("inf"):
        return data.old
    parts = [view.where(chosen & data.learnt) for view in data.local.views]
    said = data.old.logits(data.replay.learnt.values)
    known = data.replay.learnt.where(said.argmax(1) == data.replay.learnt.labels)
    values = torch.cat([known.values, *(part.values for part in parts)]).double()
    wanted = torch.cat(
        [
            torch.softmax(data.old.logits(known.values) / data.temperature, 1),
            *(F.one_hot(part.labels, len(LABELS)).double() for part in parts),
        ]
    )
    weights = torch.full((len(values),), 1 / len(parts), dtype=torch.float64)
    weights[: len(known)] = 1
    return _changed(data, values, wanted, weights, strength)


def _changed(
    data: HeadData, values: Tensor, wanted: Tensor, weights: Tensor, strength: float
) -> Head:
    centre, deviation = _scale(data.replay.learnt.values)
    scaled = torch.cat(
        [(values - centre) / deviation, torch.ones(len(values), 1, dtype=values.dtype)], 1
    )
    before = data.old.logits(values)
    change = torch.zeros(len(LABELS), scaled.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [change], max_iter=_STEPS, tolerance_change=1e-7, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = (before + scaled @ change.T) / data.temperature
        wrong = F.cross_entropy(logits, wanted, reduction="none")
        # Divided by the number of slices, which leaves the minimum where it is.
        cost = ((weights * wrong).sum() + strength / 2 * change.square().sum()) / weights.sum()
        cost.backward()  # type: ignore[no-untyped-call]
        return cost

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    found = change.detach()
    weight = found[:, :-1] / deviation
    return Head(data.old.weight + weight, data.old.bias + found[:, -1] - weight @ centre)


def _scale(known: Tensor) -> tuple[Tensor, Tensor]:
    """(C,) mean and deviation of the base collection's features; dead channels stay small."""
    deviation = known.double().std(0)
    usual = deviation.median().clamp(min=1e-6)
    return known.double().mean(0), torch.maximum(deviation, _LEAST_DEVIATION * usual)


@dataclass(frozen=True)
class CrossFitted:
    """Heads that leave out a fold each.

    With fewer, larger folds the heads would have learnt less than the final one, and its
    probabilities would come out too cautious.

    Attributes:
        logits: (N, 4) about the snapshot's slices, each by the head that left its group out.
        base_loss: mean negative log-likelihood of the heads about the base's unlearnt slices.
    """

    logits: Tensor
    base_loss: float | None


def cross_fit(data: HeadData, strength: float, told: Callable[[], None]) -> CrossFitted:
    """Answer every slice of the snapshot by a head that has learnt nothing of its group.

    The groups must have passed :func:`check_groups`.
    """
    folds, numbers = data.local.folds, data.local.fold_numbers
    exact, base = data.local.exact, data.replay.unlearnt
    logits = torch.empty(len(exact), len(LABELS), dtype=torch.float64)
    losses = []
    for number in numbers:
        left_out = folds == number
        head = fit_head(data, ~left_out, strength)
        logits[left_out] = head.logits(exact.values[left_out])
        if len(base):
            losses.append(_loss(data, head.logits(base.values), base.labels))
        told()
    return CrossFitted(logits, sum(losses) / len(losses) if losses else None)


@dataclass(frozen=True)
class Chosen:
    """How strongly the head is held, and what each choice cost.

    Attributes:
        losses: for each strength, the mean negative log-likelihood about the snapshot's groups that
            were left out, and about the base's unlearnt slices (None without any).
    """

    strength: float
    fitted: CrossFitted
    losses: dict[float, tuple[float, float | None]]


def choose_strength(data: HeadData, told: Told) -> Chosen:
    """The strength whose heads answer both collections best, each counting alike."""
    folds = len(data.local.fold_numbers)
    done = 0

    def counted() -> None:
        nonlocal done
        done += 1
        told(done, folds * len(STRENGTHS))

    fitted = {strength: cross_fit(data, strength, counted) for strength in STRENGTHS}
    losses = {
        strength: (_loss(data, one.logits, data.local.exact.labels), one.base_loss)
        for strength, one in fitted.items()
    }
    # Of equals the one that changes least.
    best = min(
        reversed(STRENGTHS), key=lambda strength: losses[strength][0] + (losses[strength][1] or 0.0)
    )
    return Chosen(best, fitted[best], losses)


def fit_doubt(data: HeadData, head: Head, fitted: CrossFitted) -> Doubt:
    """Doubt from answers about groups that the heads had not learnt: cross-conformal prediction.

    The snapshot's slices are answered by the head that left their group out, the base's unlearnt
    ones by the final head.
    """
    exact, base = data.local.exact, data.replay.unlearnt
    known = data.replay.learnt.values
    folds = data.local.folds
    distances = torch.empty(len(exact))
    for number in data.local.fold_numbers:
        left_out = folds == number
        others = Subspace.of(_reference(known, exact.values[~left_out]))
        distances[left_out] = others.distance(exact.values[left_out])
    reference = _reference(known, exact.values)
    unseen = [Unseen(fitted.logits.float(), exact.labels, distances)]
    if len(base):
        said = head.logits(base.values).float()
        unseen.append(Unseen(said, base.labels, Subspace.of(reference).distance(base.values)))
    return Doubt.fit(Unseen.together(unseen), reference)


def check_groups(names: Iterable[str]) -> None:
    """Make sure that some of a snapshot's training groups can be left out.

    Raises:
        InvalidManifest: all lie in one fold.
    """
    if len({fold_of(name) for name in names}) < 2:
        raise InvalidManifest(
            "The snapshot's training groups are too few: no part of them can be left out."
        )


def check_head(network: Network, name: str) -> None:
    """Make sure that a network answers by one linear layer on pooled features.

    Raises:
        InvalidModel: it does not.
    """
    if not network.answers_linearly:
        raise InvalidModel(
            f"{name} answers by the places of a slice, not by one linear layer: --mode full."
        )


def _reference(known: Tensor, local: Tensor) -> Tensor:
    """(M, C) unit-length features, evenly spaced among all that was learnt."""
    both = torch.cat([known, local])
    return F.normalize(both[:: max(1, len(both) // _REFERENCE)][:_REFERENCE], dim=1)


def _loss(data: HeadData, logits: Tensor, labels: Tensor) -> float:
    return float(F.cross_entropy(logits / data.temperature, labels))
