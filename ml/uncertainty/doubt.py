"""Uncertainty of a model's answers: calibration, and a limit on the feature distance."""

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

# Share of held-out slices within the distance limit.
_WITHIN_LIMIT = 0.99


@dataclass(frozen=True)
class Unseen:
    """Outputs of networks for slices that they were not trained on.

    Attributes:
        logits: (N, 4) float32, without offsets.
        labels: (N,) class indices.
        distances: (N,) distances of the features from the subspace of the training slices.
    """

    logits: Tensor
    labels: Tensor
    distances: Tensor

    @classmethod
    def together(cls, parts: Sequence["Unseen"]) -> "Unseen":
        """Concatenate the outputs of several networks."""
        return cls(
            torch.cat([part.logits for part in parts]),
            torch.cat([part.labels for part in parts]),
            torch.cat([part.distances for part in parts]),
        )


@dataclass(frozen=True)
class Doubt:
    """Parameters fitted on patients that were not used for training.

    Attributes:
        calibration: for the network's logits without the offsets. The saved network already
            includes them.
        reference: (M, 512) unit-length features of training slices.
        distance_limit: distance from the reference's subspace within which almost all slices of
            unseen patients lie.
    """

    calibration: Calibration
    reference: Tensor
    distance_limit: float

    @classmethod
    def fit(cls, unseen: Unseen, reference: Tensor) -> "Doubt":
        """Fit to the outputs of the network, or of similar ones, for unseen slices.

        Args:
            reference: (M, 512) unit-length features of the network's training slices.
        """
        return cls(
            Calibration.fit(unseen.logits, unseen.labels),
            reference,
            distance_limit=float(torch.quantile(unseen.distances, _WITHIN_LIMIT)),
        )

    def probabilities(self, logits: Tensor) -> Tensor:
        """(N, 4) logits that include the offsets to (N, 4) calibrated probabilities."""
        return torch.softmax(logits.double() / self.calibration.temperature, dim=1)

    def label(self, probabilities: npt.NDArray[np.float64]) -> Label:
        """The predicted class of a slice alone."""
        return self.calibration.label(probabilities)

    def prediction_set(
        self, probabilities: npt.NDArray[np.float64], label: Label
    ) -> tuple[Label, ...]:
        """The classes that cannot be ruled out, likeliest first."""
        return self.calibration.prediction_set(probabilities, label)

    def feature_distance(self, features: Tensor) -> Tensor:
        """(N, 512) features to (N,): -1 in the subspace, 0 at the limit, above 0 beyond it."""
        return self._subspace.distance(features) / self.distance_limit - 1

    def coordinates(self, features: Tensor) -> Tensor:
        """(N, 512) features to (N, 16) float32: where they lie in the training slices' subspace."""
        return self._subspace.coordinates(features)

    @cached_property
    def _subspace(self) -> Subspace:
        return Subspace.of(self.reference)
