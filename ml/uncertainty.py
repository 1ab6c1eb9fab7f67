"""Doubt: calibrated probabilities, prediction sets, and whether the slice looks familiar at all."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.optimize import minimize, minimize_scalar
from torch import Tensor

from ml.imaging.pictures import Pixels
from ml.labels import LABELS, Label
from ml.preprocess import FloatImage, to_grey

ALPHA = 0.05  # the prediction set may miss the true class this often
NEIGHBOURS = 5
# Grey pictures that went through colour JPEG differ by less than 2 between channels.
_COLOUR_LIMIT = 6.0
# 99.5 % of the training slices stay below 0.08; slices cut close to the head reach further.
_FRAME_LIMIT = 0.15
_FRAME_SIDE, _FRAME_WIDTH = 256, 6


@dataclass(frozen=True)
class Doubt:
    """What was fitted on the calibration part, patients that the weights never saw.

    Attributes:
        temperature: divides the logits (Guo et al. 2017, ICML).
        thresholds: for each class, the largest ``1 - probability`` that is still admitted to
            the prediction set.
        reference: (M, 512) unit-length features of training slices.
        distance_limit: distance to the reference that counts as a score of 1.
    """

    temperature: float
    thresholds: tuple[float, ...]
    reference: Tensor
    distance_limit: float

    def probabilities(self, logits: Tensor) -> Tensor:
        """(N, 4) logits to (N, 4) calibrated probabilities."""
        return torch.softmax(logits.double() / self.temperature, dim=1)

    def prediction_set(self, probabilities: npt.NDArray[np.float64]) -> tuple[Label, ...]:
        """The classes that cannot be ruled out, likeliest first.

        The likeliest class is always one of them, also where its own threshold would not admit
        it: an answer that the set leaves out would confuse, and a larger set covers no less.
        """
        likeliest, *others = np.argsort(-probabilities, kind="stable")
        admitted = [i for i in others if 1 - probabilities[i] <= self.thresholds[i]]
        return tuple(LABELS[i] for i in (likeliest, *admitted))

    def scores(self, features: Tensor) -> Tensor:
        """(N, 512) features to (N,) out-of-distribution scores; above 1 is unfamiliar."""
        return neighbour_distance(features, self.reference) / self.distance_limit


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


def fit_thresholds(
    probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], *, alpha: float = ALPHA
) -> tuple[float, ...]:
    """Class-conditional split conformal prediction with the score ``1 - p(true class)``.

    Sadinle, Lei and Wasserman 2019 (JASA 114), with the finite-sample quantile of Vovk 2012 for
    each class by itself, so that a rare class is covered as well as a frequent one. The promise
    holds for exchangeable slices; slices of one patient are not, so the coverage is measured on
    the validation part and printed in the model's card.
    """
    thresholds = []
    for index in range(len(LABELS)):
        scores = np.sort(1 - probabilities[labels == index, index])
        rank = int(np.ceil((len(scores) + 1) * (1 - alpha)))
        thresholds.append(float(scores[rank - 1]) if 0 < rank <= len(scores) else 1.0)
    return tuple(thresholds)


def neighbour_distance(features: Tensor, reference: Tensor) -> Tensor:
    """Euclidean distance of unit-length features to the fifth nearest neighbour.

    Sun et al. 2022 (ICML), "Out-of-Distribution Detection with Deep Nearest Neighbors".

    Args:
        features: (N, 512).
        reference: (M, 512), unit length.

    Returns:
        (N,) in 0..2.
    """
    unit = F.normalize(features.float(), dim=1)
    similarity = (unit @ reference.float().T).topk(NEIGHBOURS, dim=1).values[:, -1]
    return torch.sqrt(torch.clamp(2 - 2 * similarity, min=0))


def picture_score(pixels: Pixels) -> float:
    """How little the picture is like an MR slice at all, before any network; above 1 is unlike.

    Two rules that hold for MRI of every scanner: it has no colour, and the head is surrounded by
    air, so the outermost frame of the picture is dark. Photographs, documents and noise break one
    of them.

    Args:
        pixels: (height, width) or (height, width, 3) RGB, 8 or 16 bit.
    """
    return max(_colour(pixels) / _COLOUR_LIMIT, _frame_level(to_grey(pixels)) / _FRAME_LIMIT)


def _colour(pixels: Pixels) -> float:
    """Mean difference between the colour channels, of 255."""
    if pixels.ndim == 2:
        return 0.0
    spread = pixels.max(axis=2).astype(np.float32) - pixels.min(axis=2)
    return float(spread.mean()) * 255.0 / float(np.iinfo(pixels.dtype).max)


def _frame_level(grey: FloatImage) -> float:
    """Median intensity of the outermost frame, from 0 (darkest) to 1 (99th percentile)."""
    small = cv2.resize(grey, (_FRAME_SIDE, _FRAME_SIDE), interpolation=cv2.INTER_AREA)
    low, high = np.percentile(small, [0.5, 99])
    inside = np.s_[_FRAME_WIDTH:-_FRAME_WIDTH]
    frame = np.ones(small.shape, bool)
    frame[inside, inside] = False
    return float((np.median(small[frame]) - low) / max(float(high - low), 1e-6))
