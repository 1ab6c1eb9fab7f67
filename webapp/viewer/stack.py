"""All slices of a study for the viewer's script, read as columns in one request."""

import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Row, select

from webapp.database import db
from webapp.inference.results import result_of, short_headline
from webapp.studies.models import Image, Series, Study
from webapp.viewer.orientation import Edges, edges_of
from webapp.viewer.series import (
    ListedAnswer,
    ShownSeries,
    current_answers,
    series_rows,
    shown_series,
)
from webapp.viewer.windowing import suggestion_of
from webapp.wording import REASONS, word


@dataclass(frozen=True)
class StackSlice:
    """One slice for the viewer's script.

    Attributes:
        ready: its pixels are available.
        spacing: millimetres between pixel centres, down and across.
        aspect: height over width of a pixel if the spacing is unknown; else None.
        window: the file's window (centre, width), in the scanner's values.
        scale, offset: scanner's value = pixel * scale + offset.
        label: the prediction in words: every class that is not ruled out.
        tumor: probability of a tumour of any class.
        strange: it does not resemble the brain MRI that the model was trained on.
        problem: why it could not be used, as a sentence.
        heat: whether it has a heatmap.
        is_key: whether it is a key slice.
    """

    id: uuid.UUID
    position: int
    ready: bool
    width: int
    height: int
    spacing: tuple[float, float] | None
    aspect: float | None
    window: tuple[float, float] | None
    scale: float
    offset: float
    label: str | None
    tumor: float | None
    strange: bool
    problem: str | None
    heat: bool
    is_key: bool


@dataclass(frozen=True)
class StackSeries:
    """One series for the viewer's script.

    Attributes:
        origin: centre of the first pixel of its first slice, DICOM's patient system, millimetres.
        normal: direction of increasing slice number, a unit vector of that system.
        spacing: millimetres between adjacent slices.
        edges: anatomical directions left, right, above and below; None if unknown.
    """

    id: uuid.UUID
    is_volume: bool
    origin: list[float] | None
    normal: list[float] | None
    spacing: float | None
    edges: Edges | None
    slices: list[StackSlice]


@dataclass(frozen=True)
class Stack:
    """All slices of a study for the viewer's script."""

    status: str
    series: list[StackSeries]


def read_stack(study: Study, *, without_answers: bool = False) -> Stack:
    """Read all slices of a study.

    Args:
        without_answers: leave out everything that the model says about them.
    """
    answers = {} if without_answers else current_answers(study)
    result = None if without_answers else result_of(study)
    keys = set(result.key_images) if result else set()
    rows = db.session.execute(
        select(
            Image.id, Image.series_id, Image.position, Image.blob_key, Image.width, Image.height,
            Image.row_spacing, Image.column_spacing, Image.pixel_aspect, Image.origin,
            Image.window_centre, Image.window_width, Image.value_scale, Image.value_offset,
            Image.problem,
        )
        .where(Image.study_id == study.id)
        .order_by(Image.position)
    ).all()  # fmt: skip
    first = {series.id: series for series in series_rows(study)}
    found = []
    for shown in shown_series(study):
        own = [row for row in rows if shown.holds(row.position)]
        slices = [_stack_slice(row, answers.get(row.id), row.id in keys) for row in own]
        found.append(_stack_series(first[shown.id], shown, own[0].origin, slices))
    return Stack(study.status.value, found)


def _stack_slice(
    row: Row[*tuple[Any, ...]], answer: ListedAnswer | None, is_key: bool
) -> StackSlice:
    measured = row.row_spacing is not None and row.column_spacing is not None
    window = suggestion_of(row)
    return StackSlice(
        id=row.id,
        position=row.position,
        ready=row.blob_key is not None,
        width=row.width,
        height=row.height,
        spacing=(row.row_spacing, row.column_spacing) if measured else None,
        aspect=row.pixel_aspect,
        window=(window.centre, window.width) if window else None,
        scale=row.value_scale,
        offset=row.value_offset,
        label=short_headline(answer.named) if answer else None,
        tumor=answer.tumor if answer else None,
        strange=answer is not None and not answer.in_distribution,
        problem=str(word(REASONS, row.problem)) if row.problem else None,
        heat=answer is not None and answer.heat,
        is_key=is_key,
    )


def _stack_series(
    series: Series, shown: ShownSeries, origin: list[float] | None, slices: list[StackSlice]
) -> StackSeries:
    normal = None
    if series.row_direction and series.column_direction:
        normal = [float(x) for x in np.cross(series.row_direction, series.column_direction)]
    return StackSeries(
        id=series.id,
        is_volume=shown.is_volume,
        origin=origin,
        normal=normal,
        spacing=series.slice_spacing,
        edges=edges_of(series),
        slices=slices,
    )
