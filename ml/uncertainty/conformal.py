"""Conformal prediction: prediction sets, and the decision threshold of no tumour."""

import numpy as np
import numpy.typing as npt

from ml.labels import DECISION_THRESHOLD, INDEX, LABELS, Label

ALPHA = 0.05  # allowed rate of prediction sets without the true class
MISSED = 0.01  # allowed share of tumours that are classified as no tumour
_NEVER_RULED_OUT = 0.25  # classes with at least this probability are in every prediction set


def prediction_set(
    probabilities: npt.NDArray[np.float64], thresholds: tuple[float, ...], label: Label
) -> tuple[Label, ...]:
    """The classes that cannot be ruled out, likeliest first.

    The set always contains the likeliest class and the predicted class, even if their thresholds
    exclude them, because an answer outside its own set would confuse. It also contains every class
    with a probability of at least one quarter: the thresholds can exclude such a class if its
    slices are usually clear, but the remaining class would not be fairly certain. Enlarging a set
    does not reduce its coverage.

    Args:
        probabilities: (4,) calibrated.
        thresholds: from :func:`fit_thresholds`.
        label: the predicted class, of the slice alone or in its volume.
    """
    likeliest, *others = np.argsort(-probabilities, kind="stable")
    admitted = [
        i
        for i in others
        if 1 - probabilities[i] <= thresholds[i]
        or probabilities[i] >= _NEVER_RULED_OUT
        or LABELS[i] is label
    ]
    return tuple(LABELS[i] for i in (likeliest, *admitted))


def fit_no_tumor_from(
    probabilities: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    *,
    missed: float = MISSED,
) -> float:
    """The threshold on the probability of no tumour that 99 % of tumours stay below.

    Conformal risk control (Angelopoulos et al. 2024, ICLR) of the share of missed tumours, which
    for a loss of 0 or 1 is the finite-sample quantile of Vovk 2012. As for the prediction sets, the
    guarantee holds for exchangeable slices, so the actual rate is measured.

    At least one half, where no tumour becomes more likely than a tumour, and at most three
    quarters: above that no tumour class can have a probability of one quarter.

    Args:
        probabilities: (N, 4) calibrated.
        labels: (N,) class indices.
    """
    none = INDEX[Label.NO_TUMOR]
    reached = _conformal_quantile(probabilities[labels != none, none], missed)
    return float(np.clip(np.nextafter(reached, 1), DECISION_THRESHOLD, 1 - _NEVER_RULED_OUT))


def fit_thresholds(
    probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], *, alpha: float = ALPHA
) -> tuple[float, ...]:
    """Class-conditional split conformal prediction with the score ``1 - p(true class)``.

    Sadinle, Lei and Wasserman 2019 (JASA 114), with the finite-sample quantile of Vovk 2012 per
    class, so that a rare class is covered as well as a frequent one. The guarantee holds for
    exchangeable slices. Slices of one patient are not, so the coverage is measured on the
    validation part and reported in the model's card.
    """
    return tuple(
        _conformal_quantile(1 - probabilities[labels == index, index], alpha)
        for index in range(len(LABELS))
    )


def _conformal_quantile(scores: npt.NDArray[np.float64], alpha: float) -> float:
    """The bound that a new score exceeds with probability <= ``alpha``; 1 with too few scores.

    Args:
        scores: (N,) in 0..1, in any order.
    """
    rank = int(np.ceil((len(scores) + 1) * (1 - alpha)))
    return float(np.sort(scores)[rank - 1]) if 0 < rank <= len(scores) else 1.0
