"""Calibration of a network's logits to probabilities."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.optimize import minimize, minimize_scalar
from torch import Tensor

from ml.labels import DECISION_THRESHOLD, INDEX, Label, decide
from ml.uncertainty.conformal import fit_no_tumor_from, fit_thresholds, prediction_set

TUMOR_SHARE = 0.71  # of the collection's slices; used for calibrations without their own value


@dataclass(frozen=True)
class Calibration:
    """From a network's logits to probabilities and prediction sets.

    Attributes:
        offsets: added to the logits, one per class.
        temperature: then divides the logits (Guo et al. 2017, ICML).
        thresholds: for each class, the largest ``1 - probability`` with which it is still in
            the prediction set.
        tumor_share: share in 0..1 of tumours in the slices that it was fitted on. Probabilities
            are calibrated for that prevalence.
        no_tumor_from: probability from which a slice is classified as no tumour; see
            :func:`ml.uncertainty.conformal.fit_no_tumor_from`.
    """

    offsets: tuple[float, ...]
    temperature: float
    thresholds: tuple[float, ...]
    tumor_share: float = TUMOR_SHARE
    no_tumor_from: float = DECISION_THRESHOLD

    @classmethod
    def fit(cls, logits: Tensor, labels: Tensor) -> "Calibration":
        """Fit to (N, 4) logits and (N,) classes of slices that were not used for training."""
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
        """The predicted class of a slice alone."""
        return decide(probabilities, no_tumor_from=self.no_tumor_from)

    def prediction_set(
        self, probabilities: npt.NDArray[np.float64], label: Label
    ) -> tuple[Label, ...]:
        """The classes that cannot be ruled out, likeliest first.

        Args:
            label: the predicted class, of the slice alone or in its volume.
        """
        return prediction_set(probabilities, self.thresholds, label)


def _tumor_share(labels: Tensor) -> float:
    """The share of tumours, clipped away from 0 and 1, where odds are infinite."""
    tumors = int((labels != INDEX[Label.NO_TUMOR]).sum())
    return (tumors + 1) / (len(labels) + 2)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature with the smallest negative log-likelihood on held-out slices."""

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logits.double() / float(np.exp(log_temperature)), labels))

    found = minimize_scalar(loss, bounds=(-2.0, 2.0), method="bounded")
    return float(np.exp(found.x))


def fit_offsets(logits: Tensor, labels: Tensor) -> Tensor:
    """Offsets of each class's logit before the temperature, fitted on held-out slices.

    Training on localisation and classes together biases the frequency of some classes.
    Bias-corrected temperature scaling: Alexandari, Kundaje and Shrikumar 2020 (ICML).

    Returns:
        (4,) float32.
    """

    def loss(values: npt.NDArray[np.float64]) -> float:
        shifted = (logits.double() + torch.from_numpy(values[:-1])) / float(np.exp(values[-1]))
        return float(F.cross_entropy(shifted, labels)) + 1e-4 * float((values**2).sum())

    found = minimize(loss, np.zeros(logits.shape[1] + 1), method="Powell")
    return torch.tensor(found.x[:-1], dtype=torch.float32)
