"""What the page of a study shows: one slice looked at, the key slices, comparable studies.

The part of the page that asks again and again must not grow with the study: it reads sums, the
slice looked at and the key slices.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property

from sqlalchemy import select
from sqlalchemy.orm import contains_eager, selectinload

from webapp.database import db
from webapp.inference.results import (
    StudyResult,
    earlier_analyses,
    model_of,
    result_of,
    result_of_analysis,
    short_headline,
)
from webapp.models_admin.models import ModelVersion
from webapp.studies.models import Analysis, Image, Prediction, Status, Study
from webapp.studies.queries import images_of
from webapp.viewer.series import ShownSeries, are_slices, current_answers, shown_series

LISTED_AT_MOST = 24
"""Up to here a study's images are shown one by one; above, the strip stands for them."""
_COMPARABLE_AT_MOST = 50


@dataclass(frozen=True)
class KeySlice:
    """A slice that stands for the study, or against it.

    Attributes:
        tumor: probability that it holds a tumour of any class.
    """

    position: int
    label: str
    tumor: float


@dataclass(frozen=True)
class Earlier:
    """What was said about the study before it was analysed again, and by which model."""

    result: StudyResult
    model: ModelVersion | None


@dataclass(frozen=True)
class Look:
    """A study with one of its slices looked at: all that the page and its result need.

    Attributes:
        selected: the slice looked at.
        contradicting: slices that suggest another tumour than the study is said to have.
        result: what is said about the study; None until there is an answer.
    """

    study: Study
    series: list[ShownSeries]
    selected: Image | None
    keys: list[KeySlice]
    contradicting: list[KeySlice]
    result: StudyResult | None

    # The part of the page that asks again and again shows neither of these two.

    @cached_property
    def images(self) -> list[Image]:
        """All of them with their answers, or none where they are more than ``LISTED_AT_MOST``."""
        return images_of(self.study) if 1 < self.total <= LISTED_AT_MOST else []

    @cached_property
    def earlier(self) -> list[Earlier]:
        """What earlier analyses said, the latest first."""
        return _earlier(self.study)

    @property
    def analysis(self) -> Analysis | None:
        """The current one."""
        return self.study.current_analysis

    @property
    def is_of_slices(self) -> bool:
        """Whether its images are slices of a series, and not single pictures."""
        return are_slices(self.series)

    @property
    def order_notes(self) -> list[str]:
        """Each way in which the order of a series was guessed, once."""
        return list(dict.fromkeys(one.order_note for one in self.series if one.order_note))

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
        return model_of(self.study) if self.prediction else None


@dataclass(frozen=True)
class Comparable:
    """Another study of the same patient.

    Attributes:
        day: when it was acquired, else when it arrived.
        headline: what it is called, in words; empty where it has no answer.
    """

    id: uuid.UUID
    day: date
    description: str
    headline: str
    is_earlier: bool


def look_at(study: Study, *, position: int | None = None) -> Look:
    """Load what the page shows; without a ``position`` the study's key slice is looked at.

    The number of rows read does not depend on the number of slices.
    """
    series = shown_series(study)
    result = result_of(study)
    keys = _slices(study, result.key_images) if result else []
    total = sum(one.count for one in series)
    wanted = position if position is not None and 0 <= position < total else None
    if wanted is None:
        wanted = keys[0].position if keys else (series[0].middle if series else 0)
    return Look(
        study=study,
        series=series,
        selected=_image_at(study, wanted),
        keys=keys,
        contradicting=_slices(study, tuple(result.contradicting)) if result else [],
        result=result,
    )


def comparable_studies(study: Study) -> list[Comparable]:
    """The same patient's other studies that are done, the latest first."""
    others = db.session.scalars(
        select(Study)
        .join(Study.current_analysis)
        .options(contains_eager(Study.current_analysis))
        .where(
            Study.patient_id == study.patient_id,
            Study.id != study.id,
            Analysis.status == Status.DONE,
        )
        .order_by(Study.created_at.desc())
        .limit(_COMPARABLE_AT_MOST)
    )
    own = _moment(study)
    ordered = sorted(others, key=_moment, reverse=True)
    return [
        Comparable(one.id, _moment(one)[0], one.description, _named_in(one), _moment(one) < own)
        for one in ordered
    ]


def _moment(study: Study) -> tuple[date, float]:
    arrived = study.created_at
    return study.acquired_on or arrived.date(), arrived.timestamp()


def _named_in(study: Study) -> str:
    result = result_of(study)
    return short_headline(result.named) if result else ""


def _image_at(study: Study, position: int) -> Image | None:
    return db.session.scalar(
        select(Image)
        .where(Image.study_id == study.id, Image.position == position)
        .options(
            selectinload(
                Image.predictions.and_(Prediction.analysis_id == study.current_analysis_id)
            )
        )
        .execution_options(populate_existing=True)
    )


def _earlier(study: Study) -> list[Earlier]:
    return [
        Earlier(result, one.model_version)
        for one in earlier_analyses(study)
        if (result := result_of_analysis(one)) is not None
    ]


def _slices(study: Study, ids: Sequence[uuid.UUID]) -> list[KeySlice]:
    """In the order of ``ids``."""
    if not ids:
        return []
    answers = current_answers(study, ids)
    found = db.session.execute(select(Image.id, Image.position).where(Image.id.in_(ids)))
    positions = dict(found.all())
    return [
        KeySlice(positions[one], answers[one].label, answers[one].tumor)
        for one in ids
        if one in positions and one in answers
    ]
