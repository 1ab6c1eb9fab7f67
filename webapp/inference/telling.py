"""Slices of an analysis that are worth a reader's look, one for each reason.

They are found when an analysis ends, so that the queue of the reading room
(:mod:`webapp.reading.queue`) reads few rows by an index, however many slices there are. Readers
who disagree and candidates that contradict are found when the queue is read: they change later.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, delete, select
from sqlalchemy.orm import Mapped, mapped_column

from webapp.database import Base, Timestamped, db, enum_column
from webapp.inference.claims import NewPrediction
from webapp.studies.models import Analysis, Prediction, Study
from webapp.tenancy import OrganisationOwned

AUDIT_SHARE = 0.02
"""Share of all slices that are read whatever the model says: a measure of what it gets wrong."""
_IDS = float(2**128)


class Reason(StrEnum):
    """Why an assessment of a slice would teach something."""

    DISPUTED = "disputed"  # readers disagree
    CANDIDATE = "candidate"  # a candidate says something else than the model that serves
    CONTRADICTING = "contradicting"  # it suggests another tumour than its study
    UNCERTAIN = "uncertain"  # several classes are not ruled out, or all are
    UNFAMILIAR = "unfamiliar"  # it does not resemble what the model was trained on
    AUDIT = "audit"  # chosen by chance


class TellingSlice(Timestamped, OrganisationOwned, Base):
    """The slice of an analysis that tells most, for one reason. Only of current analyses.

    Attributes:
        score: how much it tells beside others with the same reason, 0..1.
    """

    __tablename__ = "telling_slice"
    __table_args__ = (
        Index("ix_telling_slice_queue", "organisation_id", "reason", "score", "image_id"),
    )

    analysis_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), primary_key=True
    )
    reason: Mapped[Reason] = mapped_column(enum_column(Reason, "reading_reason"), primary_key=True)
    image_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("image.id", ondelete="CASCADE"), index=True
    )
    score: Mapped[float]


@dataclass(frozen=True)
class _Found:
    reason: Reason
    image_id: uuid.UUID
    score: float


def keep_telling_slices(study: Study, answers: Sequence[NewPrediction | Prediction]) -> None:
    """Note which slices of the study's current analysis are worth a look; earlier notes go.

    Within the transaction that ends the analysis.

    Args:
        answers: all of the current analysis.
    """
    analysis = study.current_analysis
    assert analysis is not None  # noqa: S101 - one of them has just ended
    others = select(Analysis.id).where(Analysis.study_id == study.id)
    db.session.execute(
        delete(TellingSlice).where(TellingSlice.analysis_id.in_(others)),
        execution_options={"synchronize_session": False},
    )
    against = {uuid.UUID(one) for one in analysis.contradicting_images or {}}
    found: dict[Reason, _Found] = {}
    for one in (each for answer in answers for each in _reasons(answer, against)):
        best = found.get(one.reason)
        if best is None or (one.score, best.image_id) > (best.score, one.image_id):
            found[one.reason] = one
    db.session.add_all(
        TellingSlice(
            analysis_id=analysis.id, reason=one.reason, image_id=one.image_id, score=one.score
        )
        for one in found.values()
    )


def _reasons(answer: NewPrediction | Prediction, against: set[uuid.UUID]) -> Iterable[_Found]:
    image_id = answer.image_id
    if image_id in against:
        yield _Found(Reason.CONTRADICTING, image_id, answer.probabilities[answer.label])
    if len(answer.prediction_set) != 1:
        yield _Found(Reason.UNCERTAIN, image_id, _closeness(answer.probabilities))
    if not answer.in_distribution:
        odd = max(answer.ood_score, 0.0)
        yield _Found(Reason.UNFAMILIAR, image_id, odd / (1 + odd))
    place = image_id.int / _IDS  # identifiers are random, so this is chance that never changes
    if place < AUDIT_SHARE:
        yield _Found(Reason.AUDIT, image_id, 1 - place / AUDIT_SHARE)


def _closeness(probabilities: dict[str, Any]) -> float:
    """1 where the two likeliest classes are equally likely, 0 where one is certain."""
    first, second = sorted([0.0, 0.0, *probabilities.values()], reverse=True)[:2]
    return float(1 - (first - second))
