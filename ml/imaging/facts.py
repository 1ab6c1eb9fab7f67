"""Facts from a file's header, without its pixels."""

from dataclasses import dataclass

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Geometry:
    """Position of a slice in DICOM's patient coordinate system (PS3.3 C.7.6.2), in millimetres.

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
        """Unit normal of the slice, with the sign that points left, back or up."""
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
        index: number within the file, from 0.
        spacing: millimetres between pixel centres as (row, column); see ``measured``.
        measured: whether ``spacing`` is in millimetres; False if the file gives only the pixel's
            aspect ratio.
        location: position on a line through the head in millimetres, for slices without
            geometry: the scanner's slice location, or a position without directions.
        contrast: attributes that may distinguish slices at the same position: image type, echo,
            diffusion weighting, time point.
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
    """Facts of one file; None for what the format does not have.

    Attributes:
        format: ``DICOM``, ``NIFTI`` (also volumes read as NIfTI), or a picture format.
        frames: its slices, in the file's own order; never empty.
        plane: the plane in which a volume is cut.
        burned_in: whether the file declares identifiers in its pixels.
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
