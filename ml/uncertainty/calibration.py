"""Calibration: from a network's logits to probabilities that mean what they say."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.optimize import minimize, minimize_scalar
from torch import Tensor

from ml.labels import DECISION_THRESHOLD, INDEX, Label, decide
from ml.uncertainty.conformal import fit_no_tumor_from, fit_thresholds, prediction_set

TUMOR_SHARE = 0.71  # of the slices of the collection, for calibrations that do not tell theirs


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
            :func:`ml.uncertainty.conformal.fit_no_tumor_from`.
    """

    offsets: tuple[float, ...]
    temperature: float
    thresholds: tuple[float, ...]
    tumor_share: float = TUMOR_SHARE
    no_tumor_from: float = DECISION_THRESHOLD

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
        return decide(probabilities, no_tumor_from=self.no_tumor_from)

    def prediction_set(
        self, probabilities: npt.NDArray[np.float64], label: Label
    ) -> tuple[Label, ...]:
        """The classes that cannot be ruled out, likeliest first.

        Args:
            label: what the slice is called, by itself or in its volume.
        """
        return prediction_set(probabilities, self.thresholds, label)


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
