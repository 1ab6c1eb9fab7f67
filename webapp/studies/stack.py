"""What the viewer is told: the slices of a study, series by series, and the one looked at.

The part of the page that asks again and again must not grow with the study: it reads sums, the
slice looked at and the key slices. Everything about all slices is asked for once, as columns.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Any

import numpy as np
from flask_babel import LazyString
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from sqlalchemy import Row, func, select
from sqlalchemy.orm import selectinload

from webapp.database import db
from webapp.errors import NotFound
from webapp.models_admin.models import ModelVersion
from webapp.studies.models import Image, InferenceJob, Prediction, Series, Status, Study
from webapp.studies.queries import newest_jobs
from webapp.wording import LABELS, REASONS, word

LISTED_AT_MOST = 24
"""Up to here a study's images are shown one by one; above, the strip stands for them."""
_COMPARABLE_AT_MOST = 50

PLANES: Mapping[str, LazyString] = {
    "axial": _l("Axial"),
    "coronal": _l("Coronal"),
    "sagittal": _l("Sagittal"),
    "oblique": _l("Oblique"),
}


@dataclass(frozen=True)
class ShownSeries:
    """A series as the page offers it; single pictures in a row are offered as one.

    Attributes:
        first: position of its first slice inside the study.
        problems: slices that could not be decoded or classified.
    """

    id: uuid.UUID
    plane: str | None
    modality: str | None
    first: int
    count: int
    problems: int
    is_volume: bool
    missing: int
    duplicates: int

    @property
    def name(self) -> str:
        """Plane and modality, as far as they are known."""
        parts = [str(word(PLANES, self.plane)), self.modality or ""]
        return " ".join(part for part in parts if part) or _("Images")

    @property
    def middle(self) -> int:
        """Position of the slice in the middle, where there is most to see."""
        return self.first + (self.count - 1) // 2

    def holds(self, position: int) -> bool:
        """Whether the slice at ``position`` belongs to it."""
        return self.first <= position < self.first + self.count


@dataclass(frozen=True)
class KeySlice:
    """A slice that stands for the study.

    Attributes:
        tumor: probability that it holds a tumour of any class.
    """

    position: int
    label: str
    tumor: float


@dataclass(frozen=True)
class Look:
    """A study with one of its slices looked at: all that the page and its result need.

    Attributes:
        images: all of them with their answers, or none where they are more than
            ``LISTED_AT_MOST``.
        selected: the slice looked at.
        job: the newest one.
    """

    study: Study
    series: list[ShownSeries]
    images: list[Image]
    selected: Image | None
    keys: list[KeySlice]
    job: InferenceJob | None

    @property
    def total(self) -> int:
        """Number of images of the study."""
        return sum(series.count for series in self.series)

    @property
    def problems(self) -> int:
        """Number of images that could not be used."""
        return sum(series.problems for series in self.series)

    @property
    def shown(self) -> ShownSeries | None:
        """The series of the slice looked at."""
        if self.selected is None:
            return None
        position = self.selected.position
        return next((one for one in self.series if one.holds(position)), None)

    @property
    def prediction(self) -> Prediction | None:
        """The answer about the slice looked at."""
        return self.selected.prediction if self.selected else None

    @property
    def model(self) -> ModelVersion | None:
        """The model that gave it."""
        return self.prediction.model_version if self.prediction else None


@dataclass(frozen=True)
class StackSlice:
    """One slice for the script of the viewer.

    Attributes:
        ready: its pixels can be asked for.
        spacing: millimetres between pixel centres, down and across.
        window: centre and width that the file suggests, in the scanner's values.
        scale, offset: scanner's value = pixel * scale + offset.
        label: the answer, as a word.
        tumor: probability that it holds a tumour of any class.
        strange: it does not look like the brain MRI that the model has learnt.
        problem: why it could not be used, as a sentence.
        heat: there is a heatmap.
        is_key: it stands for the study.
    """

    id: uuid.UUID
    position: int
    ready: bool
    width: int
    height: int
    spacing: tuple[float, float] | None
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
    """One series for the script of the viewer.

    Attributes:
        origin: centre of its first slice's first pixel, DICOM's patient system, millimetres.
        normal: where the slices go on to, a unit vector of that system.
        spacing: millimetres between neighbouring slices.
    """

    id: uuid.UUID
    is_volume: bool
    origin: list[float] | None
    normal: list[float] | None
    spacing: float | None
    slices: list[StackSlice]


@dataclass(frozen=True)
class Stack:
    """All slices of a study for the script of the viewer."""

    status: str
    series: list[StackSeries]


@dataclass(frozen=True)
class Comparable:
    """Another study of the same patient.

    Attributes:
        day: when it was acquired, else when it arrived.
    """

    id: uuid.UUID
    day: date
    description: str
    label: str | None
    is_earlier: bool


@dataclass(frozen=True)
class _Answer:
    """The newest answer about an image, as far as lists need it."""

    label: str
    tumor: float
    in_distribution: bool
    heat: bool


def look_at(study: Study, *, position: int | None = None) -> Look:
    """Load what the page shows; without a ``position`` the study's key slice is looked at.

    The number of rows read does not depend on the number of slices, but for studies of up to
    ``LISTED_AT_MOST`` and for those that were done before key slices were kept.
    """
    series = _shown_series(study)
    keys = _key_slices(study)
    total = sum(one.count for one in series)
    wanted = position if position is not None and 0 <= position < total else None
    if wanted is None:
        wanted = keys[0].position if keys else (series[0].middle if series else 0)
    return Look(
        study=study,
        series=series,
        images=images_of(study) if 1 < total <= LISTED_AT_MOST else [],
        selected=_image_at(study, wanted),
        keys=keys,
        job=newest_jobs([study.id]).get(study.id),
    )


def images_of(study: Study) -> list[Image]:
    """All images in order, with their answers; what the list of all images shows."""
    return list(
        db.session.scalars(
            select(Image)
            .where(Image.study_id == study.id)
            .order_by(Image.position)
            .options(selectinload(Image.predictions))
            # The worker writes meanwhile; what the session remembers may be old.
            .execution_options(populate_existing=True)
        )
    )


def read_stack(study: Study) -> Stack:
    """All slices of a study, as the script of the viewer needs them."""
    answers = _answers(study)
    keys = set(_key_ids(study, answers))
    rows = db.session.execute(
        select(
            Image.id, Image.series_id, Image.position, Image.blob_key, Image.width, Image.height,
            Image.row_spacing, Image.column_spacing, Image.origin, Image.window_centre,
            Image.window_width, Image.value_scale, Image.value_offset, Image.problem,
        )
        .where(Image.study_id == study.id)
        .order_by(Image.position)
    ).all()  # fmt: skip
    first = {series.id: series for series in _series_rows(study)}
    found = []
    for shown in _shown_series(study):
        own = [row for row in rows if shown.holds(row.position)]
        slices = [_stack_slice(row, answers.get(row.id), row.id in keys) for row in own]
        found.append(_stack_series(first[shown.id], shown, own[0].origin, slices))
    return Stack(study.status.value, found)


def find_series(series_id: uuid.UUID) -> Series:
    """The series of the organisation acted for; raises :class:`NotFound`."""
    series = db.session.scalar(select(Series).where(Series.id == series_id))
    if series is None:
        raise NotFound(_("There is no such series."))
    return series


def comparable_studies(study: Study) -> list[Comparable]:
    """The same patient's other studies that are done, the latest first."""
    others = db.session.scalars(
        select(Study)
        .where(
            Study.patient_id == study.patient_id,
            Study.id != study.id,
            Study.status == Status.DONE,
        )
        .order_by(Study.created_at.desc())
        .limit(_COMPARABLE_AT_MOST)
    )
    own = _moment(study)
    ordered = sorted(others, key=_moment, reverse=True)
    return [
        Comparable(one.id, _moment(one)[0], one.description, one.label, _moment(one) < own)
        for one in ordered
    ]


def _moment(study: Study) -> tuple[date, float]:
    arrived = study.created_at
    return study.acquired_on or arrived.date(), arrived.timestamp()


def _series_rows(study: Study) -> Sequence[Series]:
    found = select(Series).where(Series.study_id == study.id).order_by(Series.position)
    return db.session.scalars(found).all()


def _shown_series(study: Study) -> list[ShownSeries]:
    found = db.session.execute(
        select(
            Series.id, Series.plane, Series.modality, Series.is_volume, Series.missing,
            Series.duplicates, func.min(Image.position).label("first"),
            func.count(Image.id).label("images"), func.count(Image.problem).label("problems"),
        )
        .join(Image, Image.series_id == Series.id)
        .where(Series.study_id == study.id)
        .group_by(Series.id)
        .order_by(func.min(Image.position))
    ).all()  # fmt: skip
    every = [
        ShownSeries(
            id=row.id,
            plane=row.plane,
            modality=row.modality,
            first=row.first,
            count=row.images,
            problems=row.problems,
            is_volume=row.is_volume,
            missing=row.missing,
            duplicates=row.duplicates,
        )
        for row in found
    ]
    return [_joined(list(run)) for _key, run in groupby(every, key=_run_key)]


def _run_key(series: ShownSeries) -> object:
    """Alike for single pictures; a series of its own for everything else."""
    return "single" if series.count == 1 and series.plane is None else series.id


def _joined(run: list[ShownSeries]) -> ShownSeries:
    if len(run) == 1:
        return run[0]
    return ShownSeries(
        id=run[0].id,
        plane=None,
        modality=run[0].modality,
        first=run[0].first,
        count=sum(one.count for one in run),
        problems=sum(one.problems for one in run),
        is_volume=False,
        missing=sum(one.missing for one in run),
        duplicates=sum(one.duplicates for one in run),
    )


def _image_at(study: Study, position: int) -> Image | None:
    return db.session.scalar(
        select(Image)
        .where(Image.study_id == study.id, Image.position == position)
        .options(
            selectinload(Image.predictions)
            .joinedload(Prediction.model_version)
            .load_only(ModelVersion.name, ModelVersion.sha256)
        )
        .execution_options(populate_existing=True)
    )


def _key_slices(study: Study) -> list[KeySlice]:
    """The likeliest first, as the worker has put them."""
    if study.status is not Status.DONE:
        return []
    answers = None if study.key_image_ids else _answers(study)
    ids = _key_ids(study, answers or {})
    if answers is None:
        answers = _answers(study, ids)
    found = db.session.execute(select(Image.id, Image.position).where(Image.id.in_(ids)))
    positions = dict(found.all())
    return [
        KeySlice(positions[one], answers[one].label, answers[one].tumor)
        for one in ids
        if one in positions and one in answers
    ]


def _key_ids(study: Study, answers: Mapping[uuid.UUID, _Answer]) -> list[uuid.UUID]:
    """Those that the worker has chosen; for older studies the slice likeliest to hold a tumour."""
    if study.key_image_ids:
        return [uuid.UUID(one) for one in study.key_image_ids]
    if study.status is not Status.DONE or not answers:
        return []
    return [max(answers, key=lambda one: answers[one].tumor)]


def _answers(study: Study, only: Sequence[uuid.UUID] | None = None) -> dict[uuid.UUID, _Answer]:
    """The newest answer about each image."""
    wanted = (
        select(
            Prediction.image_id, Prediction.label, Prediction.probabilities,
            Prediction.in_distribution, Prediction.heatmap_key,
        )
        .join(Image, Image.id == Prediction.image_id)
        .where(Image.study_id == study.id)
        .order_by(Prediction.created_at, Image.position)
    )  # fmt: skip
    if only is not None:
        wanted = wanted.where(Image.id.in_(only))
    return {
        row.image_id: _Answer(
            label=row.label,
            tumor=round(1.0 - row.probabilities["no_tumor"], 4),
            in_distribution=row.in_distribution,
            heat=row.heatmap_key is not None,
        )
        for row in db.session.execute(wanted)
    }


def _stack_slice(row: Row[*tuple[Any, ...]], answer: _Answer | None, is_key: bool) -> StackSlice:
    measured = row.row_spacing is not None and row.column_spacing is not None
    windowed = row.window_centre is not None and row.window_width is not None
    return StackSlice(
        id=row.id,
        position=row.position,
        ready=row.blob_key is not None,
        width=row.width,
        height=row.height,
        spacing=(row.row_spacing, row.column_spacing) if measured else None,
        window=(row.window_centre, row.window_width) if windowed else None,
        scale=row.value_scale,
        offset=row.value_offset,
        label=str(word(LABELS, answer.label)) if answer else None,
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
        slices=slices,
    )
