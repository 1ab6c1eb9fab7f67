"""The classes, in the order that every array of probabilities follows."""

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
import numpy.typing as npt


class Label(StrEnum):
    """A finding in one slice. The values are used in the data sets and in all interfaces."""

    GLIOMA = "glioma"
    MENINGIOMA = "meningioma"
    NO_TUMOR = "no_tumor"
    PITUITARY = "pituitary"


LABELS: tuple[Label, ...] = tuple(Label)
TUMOR_LABELS: tuple[Label, ...] = tuple(label for label in Label if label is not Label.NO_TUMOR)
INDEX: dict[str, int] = {label.value: index for index, label in enumerate(LABELS)}

Chances = Sequence[float] | npt.NDArray[np.float64]  # (4,) in the order of LABELS

DECISION_THRESHOLD = 0.5  # from this probability on a class is more likely than not


def decide(probabilities: Chances, *, no_tumor_from: float = DECISION_THRESHOLD) -> Label:
    """The class of a slice: no tumour if that is likely enough, else the likeliest tumour.

    A missed tumour does more harm than a false alarm, so this is not always the likeliest class
    (docs/research/notes/0022).

    Args:
        no_tumor_from: the decision threshold of no tumour, in 0..1.
    """
    if probabilities[INDEX[Label.NO_TUMOR]] >= no_tumor_from:
        return Label.NO_TUMOR
    return likeliest_tumor(probabilities)


def likeliest_tumor(probabilities: Chances) -> Label:
    """The likeliest of the tumour classes, whatever the probability of no tumour."""
    return max(TUMOR_LABELS, key=lambda label: probabilities[INDEX[label]])
