"""What the page of a study shows: one slice looked at, the key slices, comparable studies.

The part of the page that asks again and again must not grow with the study: it reads sums, the
slice looked at and the key slices.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy import select
from sqlalchemy.orm import selectinload

from webapp.database import db
from webapp.models_admin.models import ModelVersion
from webapp.studies.models import Analysis, Image, Prediction, Status, Study
from webapp.studies.queries import newest_analyses
from webapp.studies.series import (
    Answer,
    ShownSeries,
    key_ids,
    newest_answers,
    shown_series,
)

LISTED_AT_MOST = 24
"""Up to here a study's images are shown one by one; above, the strip stands for them."""
_COMPARABLE_AT_MOST = 50


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
        dissenting: slices that speak for another tumour than the study is said to have.
        analysis: the newest one.
    """

    study: Study
    series: list[ShownSeries]
    images: list[Image]
    selected: Image | None
    keys: list[KeySlice]
    dissenting: list[KeySlice]
    analysis: Analysis | None

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


def look_at(study: Study, *, position: int | None = None) -> Look:
    """Load what the page shows; without a ``position`` the study's key slice is looked at.

    The number of rows read does not depend on the number of slices, but for studies of up to
    ``LISTED_AT_MOST`` and for those that were done before key slices were kept.
    """
    series = shown_series(study)
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
        dissenting=_dissenting(study),
        analysis=newest_analyses([study.id]).get(study.id),
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
    answers = None if study.key_image_ids else newest_answers(study)
    ids = key_ids(study, answers or {})
    if answers is None:
        answers = newest_answers(study, ids)
    return _slices(ids, answers)


def _dissenting(study: Study) -> list[KeySlice]:
    if study.status is not Status.DONE or not study.dissenting_image_ids:
        return []
    ids = [uuid.UUID(one) for one in study.dissenting_image_ids]
    return _slices(ids, newest_answers(study, ids))


def _slices(ids: Sequence[uuid.UUID], answers: Mapping[uuid.UUID, Answer]) -> list[KeySlice]:
    found = db.session.execute(select(Image.id, Image.position).where(Image.id.in_(ids)))
    positions = dict(found.all())
    return [
        KeySlice(positions[one], answers[one].label, answers[one].tumor)
        for one in ids
        if one in positions and one in answers
    ]
