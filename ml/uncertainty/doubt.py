"""Doubt about a model's answers: its calibration, and how far a slice may be from what it knows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ml.labels import Label
from ml.uncertainty.calibration import Calibration
from ml.uncertainty.ood.feature_distance import Subspace

# Share of slices that the network has not learnt from that lie within what counts as familiar.
_WITHIN_LIMIT = 0.99


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

    def feature_distance(self, features: Tensor) -> Tensor:
        """(N, 512) features to (N,): -1 in the subspace, 0 at the limit, above 0 beyond it."""
        return self._subspace.distance(features) / self.distance_limit - 1

    @cached_property
    def _subspace(self) -> Subspace:
        return Subspace.of(self.reference)
