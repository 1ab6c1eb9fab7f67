"""Slices of many files, split into series and put in order by their place in the head."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ml.imaging.facts import FileFacts, FrameFacts, Geometry

_SAME_PLACE = 0.01  # mm along the normal
_SAME_DIRECTION = 0.999  # cosine
_EVEN = 0.1  # distances may differ by a tenth and still be called even
_NAMED = 0.7  # cosine to an axis of the body from which a plane bears its name
_PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Placed:
    """A slice: number of its file, number of its frame, and millimetres along the normal."""

    file: int
    frame: int
    position: float | None


@dataclass(frozen=True)
class SeriesPlan:
    """Slices that belong together, in order: towards the patient's left, back or head.

    Attributes:
        plane: ``axial``, ``coronal``, ``sagittal`` or ``oblique``; None without geometry.
        is_volume: at least three parallel slices, evenly spaced, none missing.
        slice_spacing: millimetres between neighbours; the usual distance where one is missing.
        missing: slices that the usual distance asks for and that are not there.
        duplicates: numbers of files left out, since they show the same slice again.
    """

    slices: tuple[Placed, ...]
    plane: str | None
    is_volume: bool
    slice_spacing: float | None
    missing: int
    duplicates: tuple[int, ...]
    modality: str | None
    series_uid: str | None


def assemble(files: Sequence[FileFacts]) -> list[SeriesPlan]:
    """Split files into series and order each.

    DICOM files of one series are split further where size, orientation or contrast differ; NIfTI
    volumes stand by themselves; pictures are one series in the order given.
    """
    files_seen: set[str] = set()
    repeated: dict[Hashable, list[int]] = defaultdict(list)
    groups: dict[Hashable, list[tuple[int, FrameFacts]]] = defaultdict(list)
    for number, file in enumerate(files):
        if file.sop_uid is not None and file.sop_uid in files_seen:
            repeated[_series_key(file, number)].append(number)
            continue
        files_seen.add(file.sop_uid or "")
        for frame in file.frames:
            groups[_key(file, number, frame)].append((number, frame))
    plans = [_plan(files, slices) for slices in groups.values()]
    return [_with_repeated(plan, files, repeated) for plan in plans]


def _with_repeated(
    plan: SeriesPlan, files: Sequence[FileFacts], repeated: dict[Hashable, list[int]]
) -> SeriesPlan:
    """The first group of a series answers for the files that came twice."""
    number = plan.slices[0].file
    twice = repeated.pop(_series_key(files[number], number), [])
    if not twice:
        return plan
    return replace(plan, duplicates=(*plan.duplicates, *twice))


def _series_key(file: FileFacts, number: int) -> Hashable:
    if file.format == "NIFTI":
        return ("NIFTI", number)
    return ("DICOM", file.series_uid) if file.format == "DICOM" else "pictures"


def _key(file: FileFacts, number: int, frame: FrameFacts) -> Hashable:
    if file.format != "DICOM":
        return _series_key(file, number)
    direction = None
    if frame.geometry:
        both = (*frame.geometry.row_direction, *frame.geometry.column_direction)
        direction = tuple(round(value, 2) + 0.0 for value in both)
    return (
        _series_key(file, number),
        frame.contrast,
        frame.rows,
        frame.columns,
        direction,
    )


def _plan(files: Sequence[FileFacts], slices: list[tuple[int, FrameFacts]]) -> SeriesPlan:
    first = files[slices[0][0]]
    geometries = [frame.geometry for _number, frame in slices]
    if all(geometries) and first.format in {"DICOM", "NIFTI"}:
        ordered, duplicates = _by_place(slices)
    else:
        ordered, duplicates = _by_number(files, slices), ()
    positions = [placed.position for placed in ordered if placed.position is not None]
    spacing, missing, even = (
        _spacing(positions) if len(positions) == len(ordered) else (None, 0, False)
    )
    geometry = geometries[0]
    return SeriesPlan(
        slices=tuple(ordered),
        plane=first.plane or (_plane(geometry) if geometry else None),
        is_volume=even and missing == 0 and len(ordered) >= 3,
        slice_spacing=spacing,
        missing=missing,
        duplicates=duplicates,
        modality=first.modality,
        series_uid=first.series_uid,
    )


def _by_place(
    slices: list[tuple[int, FrameFacts]],
) -> tuple[list[Placed], tuple[int, ...]]:
    """Order along the normal; of slices at one place the first in the order given stays."""
    geometries = [frame.geometry for _number, frame in slices if frame.geometry]
    normal = np.array(geometries[0].normal)
    placed = [
        Placed(number, frame.index, float(normal @ np.array(geometry.position)))
        for (number, frame), geometry in zip(slices, geometries, strict=True)
    ]
    placed.sort(key=lambda one: (one.position or 0.0, one.file, one.frame))
    kept: list[Placed] = []
    duplicates = []
    for one in placed:
        last = kept[-1].position if kept else None
        if last is not None and one.position is not None and one.position - last < _SAME_PLACE:
            duplicates.append(one.file)
        else:
            kept.append(one)
    return kept, tuple(duplicates)


def _by_number(files: Sequence[FileFacts], slices: list[tuple[int, FrameFacts]]) -> list[Placed]:
    """Order by instance number where the files have one, else as given."""
    order = sorted(
        range(len(slices)),
        key=lambda at: (files[slices[at][0]].instance_number or 0, at),
    )
    return [Placed(slices[at][0], slices[at][1].index, None) for at in order]


def _spacing(positions: list[float]) -> tuple[float | None, int, bool]:
    """(usual distance, slices missing, whether the distances are even)."""
    if len(positions) < 2:
        return None, 0, False
    distances = np.diff(positions)
    usual = float(np.median(distances))
    steps = np.maximum(1, np.round(distances / usual))
    even = bool(np.all(np.abs(distances - steps * usual) <= _EVEN * usual))
    missing = int((steps - 1).sum()) if even else 0
    return usual, missing, even


def _plane(geometry: Geometry) -> str:
    normal = np.abs(geometry.normal)
    return _PLANES[int(normal.argmax())] if normal.max() >= _NAMED else "oblique"
