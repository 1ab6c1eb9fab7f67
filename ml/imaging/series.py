"""Group the slices of many files into series and sort them by their position in the head."""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

import numpy as np
import numpy.typing as npt

from ml.imaging.facts import FileFacts, FrameFacts, Geometry
from ml.imaging.stack_geometry import (
    ASIDE,
    SAME_PLACE,
    cosine,
    is_stack,
    is_straight,
    is_upright,
    plane_of,
    spacing_of,
    step_before_rounding,
)

_SAME_DIRECTION = 0.9995  # cosine, less than two degrees
_SAME_SPACING = 0.01  # share
_LEAST_ROUNDED = 0.55  # mm; shorter steps look as if every position came twice


Order = Literal["place", "location", "number", "given"]


@dataclass(frozen=True)
class Placed:
    """A slice: its file number, its frame number, and its position along the normal in mm."""

    file: int
    frame: int
    position: float | None


@dataclass(frozen=True)
class SeriesPlan:
    """Slices that belong together, ordered towards the patient's left, back or head.

    Attributes:
        plane: ``axial``, ``coronal``, ``sagittal`` or ``oblique``; None without geometry.
        is_stack: at least three parallel slices one behind the other, ordered by their position in
            the head, with any spacing. The slices before and after each are its neighbours.
        is_volume: a stack with even spacing and no missing slice: it may be resliced.
        slice_spacing: millimetres between neighbours; the usual distance if slices are missing.
        missing: number of slices missing according to the usual distance.
        duplicates: numbers of files left out because they repeat a slice.
        order: the sort key: the position in the head (``place``), a position on a line of unknown
            direction (``location``), the image number (``number``), or the input order
            (``given``). The last two are guesses.
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
    order: Order = "place"


@dataclass(frozen=True)
class _Member:
    """A slice of a series under construction."""

    number: int
    file: FileFacts
    frame: FrameFacts

    @property
    def order(self) -> tuple[int, int, int]:
        """Sort key for the order of acquisition, as far as the file tells."""
        return (self.file.instance_number or 0, self.number, self.frame.index)


def assemble(files: Sequence[FileFacts]) -> list[SeriesPlan]:
    """Split files into series and sort each.

    DICOM files of one series are split further if size, spacing or orientation differ. If they
    show the same positions several times (echoes, diffusion weightings, time points), each
    repetition becomes one stack. Each NIfTI volume is a series; all pictures are one series in the
    input order. DICOM files without geometry are sorted by slice location, else by number.
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
    """Record the repeated files as duplicates of the first stack of a series."""
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
            plans += _plans_without_geometry(alike)
        elif all(map(_share_one_place, files := _by_file(alike))):
            plans += [_plan_by_number(frames) for frames in files]
        else:
            plans += [_plan_by_place(stack) for stack in _stacks(alike)]
    return plans


def _by_file(members: list[_Member]) -> list[list[_Member]]:
    files: dict[int, list[_Member]] = defaultdict(list)
    for one in members:
        files[one.number].append(one)
    return list(files.values())


def _share_one_place(frames: list[_Member]) -> bool:
    """Whether a file gives all its frames the position of the first, as old files do."""
    first = frames[0].frame
    return len(frames) > 1 and all(
        one.frame.geometry == first.geometry and one.frame.contrast == first.contrast
        for one in frames
    )


def _plans_without_geometry(members: list[_Member]) -> list[SeriesPlan]:
    locations = _locations(members)
    if locations is None:
        return [_plan_by_number(sorted(members, key=lambda one: one.order))]
    return [_plan_by_location(stack, locations) for stack in _stacks_on_line(members, locations)]


def _locations(members: list[_Member]) -> dict[_Member, float] | None:
    """Position of each slice on a line in mm; None if some have none or all are equal."""
    given = [one.frame.location for one in members]
    numbers: list[float]
    if all(isinstance(one, float) for one in given):
        numbers = [one for one in given if isinstance(one, float)]
    elif all(isinstance(one, tuple) for one in given):
        points = np.array(given, dtype=np.float64)
        # They lie on a line across the slices, in the direction of the largest extent.
        first = points[0]
        farthest = points[int(np.linalg.norm(points - first, axis=1).argmax())]
        line = farthest - first
        line *= 1.0 if line[int(np.abs(line).argmax())] >= 0 else -1.0
        numbers = list(points @ line / (np.linalg.norm(line) or 1.0))
    else:
        return None
    if max(numbers) - min(numbers) < SAME_PLACE:
        return None
    return {one: float(number) for one, number in zip(members, numbers, strict=True)}


def _stacks_on_line(members: list[_Member], locations: dict[_Member, float]) -> list[list[_Member]]:
    """Split slices that show most locations several times, by contrast only."""
    levels = len({round(location / SAME_PLACE) for location in locations.values()})
    contrasts = _grouped(members, lambda a, b: a.frame.contrast == b.frame.contrast)
    return contrasts if 2 * levels <= len(members) else [members]


def _plan_by_location(members: list[_Member], locations: dict[_Member, float]) -> SeriesPlan:
    """Sort by location. No slice counts as a copy, because directions are unknown."""
    ordered = sorted(members, key=lambda one: (locations[one], one.order))
    plan = _plan_by_number(ordered)
    slices = tuple(Placed(one.number, one.frame.index, locations[one]) for one in ordered)
    return replace(plan, slices=slices, order="location")


def _grouped(
    members: list[_Member], belong: Callable[[_Member, _Member], bool]
) -> list[list[_Member]]:
    """Groups of members that match the first of their group, in order of appearance."""
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
    """Whether both lie on the same grid, apart from their position along the normal."""
    if (a.frame.rows, a.frame.columns) != (b.frame.rows, b.frame.columns):
        return False
    if not _same_spacing(a.frame.spacing, b.frame.spacing):
        return False
    first, second = a.frame.geometry, b.frame.geometry
    if first is None or second is None:
        return first is second
    return (
        cosine(first.row_direction, second.row_direction) > _SAME_DIRECTION
        and cosine(first.column_direction, second.column_direction) > _SAME_DIRECTION
    )


def _same_spacing(a: tuple[float, float] | None, b: tuple[float, float] | None) -> bool:
    if a is None or b is None:
        return a is b
    return all(abs(one / other - 1) <= _SAME_SPACING for one, other in zip(a, b, strict=True))


def _stacks(members: list[_Member]) -> list[list[_Member]]:
    """Split slices that show positions several times, by contrast and then by order.

    If only some positions repeat, they are an aborted second run if the contrast differs or if all
    of them came after the first run; otherwise they are slices that were sent twice.
    """
    if _rounded_together(members):
        return [members]
    if not _overlap(members):
        return _runs(members)
    stacks = []
    for contrast in _grouped(members, lambda a, b: a.frame.contrast == b.frame.contrast):
        stacks += _by_turn(contrast) if _overlap(contrast) else [contrast]
    return stacks


def _runs(members: list[_Member]) -> list[list[_Member]]:
    """The first run through the positions, and further, shorter runs."""
    places = _places(members)
    most = max(len(place) for place in places)
    if most == 1:
        return [members]
    again = [place for place in places if len(place) > 1]
    contrasts = _grouped(members, lambda a, b: a.frame.contrast == b.frame.contrast)
    marked = all(len({one.frame.contrast for one in place}) == len(place) for place in again)
    if marked and len(contrasts) <= most:
        return contrasts
    return _by_turn(members) if len(again) > 1 and _came_after(places) else [members]


def _came_after(places: list[list[_Member]]) -> bool:
    """Whether the second slices of all positions have higher numbers than all first ones."""
    numbers = [sorted(one.file.instance_number or 0 for one in place) for place in places]
    first = max(place[0] for place in numbers)
    return first < min(one for place in numbers for one in place[1:])


def _overlap(members: list[_Member]) -> bool:
    """Whether most positions are shown more than once; fewer are slices that were sent twice."""
    return float(np.median([len(place) for place in _places(members)])) >= 2


def _by_turn(members: list[_Member]) -> list[list[_Member]]:
    """The first slice of every position, the second of every position, and so on."""
    turns: dict[int, list[_Member]] = defaultdict(list)
    for place in _places(members):
        for turn, member in enumerate(sorted(place, key=lambda one: one.order)):
            turns[turn].append(member)
    return list(turns.values())


def _places(members: list[_Member]) -> list[list[_Member]]:
    """Slices grouped by position, sorted along the normal."""
    positions = _positions(members)
    ordered = sorted(range(len(members)), key=lambda at: (positions[at], at))
    starts = np.diff([positions[at] for at in ordered], prepend=-np.inf) >= SAME_PLACE
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
    """(n,) positions along the normal of the first slice."""
    return np.asarray(_points(members) @ np.array(_geometry(members[0]).normal))


def _plan_by_place(members: list[_Member]) -> SeriesPlan:
    """Sort along the normal; of identical slices the first in input order stays."""
    places = _places(members)
    if len(places) < len(members) and (ordered := _rounded_together(members)):
        places = [[one] for one in ordered]
    kept = [one for place in places for one in place if one is place[0] or _aside(place[0], one)]
    positions = _positions(kept)
    spacing, missing, even = spacing_of(positions)
    shares = np.linspace(0.0, 1.0, len(kept))
    first = members[0]
    points = _points(kept)
    whole = (
        even
        and missing == 0
        and len(kept) >= 3
        and is_straight(points, shares, spacing)
        and is_upright(points, _geometry(first))
    )
    return SeriesPlan(
        slices=tuple(
            Placed(one.number, one.frame.index, float(position))
            for one, position in zip(kept, positions, strict=True)
        ),
        plane=first.file.plane or plane_of(_geometry(first)),
        is_stack=whole or is_stack(positions, points, spacing),
        is_volume=whole,
        slice_spacing=spacing,
        missing=missing,
        duplicates=tuple(
            one.number for place in places for one in place[1:] if not _aside(place[0], one)
        ),
        modality=first.file.modality,
        series_uid=first.file.series_uid,
    )


def _rounded_together(members: list[_Member]) -> list[_Member] | None:
    """All slices in order if some coincide only because of rounding; else None.

    Their numbers must run monotonically through the stack.
    """
    numbered = sorted(members, key=lambda one: one.order)
    marks = {one.frame.contrast for one in members}
    if len({one.file.instance_number for one in members}) < len(members) or len(marks) > 1:
        return None
    positions = _positions(numbered)
    if positions[0] > positions[-1]:
        numbered, positions = numbered[::-1], positions[::-1]
    if np.any(np.diff(positions) < 0):
        return None
    step = step_before_rounding(positions)
    return numbered if step is not None and step > _LEAST_ROUNDED else None


def _aside(first: _Member, other: _Member) -> bool:
    """Whether two slices of the same level show different parts of it."""
    return math.dist(_geometry(first).position, _geometry(other).position) > ASIDE


def _plan_by_number(members: list[_Member]) -> SeriesPlan:
    """The slices in input order, and whether their image numbers confirm it."""
    first = members[0]
    numbers = [one.file.instance_number for one in members]
    numbered = None not in numbers and len(set(numbers)) == len(numbers)
    return SeriesPlan(
        slices=tuple(Placed(one.number, one.frame.index, None) for one in members),
        plane=plane_of(first.frame.geometry) if first.frame.geometry else None,
        is_stack=False,
        is_volume=False,
        slice_spacing=None,
        missing=0,
        duplicates=(),
        modality=first.file.modality,
        series_uid=first.file.series_uid,
        order="number" if numbered else "given",
    )
