"""Data for the page of a study: the selected slice, the key slices, comparable studies.

The part of the page that polls must not grow with the study: it reads only sums, the selected
slice and the key slices.
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
"""Up to this number a study's images are listed one by one; above it only the strip is shown."""
_COMPARABLE_AT_MOST = 50


@dataclass(frozen=True)
class KeySlice:
    """A slice that represents the study or contradicts its result.

    Attributes:
        tumor: probability of a tumour of any class.
    """

    position: int
    label: str
    tumor: float


@dataclass(frozen=True)
class Earlier:
    """The result of an earlier analysis of the study, and its model."""

    result: StudyResult
    model: ModelVersion | None


@dataclass(frozen=True)
class Look:
    """A study with one selected slice: everything that the page and its result part need.

    Attributes:
        selected: the selected slice.
        contradicting: slices that suggest another tumour than the study's result.
        result: the study's result, or None.
    """

    study: Study
    series: list[ShownSeries]
    selected: Image | None
    keys: list[KeySlice]
    contradicting: list[KeySlice]
    result: StudyResult | None

    # Cached properties, because the part of the page that polls shows neither of these two.

    @cached_property
    def images(self) -> list[Image]:
        """All images with their predictions; empty if there are more than ``LISTED_AT_MOST``."""
        return images_of(self.study) if 1 < self.total <= LISTED_AT_MOST else []

    @cached_property
    def earlier(self) -> list[Earlier]:
        """Results of earlier analyses, latest first."""
        return _earlier(self.study)

    @property
    def analysis(self) -> Analysis | None:
        """The study's current analysis."""
        return self.study.current_analysis

    @property
    def is_of_slices(self) -> bool:
        """Whether its images are slices of a series, not single pictures."""
        return are_slices(self.series)

    @property
    def order_notes(self) -> list[str]:
        """The distinct notes on guessed orders of series."""
        return list(dict.fromkeys(one.order_note for one in self.series if one.order_note))

    @property
    def total(self) -> int:
        """Number of images in the study."""
        return sum(series.count for series in self.series)

    @property
    def problems(self) -> int:
        """Number of images that could not be used."""
        return sum(series.problems for series in self.series)

    @property
    def shown(self) -> ShownSeries | None:
        """The series of the selected slice."""
        if self.selected is None:
            return None
        position = self.selected.position
        return next((one for one in self.series if one.holds(position)), None)

    @property
    def prediction(self) -> Prediction | None:
        """The prediction for the selected slice."""
        return self.selected.prediction if self.selected else None

    @property
    def model(self) -> ModelVersion | None:
        """The model of that prediction."""
        return model_of(self.study) if self.prediction else None


@dataclass(frozen=True)
class Comparable:
    """Another study of the same patient.

    Attributes:
        day: of acquisition, or else of arrival.
        headline: its result in words; empty without a result.
    """

    id: uuid.UUID
    day: date
    description: str
    headline: str
    is_earlier: bool


def look_at(study: Study, *, position: int | None = None) -> Look:
    """Load what the page shows; without a ``position`` the study's key slice is selected.

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
    """The same patient's other finished studies, latest first."""
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
    """Key slices in the order of ``ids``."""
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
