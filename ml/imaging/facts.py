"""What a file's header says, without a look at its pixels."""

from dataclasses import dataclass

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Geometry:
    """Where a slice lies, in DICOM's patient coordinate system (PS3.3 C.7.6.2), millimetres.

    The axes point to the patient's left, back and head.

    Attributes:
        position: centre of the first pixel.
        row_direction: unit vector in which the column index grows.
        column_direction: unit vector in which the row index grows.
    """

    position: Vector
    row_direction: Vector
    column_direction: Vector

    @property
    def normal(self) -> Vector:
        """Unit vector across the slice; of both, the one that points left, back or up."""
        a, b = self.row_direction, self.column_direction
        cross = (
            a[1] * b[2] - a[2] * b[1],
            a[2] * b[0] - a[0] * b[2],
            a[0] * b[1] - a[1] * b[0],
        )
        sign = 1.0 if max(cross, key=abs) >= 0 else -1.0
        return (cross[0] * sign, cross[1] * sign, cross[2] * sign)


@dataclass(frozen=True)
class FrameFacts:
    """One slice of a file.

    Attributes:
        index: number inside the file, from 0.
        spacing: millimetres between pixel centres as (row, column); see ``measured``.
        measured: whether ``spacing`` is in millimetres; False where the file says how high a pixel
            is for its width, and no more.
        location: where it lies on a line through the head, in millimetres, for slices without
            geometry: the scanner's own number, or a position without directions.
        contrast: what may tell slices apart that show the same place: image type, echo,
            diffusion weighting, point in time.
    """

    index: int
    rows: int
    columns: int
    spacing: tuple[float, float] | None = None
    geometry: Geometry | None = None
    contrast: tuple[str, ...] = ()
    measured: bool = True
    location: float | Vector | None = None


@dataclass(frozen=True)
class FileFacts:
    """One file. What a format does not have is None.

    Attributes:
        format: ``DICOM``, ``NIFTI`` (also volumes that are read as NIfTI), or that of a picture.
        frames: its slices, in the file's own order; never empty.
        plane: the plane that a volume was cut in.
        burned_in: whether the file says that its pixels hold identifiers.
    """

    format: str
    frames: tuple[FrameFacts, ...]
    modality: str | None = None
    study_uid: str | None = None
    series_uid: str | None = None
    sop_uid: str | None = None
    sop_class: str | None = None
    transfer_syntax: str | None = None
    instance_number: int | None = None
    plane: str | None = None
    burned_in: bool | None = None
