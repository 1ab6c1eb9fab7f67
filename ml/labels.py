"""The classes, in the one order that every array of probabilities follows."""

from enum import StrEnum


class Label(StrEnum):
    """A finding in one slice. The values are those of the data sets and of every contract."""

    GLIOMA = "glioma"
    MENINGIOMA = "meningioma"
    NO_TUMOR = "no_tumor"
    PITUITARY = "pituitary"


LABELS: tuple[Label, ...] = tuple(Label)
TUMOR_LABELS: tuple[Label, ...] = tuple(label for label in Label if label is not Label.NO_TUMOR)
INDEX: dict[str, int] = {label.value: index for index, label in enumerate(LABELS)}
