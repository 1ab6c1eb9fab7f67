"""Assessments of readers, those that they have begun, and what settles where they disagree."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint, false, text, true
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.accounts.models import User
from webapp.database import Base, Identifier, Timestamped, enum_column, now
from webapp.studies.models import Analysis, Image, Prediction, Study
from webapp.tenancy import OrganisationOwned, owner_without_index

OTHER = "other"
"""Label of an assessment with a disease that the model does not know."""


class Verdict(StrEnum):
    """A reader's verdict on the model's answer."""

    AGREE = "agree"
    DISAGREE = "disagree"
    UNSURE = "unsure"


class Confidence(StrEnum):
    """How sure the reader is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


def _unique_while_current(name: str, *columns: str, where: str) -> Index:
    condition = text(f"superseded_at IS NULL AND {where}")
    return Index(name, *columns, unique=True, sqlite_where=condition, postgresql_where=condition)


_OF_SLICES = text("superseded_at IS NULL AND image_id IS NOT NULL")
_CURRENT = text("superseded_at IS NULL")


class Assessment(Timestamped, OrganisationOwned, Base):
    """One reader's assessment of one slice or of a whole study.

    It refers to the analysis that the reader saw. The current assessment has no ``superseded_at``;
    each reader has at most one per slice and one for the whole study.

    Attributes:
        image_id: the slice; None for the whole study.
        prediction_id: the analysis's prediction for the slice.
        label: the class that the reader considers correct: the model's for ``agree``, the
            reader's for ``disagree``, None for ``unsure``; :data:`OTHER` is none of the model's.
        finding: with :data:`OTHER`, what it is: a key of :data:`webapp.wording.FINDINGS`, or the
            reader's own words.
        region: a polygon of ``[x, y]`` points as fractions of width and height.
        blind: the reader came to this opinion before another reader's could be seen
            (:mod:`webapp.review.independence`).
        model_shown: the reader had been shown the model's answer; False for a first opinion in the
            reading room's blind mode.
    """

    __tablename__ = "assessment"
    __table_args__ = (
        _unique_while_current(
            "uq_assessment_current_of_image", "image_id", "reader_id", where="image_id IS NOT NULL"
        ),
        _unique_while_current(
            "uq_assessment_current_of_study", "study_id", "reader_id", where="image_id IS NULL"
        ),
        Index("ix_assessment_of_reader", "reader_id", "created_at", "id"),
        Index(
            "ix_assessment_progress",
            "organisation_id",
            "reader_id",
            "created_at",
            sqlite_where=_OF_SLICES,
            postgresql_where=_OF_SLICES,
        ),
        Index(
            "ix_assessment_current",
            "organisation_id",
            "created_at",
            "id",
            sqlite_where=_CURRENT,
            postgresql_where=_CURRENT,
        ),
        Index(
            "ix_assessment_votes",
            "organisation_id",
            "image_id",
            "label",
            "created_at",
            sqlite_where=_OF_SLICES,
            postgresql_where=_OF_SLICES,
        ),
    )

    id: Mapped[Identifier]
    organisation_id: Mapped[uuid.UUID] = owner_without_index()
    study_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("study.id", ondelete="CASCADE"), index=True
    )
    analysis_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), index=True
    )
    image_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("image.id", ondelete="CASCADE"), index=True
    )
    prediction_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("prediction.id", ondelete="CASCADE")
    )
    reader_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"), index=True)
    verdict: Mapped[Verdict] = mapped_column(enum_column(Verdict, "verdict"))
    label: Mapped[str | None] = mapped_column(String(16))
    finding: Mapped[str] = mapped_column(String(64), default="")
    confidence: Mapped[Confidence | None] = mapped_column(enum_column(Confidence, "confidence"))
    comment: Mapped[str] = mapped_column(Text, default="")
    region: Mapped[dict[str, Any] | None]
    superseded_at: Mapped[datetime | None]
    blind: Mapped[bool] = mapped_column(default=False, server_default=false())
    model_shown: Mapped[bool] = mapped_column(default=True, server_default=true())

    study: Mapped[Study] = relationship()
    analysis: Mapped[Analysis] = relationship()
    image: Mapped[Image | None] = relationship()
    prediction: Mapped[Prediction | None] = relationship()
    reader: Mapped[User] = relationship()


class Adjudication(Timestamped, OrganisationOwned, Base):
    """What a slice is called that readers disagree about, by somebody who has not read it.

    The current one of a slice has no ``superseded_at``.

    Attributes:
        label: one of the model's classes, or :data:`OTHER` with a ``finding``.
        about: ids of the assessments that were weighed; another opinion that comes later and
            disagrees opens the dispute again.
    """

    __tablename__ = "adjudication"
    __table_args__ = (
        _unique_while_current("uq_adjudication_current", "image_id", where="image_id IS NOT NULL"),
    )

    id: Mapped[Identifier]
    image_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("image.id", ondelete="CASCADE"), index=True
    )
    adjudicator_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"), index=True)
    label: Mapped[str] = mapped_column(String(16))
    finding: Mapped[str] = mapped_column(String(64), default="")
    comment: Mapped[str] = mapped_column(Text, default="")
    about: Mapped[list[str]]
    superseded_at: Mapped[datetime | None]

    image: Mapped[Image] = relationship()
    adjudicator: Mapped[User] = relationship()


class BlindReading(Timestamped, OrganisationOwned, Base):
    """A slice that a reader named before the model's answer was shown, and what came of it.

    Attributes:
        first_id: the assessment given without the model's answer.
        first_label, final_label: None for "unsure", or while there is no final one.
        final_id: the reader's next one of the slice, with the model's answer in sight; None until
            the reader has said whether the first one stands.
    """

    __tablename__ = "blind_reading"

    id: Mapped[Identifier]
    reader_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"), index=True)
    image_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("image.id", ondelete="CASCADE"), index=True
    )
    first_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("assessment.id", ondelete="CASCADE"), unique=True
    )
    final_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("assessment.id", ondelete="CASCADE"), index=True
    )
    first_label: Mapped[str | None] = mapped_column(String(16))
    model_label: Mapped[str] = mapped_column(String(16))
    final_label: Mapped[str | None] = mapped_column(String(16))


class ReaderFlag(Timestamped, OrganisationOwned, Base):
    """A reader who assessed in masses in a way that wants a look; lifted by a data steward.

    While it stands, the reader's assessments do not help to make a quorum.

    Attributes:
        evidence: what was found, as numbers (:mod:`webapp.review.mass_corrections`).
        lifted_at: None while it stands.
    """

    __tablename__ = "reader_flag"
    __table_args__ = (
        Index(
            "uq_reader_flag_standing",
            "reader_id",
            unique=True,
            sqlite_where=text("lifted_at IS NULL"),
            postgresql_where=text("lifted_at IS NULL"),
        ),
    )

    id: Mapped[Identifier]
    reader_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"), index=True)
    evidence: Mapped[dict[str, Any]]
    lifted_at: Mapped[datetime | None]
    lifted_by_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user.id"))

    reader: Mapped[User] = relationship(foreign_keys=reader_id)


class AssessmentDraft(Timestamped, OrganisationOwned, Base):
    """An assessment that a reader has not saved yet; at most one per reader and study.

    Attributes:
        payload: the fields of the form as typed, not validated.
    """

    __tablename__ = "assessment_draft"
    __table_args__ = (UniqueConstraint("reader_id", "study_id"),)

    id: Mapped[Identifier]
    reader_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))
    study_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("study.id", ondelete="CASCADE"), index=True
    )
    payload: Mapped[dict[str, str]]
    updated_at: Mapped[datetime] = mapped_column(default=now, index=True)
