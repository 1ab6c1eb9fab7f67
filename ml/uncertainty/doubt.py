"""Doubt: calibrated probabilities, prediction sets, and whether the slice looks familiar at all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.optimize import minimize, minimize_scalar
from torch import Tensor

from ml.labels import INDEX, LABELS, RATHER, Label, called

ALPHA = 0.05  # the prediction set may miss the true class this often
MISSED = 0.01  # of the tumours may be called none
_NEVER_RULED_OUT = 0.25  # probability of a class that every prediction set holds
TUMOR_SHARE = 0.71  # of the slices of the collection, for calibrations that do not tell theirs
_DIRECTIONS = 16  # of the subspace that training slices lie in
# Share of slices that the network has not learnt from that lie within what counts as familiar.
_WITHIN_LIMIT = 0.99
# The weight of the features beside the rule about the picture, and how much of both together is
# still familiar; chosen on odd pictures of both halves and on slices of unseen sources, so
# that the figures of the held-out half are clean for the rule alone and not for this choice.
_FEATURES_WEIGHT = 2.0
_FAMILIAR = -0.3


@dataclass(frozen=True)
class Subspace:
    """The principal subspace that the features of training slices lie in.

    The distance from it is the residual of Hoffmann 2007 (Pattern Recognition 40, "Kernel PCA for
    novelty detection"), linear. Measured (docs/research/familiarity.md) it separates odd pictures
    from brains of unseen sources better than the distance to the nearest neighbours, Mahalanobis
    distance, energy and the largest probability.

    Attributes:
        centre: (512,) mean of the unit-length features.
        directions: (16, 512) orthonormal.
    """

    centre: Tensor
    directions: Tensor

    @classmethod
    def of(cls, reference: Tensor) -> "Subspace":
        """Fit to (M, 512) features of unit length."""
        known = reference.float()
        centre = known.mean(0)
        _, _, directions = torch.linalg.svd(known - centre, full_matrices=False)
        return cls(centre, directions[:_DIRECTIONS])

    def distance(self, features: Tensor) -> Tensor:
        """(N, 512) features of any length to (N,) distances, 0 or more."""
        offset = F.normalize(features.float(), dim=1) - self.centre
        beside: Tensor = offset - offset @ self.directions.T @ self.directions
        distance: Tensor = torch.linalg.vector_norm(beside, dim=1)
        return distance


@dataclass(frozen=True)
class Calibration:
    """From a network's logits to probabilities and prediction sets.

    Attributes:
        offsets: added to the logits, one for each class.
        temperature: divides them then (Guo et al. 2017, ICML).
        thresholds: for each class, the largest ``1 - probability`` that is still admitted to
            the prediction set.
        tumor_share: in 0..1, of the slices that it was fitted on. A probability means what it says
            where tumours are as frequent as there.
        no_tumor_from: probability from which on a slice is called no tumour; see
            :func:`fit_no_tumor_from`.
    """

    offsets: tuple[float, ...]
    temperature: float
    thresholds: tuple[float, ...]
    tumor_share: float = TUMOR_SHARE
    no_tumor_from: float = RATHER

    @classmethod
    def fit(cls, logits: Tensor, labels: Tensor) -> "Calibration":
        """Fit to (N, 4) logits and (N,) classes of slices that the network has not learnt from."""
        offsets = fit_offsets(logits, labels)
        temperature = fit_temperature(logits + offsets, labels)
        draft = cls(tuple(offsets.tolist()), temperature, ())
        probabilities = draft.probabilities(logits).numpy()
        return replace(
            draft,
            thresholds=fit_thresholds(probabilities, labels.numpy()),
            tumor_share=_tumor_share(labels),
            no_tumor_from=fit_no_tumor_from(probabilities, labels.numpy()),
        )

    def probabilities(self, logits: Tensor) -> Tensor:
        """(N, 4) logits to (N, 4) calibrated probabilities, float64."""
        shifted = logits.double() + torch.tensor(self.offsets, dtype=torch.float64)
        return torch.softmax(shifted / self.temperature, dim=1)

    def label(self, probabilities: npt.NDArray[np.float64]) -> Label:
        """What a slice by itself is called."""
        return called(probabilities, no_tumor_from=self.no_tumor_from)

    def prediction_set(
        self, probabilities: npt.NDArray[np.float64], label: Label
    ) -> tuple[Label, ...]:
        """The classes that cannot be ruled out, likeliest first.

        The likeliest class and what the slice is called are always among them, also where their
        own thresholds would not admit them: an answer that the set leaves out would confuse. So is
        every class with a chance of one in four: the thresholds rule out a class that the slices
        of it hardly ever leave in doubt, and yet nobody would call the other one fairly certain. A
        larger set covers no less.

        Args:
            label: what the slice is called, by itself or in its volume.
        """
        likeliest, *others = np.argsort(-probabilities, kind="stable")
        admitted = [
            i
            for i in others
            if 1 - probabilities[i] <= self.thresholds[i]
            or probabilities[i] >= _NEVER_RULED_OUT
            or LABELS[i] is label
        ]
        return tuple(LABELS[i] for i in (likeliest, *admitted))


@dataclass(frozen=True)
class Unseen:
    """What networks say about slices that they have not learnt from.

    Attributes:
        logits: (N, 4) float32, without offsets.
        labels: (N,) class indices.
        distances: (N,) of the features from the subspace of the network's training slices.
    """

    logits: Tensor
    labels: Tensor
    distances: Tensor

    @classmethod
    def together(cls, parts: Sequence["Unseen"]) -> "Unseen":
        """Of several networks, one behind the other."""
        return cls(
            torch.cat([part.logits for part in parts]),
            torch.cat([part.labels for part in parts]),
            torch.cat([part.distances for part in parts]),
        )


@dataclass(frozen=True)
class Doubt:
    """What was fitted on patients that the weights never saw.

    Attributes:
        calibration: of what the network's last layer gives without the offsets. The network that
            is saved gives them already.
        reference: (M, 512) unit-length features of training slices.
        distance_limit: distance from the reference's subspace that all but a few slices of
            unseen patients keep within.
    """

    calibration: Calibration
    reference: Tensor
    distance_limit: float

    @classmethod
    def fit(cls, unseen: Unseen, reference: Tensor) -> "Doubt":
        """Fit to what the network, or others like it, say about slices that are new to them.

        Args:
            reference: (M, 512) unit-length features of the network's training slices.
        """
        return cls(
            Calibration.fit(unseen.logits, unseen.labels),
            reference,
            distance_limit=float(torch.quantile(unseen.distances, _WITHIN_LIMIT)),
        )

    def probabilities(self, logits: Tensor) -> Tensor:
        """(N, 4) logits with the offsets to (N, 4) calibrated probabilities."""
        return torch.softmax(logits.double() / self.calibration.temperature, dim=1)

    def label(self, probabilities: npt.NDArray[np.float64]) -> Label:
        """What a slice by itself is called."""
        return self.calibration.label(probabilities)

    def prediction_set(
        self, probabilities: npt.NDArray[np.float64], label: Label
    ) -> tuple[Label, ...]:
        """The classes that cannot be ruled out, likeliest first."""
        return self.calibration.prediction_set(probabilities, label)

    def strangeness(self, features: Tensor) -> Tensor:
        """(N, 512) features to (N,): 0 at the limit, above it the stranger the larger."""
        return self._subspace.distance(features) / self.distance_limit - 1

    @cached_property
    def _subspace(self) -> Subspace:
        return Subspace.of(self.reference)


def familiarity_score(*, against_head: float, strangeness: float) -> float:
    """The out-of-distribution score of a slice, above 0; above 1 is unfamiliar.

    Evidence adds up: a picture that is a little unlike a head, with features a little unlike
    those of the training slices, is odd, while a brain of an unseen hospital mostly looks
    strange to only one of the two.

    Args:
        against_head: :func:`ml.uncertainty.ood.evidence_against_head`.
        strangeness: :meth:`Doubt.strangeness`.
    """
    return float(np.exp(against_head + _FEATURES_WEIGHT * strangeness - _FAMILIAR))


def _tumor_share(labels: Tensor) -> float:
    """In 0..1, kept apart from both ends, where odds would be infinite."""
    tumors = int((labels != INDEX[Label.NO_TUMOR]).sum())
    return (tumors + 1) / (len(labels) + 2)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature with the smallest negative log-likelihood on held-out slices."""

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logits.double() / float(np.exp(log_temperature)), labels))

    found = minimize_scalar(loss, bounds=(-2.0, 2.0), method="bounded")
    return float(np.exp(found.x))


def fit_offsets(logits: Tensor, labels: Tensor) -> Tensor:
    """What to add to each class's logit before the temperature, on held-out slices.

    Training asks for places and classes at once, which leaves some classes too likely as a
    whole. Bias-corrected temperature scaling: Alexandari, Kundaje and Shrikumar 2020 (ICML).

    Returns:
        (4,) float32.
    """

    def loss(values: npt.NDArray[np.float64]) -> float:
        shifted = (logits.double() + torch.from_numpy(values[:-1])) / float(np.exp(values[-1]))
        return float(F.cross_entropy(shifted, labels)) + 1e-4 * float((values**2).sum())

    found = minimize(loss, np.zeros(logits.shape[1] + 1), method="Powell")
    return torch.tensor(found.x[:-1], dtype=torch.float32)


def fit_no_tumor_from(
    probabilities: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    *,
    missed: float = MISSED,
) -> float:
    """The probability of no tumour that all but one in a hundred tumours stay below.

    Conformal risk control (Angelopoulos et al. 2024, ICLR) of the share of missed tumours, which
    for a loss of 0 or 1 is the finite-sample quantile of Vovk 2012. As with the prediction sets, it
    promises this for exchangeable slices, so what holds is measured.

    At least one half, where no tumour becomes likelier than one, and at most three quarters: above
    that no tumour has a chance of one in four.

    Args:
        probabilities: (N, 4) calibrated.
        labels: (N,) class indices.
    """
    none = INDEX[Label.NO_TUMOR]
    reached = _conformal_quantile(probabilities[labels != none, none], missed)
    return float(np.clip(np.nextafter(reached, 1), RATHER, 1 - _NEVER_RULED_OUT))


def fit_thresholds(
    probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], *, alpha: float = ALPHA
) -> tuple[float, ...]:
    """Class-conditional split conformal prediction with the score ``1 - p(true class)``.

    Sadinle, Lei and Wasserman 2019 (JASA 114), with the finite-sample quantile of Vovk 2012 for
    each class by itself, so that a rare class is covered as well as a frequent one. The promise
    holds for exchangeable slices; slices of one patient are not, so the coverage is measured on
    the validation part and printed in the model's card.
    """
    return tuple(
        _conformal_quantile(1 - probabilities[labels == index, index], alpha)
        for index in range(len(LABELS))
    )


def _conformal_quantile(scores: npt.NDArray[np.float64], alpha: float) -> float:
    """What a further score exceeds with a chance of at most ``alpha``; 1 where too few are known.

    Args:
        scores: (N,) in 0..1, in any order.
    """
    rank = int(np.ceil((len(scores) + 1) * (1 - alpha)))
    return float(np.sort(scores)[rank - 1]) if 0 < rank <= len(scores) else 1.0
