"""The classes, in the one order that every array of probabilities follows."""

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
import numpy.typing as npt


class Label(StrEnum):
    """A finding in one slice. The values are those of the data sets and of every contract."""

    GLIOMA = "glioma"
    MENINGIOMA = "meningioma"
    NO_TUMOR = "no_tumor"
    PITUITARY = "pituitary"


LABELS: tuple[Label, ...] = tuple(Label)
TUMOR_LABELS: tuple[Label, ...] = tuple(label for label in Label if label is not Label.NO_TUMOR)
INDEX: dict[str, int] = {label.value: index for index, label in enumerate(LABELS)}

Chances = Sequence[float] | npt.NDArray[np.float64]  # (4,) in the order of LABELS

DECISION_THRESHOLD = 0.5  # from this probability on something is likelier than not


def decide(probabilities: Chances, *, no_tumor_from: float = DECISION_THRESHOLD) -> Label:
    """The class of a slice: no tumour where that is likely enough, else the likeliest tumour.

    A missed tumour does more harm than one that is looked for in vain, so this is not always the
    likeliest class (docs/research/notes/0022).

    Args:
        no_tumor_from: the decision threshold of no tumour, in 0..1.
    """
    if probabilities[INDEX[Label.NO_TUMOR]] >= no_tumor_from:
        return Label.NO_TUMOR
    return likeliest_tumor(probabilities)


def likeliest_tumor(probabilities: Chances) -> Label:
    """Of the classes with a tumour, however likely it is that there is none."""
    return max(TUMOR_LABELS, key=lambda label: probabilities[INDEX[label]])
