"""Slices of many files, split into series and put in order by their place in the head."""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import numpy.typing as npt

from ml.imaging.facts import FileFacts, FrameFacts, Geometry

_SAME_PLACE = 0.01  # mm along the normal
_ASIDE = 1.0  # mm; slices of one level that lie farther apart are no copies
_SAME_DIRECTION = 0.9995  # cosine, less than two degrees
_SAME_SPACING = 0.01  # share
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
        is_stack: at least three parallel slices behind one another, in order by their place in the
            head, however far apart. The slices before and behind each are its neighbours there.
        is_volume: a stack whose slices are evenly spaced, none missing: it may be resliced.
        slice_spacing: millimetres between neighbours; the usual distance where one is missing.
        missing: slices that the usual distance asks for and that are not there.
        duplicates: numbers of files left out, since they show the same slice again.
    """

    slices: tuple[Placed, ...]
    plane: str | None
    is_stack: bool
    is_volume: bool
    slice_spacing: float | None
    missing: int
    duplicates: tuple[int, ...]
    modality: str | None
    series_uid: str | None


@dataclass(frozen=True)
class _Member:
    """A slice of the series that is being put together."""

    number: int
    file: FileFacts
    frame: FrameFacts

    @property
    def order(self) -> tuple[int, int, int]:
        """When it was made, as far as the file says."""
        return (self.file.instance_number or 0, self.number, self.frame.index)


def assemble(files: Sequence[FileFacts]) -> list[SeriesPlan]:
    """Split files into series and order each.

    DICOM files of one series are split further where size, spacing or orientation differ, and,
    where they show the same places several times (echoes, diffusion weightings, points in time),
    into one stack for each time. NIfTI volumes stand by themselves; pictures are one series in the
    order given. Without geometry the instance number orders DICOM files.
    """
    seen: set[str] = set()
    repeated: dict[Hashable, list[int]] = defaultdict(list)
    series: dict[Hashable, list[_Member]] = defaultdict(list)
    for number, file in enumerate(files):
        key = _series_key(file, number)
        if file.sop_uid is not None and file.sop_uid in seen:
            repeated[key].append(number)
            continue
        seen.add(file.sop_uid or "")
        series[key] += [_Member(number, file, frame) for frame in file.frames]
    return [
        plan
        for key, members in series.items()
        for plan in _with_repeated(_series(members), repeated[key])
    ]


def _with_repeated(plans: list[SeriesPlan], repeated: list[int]) -> list[SeriesPlan]:
    """The first stack of a series answers for the files that came twice."""
    first = replace(plans[0], duplicates=(*plans[0].duplicates, *repeated))
    return [first, *plans[1:]]


def _series_key(file: FileFacts, number: int) -> Hashable:
    if file.format == "NIFTI":
        return ("NIFTI", number)
    return ("DICOM", file.series_uid) if file.format == "DICOM" else "pictures"


def _series(members: list[_Member]) -> list[SeriesPlan]:
    if members[0].file.format not in {"DICOM", "NIFTI"}:
        return [_plan_by_number(members)]
    plans: list[SeriesPlan] = []
    for alike in _grouped(members, _alike):
        if alike[0].frame.geometry is None:
            plans.append(_plan_by_number(sorted(alike, key=lambda one: one.order)))
        else:
            plans += [_plan_by_place(stack) for stack in _stacks(alike)]
    return plans


def _grouped(
    members: list[_Member], belong: Callable[[_Member, _Member], bool]
) -> list[list[_Member]]:
    """Groups whose members belong to the first of each, in order of appearance."""
    groups: list[list[_Member]] = []
    for member in members:
        for group in groups:
            if belong(group[0], member):
                group.append(member)
                break
        else:
            groups.append([member])
    return groups


def _alike(a: _Member, b: _Member) -> bool:
    """Whether both lie on the same grid, but for their place across it."""
    if (a.frame.rows, a.frame.columns) != (b.frame.rows, b.frame.columns):
        return False
    if not _same_spacing(a.frame.spacing, b.frame.spacing):
        return False
    first, second = a.frame.geometry, b.frame.geometry
    if first is None or second is None:
        return first is second
    return (
        _cosine(first.row_direction, second.row_direction) > _SAME_DIRECTION
        and _cosine(first.column_direction, second.column_direction) > _SAME_DIRECTION
    )


def _same_spacing(a: tuple[float, float] | None, b: tuple[float, float] | None) -> bool:
    if a is None or b is None:
        return a is b
    return all(abs(one / other - 1) <= _SAME_SPACING for one, other in zip(a, b, strict=True))


def _cosine(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(one * other for one, other in zip(a, b, strict=True))


def _stacks(members: list[_Member]) -> list[list[_Member]]:
    """Split slices that show most places several times, by contrast and then by order."""
    if not _overlap(members):
        return [members]
    stacks = []
    for contrast in _grouped(members, lambda a, b: a.frame.contrast == b.frame.contrast):
        stacks += _by_turn(contrast) if _overlap(contrast) else [contrast]
    return stacks


def _overlap(members: list[_Member]) -> bool:
    """Whether most places are shown more than once; fewer are slices that came twice."""
    return float(np.median([len(place) for place in _places(members)])) >= 2


def _by_turn(members: list[_Member]) -> list[list[_Member]]:
    """The first slice of every place, the second of every place, and so on."""
    turns: dict[int, list[_Member]] = defaultdict(list)
    for place in _places(members):
        for turn, member in enumerate(sorted(place, key=lambda one: one.order)):
            turns[turn].append(member)
    return list(turns.values())


def _places(members: list[_Member]) -> list[list[_Member]]:
    """Slices at the same place together, along the normal."""
    positions = _positions(members)
    ordered = sorted(range(len(members)), key=lambda at: (positions[at], at))
    starts = np.diff([positions[at] for at in ordered], prepend=-np.inf) >= _SAME_PLACE
    place = np.cumsum(starts)
    return [
        [members[at] for _place, at in pairs]
        for _number, pairs in groupby(zip(place, ordered, strict=True), key=lambda pair: pair[0])
    ]


def _geometry(member: _Member) -> Geometry:
    if member.frame.geometry is None:
        raise ValueError("a slice without geometry has no place")
    return member.frame.geometry


def _points(members: list[_Member]) -> npt.NDArray[np.float64]:
    """(n, 3) centres of the first pixels."""
    return np.array([_geometry(member).position for member in members])


def _positions(members: list[_Member]) -> npt.NDArray[np.float64]:
    """(n,) places along the normal of the first slice."""
    return np.asarray(_points(members) @ np.array(_geometry(members[0]).normal))


def _plan_by_place(members: list[_Member]) -> SeriesPlan:
    """Order along the normal; of slices that show the same the first in the order given stays."""
    places = _places(members)
    kept = [one for place in places for one in place if one is place[0] or _aside(place[0], one)]
    positions = _positions(kept)
    spacing, missing, even = _spacing(positions)
    shares = np.linspace(0.0, 1.0, len(kept))
    whole = even and missing == 0 and len(kept) >= 3 and _straight(_points(kept), shares, spacing)
    first = members[0]
    return SeriesPlan(
        slices=tuple(
            Placed(one.number, one.frame.index, float(position))
            for one, position in zip(kept, positions, strict=True)
        ),
        plane=first.file.plane or _plane(_geometry(first)),
        is_stack=whole or _is_stack(positions, _points(kept), spacing),
        is_volume=whole,
        slice_spacing=spacing,
        missing=missing,
        duplicates=tuple(
            one.number for place in places for one in place[1:] if not _aside(place[0], one)
        ),
        modality=first.file.modality,
        series_uid=first.file.series_uid,
    )


def _aside(first: _Member, other: _Member) -> bool:
    """Whether two slices of one level show different parts of it."""
    return math.dist(_geometry(first).position, _geometry(other).position) > _ASIDE


def _plan_by_number(members: list[_Member]) -> SeriesPlan:
    return SeriesPlan(
        slices=tuple(Placed(one.number, one.frame.index, None) for one in members),
        plane=None,
        is_stack=False,
        is_volume=False,
        slice_spacing=None,
        missing=0,
        duplicates=(),
        modality=members[0].file.modality,
        series_uid=members[0].file.series_uid,
    )


def _spacing(positions: npt.NDArray[np.float64]) -> tuple[float | None, int, bool]:
    """(usual distance, slices missing, whether the distances are even)."""
    if len(positions) < 2:
        return None, 0, False
    distances = np.diff(positions)
    usual = float(np.median(distances))
    if usual < _SAME_PLACE:
        return None, 0, False
    steps = np.maximum(1, np.round(distances / usual))
    even = bool(np.all(np.abs(distances - steps * usual) <= _EVEN * usual))
    missing = int((steps - 1).sum()) if even else 0
    return usual, missing, even


def _is_stack(
    positions: npt.NDArray[np.float64], points: npt.NDArray[np.float64], spacing: float | None
) -> bool:
    """Whether each slice has a level of its own and stands behind the one before."""
    if len(positions) < 3 or float(np.diff(positions).min()) < _SAME_PLACE:
        return False
    shares = (positions - positions[0]) / (positions[-1] - positions[0])
    return _straight(points, shares, spacing)


def _straight(
    points: npt.NDArray[np.float64], shares: npt.NDArray[np.float64], spacing: float | None
) -> bool:
    """Whether the slices stand behind one another, and are not shifted sideways one by one.

    Args:
        shares: (n,) of the way from the first point to the last, where each is expected.
    """
    line = points[0] + shares[:, None] * (points[-1] - points[0])
    farthest = float(np.linalg.norm(points - line, axis=1).max())
    return farthest <= max(1.0, spacing or 0.0)


def _plane(geometry: Geometry) -> str:
    normal = np.abs(geometry.normal)
    return _PLANES[int(normal.argmax())] if normal.max() >= _NAMED else "oblique"
