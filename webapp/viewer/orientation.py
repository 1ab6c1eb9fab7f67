"""Orientation of a slice as letters: L, R, A, P, H, F (DICOM PS3.3 C.7.6.1.1.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

from webapp.studies.models import Series

_LETTERS = (("L", "R"), ("P", "A"), ("H", "F"))
"""For each axis of DICOM's patient coordinate system: the positive and negative direction."""
_OPPOSITE = str.maketrans("LRPAHF", "RLAPFH")
_NOTICEABLE = 0.1  # component of a unit vector, about six degrees


@dataclass(frozen=True)
class Edges:
    """Anatomical directions at the edges of a displayed slice, up to three letters each."""

    left: str
    right: str
    top: str
    bottom: str


def patient_orientation(series: Series) -> tuple[str, str] | None:
    """Letters along the rows and down the columns, such as ``("L", "P")``; None if unknown."""
    if not series.row_direction or not series.column_direction:
        return None
    return _letters(series.row_direction), _letters(series.column_direction)


def edges_of(series: Series) -> Edges | None:
    """The directions at the four edges of the series' slices; None if unknown."""
    known = patient_orientation(series)
    if known is None:
        return None
    right, bottom = known
    return Edges(
        left=right.translate(_OPPOSITE), right=right, top=bottom.translate(_OPPOSITE), bottom=bottom
    )


def _letters(direction: Sequence[float]) -> str:
    """Anatomical directions of a unit vector in DICOM's patient system, largest component first."""
    parts = sorted(zip(direction, _LETTERS, strict=True), key=lambda part: -abs(part[0]))
    return "".join(pair[0 if value > 0 else 1] for value, pair in parts if abs(value) > _NOTICEABLE)
