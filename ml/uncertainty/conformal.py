"""Conformal prediction: which classes cannot be ruled out, and from where on there is no tumour."""

import numpy as np
import numpy.typing as npt

from ml.labels import DECISION_THRESHOLD, INDEX, LABELS, Label

ALPHA = 0.05  # the prediction set may miss the true class this often
MISSED = 0.01  # of the tumours may be called none
_NEVER_RULED_OUT = 0.25  # probability of a class that every prediction set holds


def prediction_set(
    probabilities: npt.NDArray[np.float64], thresholds: tuple[float, ...], label: Label
) -> tuple[Label, ...]:
    """The classes that cannot be ruled out, likeliest first.

    The likeliest class and what the slice is called are always among them, also where their
    own thresholds would not admit them: an answer that the set leaves out would confuse. So is
    every class with a chance of one in four: the thresholds rule out a class that the slices
    of it hardly ever leave in doubt, and yet nobody would call the other one fairly certain. A
    larger set covers no less.

    Args:
        probabilities: (4,) calibrated.
        thresholds: of :func:`fit_thresholds`.
        label: what the slice is called, by itself or in its volume.
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
    return float(np.clip(np.nextafter(reached, 1), DECISION_THRESHOLD, 1 - _NEVER_RULED_OUT))


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
