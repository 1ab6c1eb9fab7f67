"""Which readers have been shown the model's answer about a study, and who reads one without it.

A reader who reads a slice blind sees nothing of the model about its whole study, since every page
of a study speaks of all its slices. That ends when the reader has answered, or opens the study
outside the reading room: then the answer is shown, and the reading does not count as blind.
"""

import uuid
from collections.abc import Collection
from datetime import datetime

from sqlalchemy import ForeignKey, UniqueConstraint, select
from sqlalchemy.orm import Mapped, mapped_column

from webapp import audit
from webapp.database import Base, Identifier, Timestamped, db, now, retried
from webapp.studies.models import Status, Study
from webapp.tenancy import OrganisationOwned


class StudySight(Timestamped, OrganisationOwned, Base):
    """How a reader came upon the model's answer about a study.

    Attributes:
        image_id: the slice that is, or was, read blind.
        answer_shown_at: None while it is read blind.
    """

    __tablename__ = "study_sight"
    __table_args__ = (UniqueConstraint("reader_id", "study_id"),)

    id: Mapped[Identifier]
    reader_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))
    study_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("study.id", ondelete="CASCADE"), index=True
    )
    image_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("image.id", ondelete="CASCADE"), index=True
    )
    answer_shown_at: Mapped[datetime | None]


def blind_slice(reader_id: uuid.UUID, study_id: uuid.UUID) -> uuid.UUID | None:
    """The slice of the study that the reader reads blind just now; None where none is."""
    return db.session.scalar(
        select(StudySight.image_id).where(
            StudySight.reader_id == reader_id,
            StudySight.study_id == study_id,
            StudySight.answer_shown_at.is_(None),
        )
    )


def studies_shown(reader_id: uuid.UUID, study_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Those of which the reader has been shown the model's answer on a page."""
    return set(
        db.session.scalars(
            select(StudySight.study_id).where(
                StudySight.reader_id == reader_id,
                StudySight.study_id.in_(study_ids),
                StudySight.answer_shown_at.is_not(None),
            )
        )
    )


def begin_blind(*, reader_id: uuid.UUID, study_id: uuid.UUID, image_id: uuid.UUID) -> None:
    """From now on the reader sees nothing of the model about the study, until it is answered."""

    def begin() -> None:
        if _sight(reader_id, study_id) is not None:
            return
        row = StudySight(reader_id=reader_id, study_id=study_id, image_id=image_id)
        db.session.add(row)
        audit.record("begin_blind_reading", subject=row, actor_id=reader_id, image_id=str(image_id))
        db.session.commit()

    retried(begin)


def note_answer_shown(reader_id: uuid.UUID, study: Study) -> None:
    """Note that a page has shown the model's answer; does nothing while there is none."""
    if study.status is not Status.DONE:
        return
    study_id = study.id
    found = _sight(reader_id, study_id)
    if found is None or found.answer_shown_at is None:
        retried(lambda: _note(reader_id, study_id))


def end_blind(reader_id: uuid.UUID, study_id: uuid.UUID) -> None:
    """The reader has answered: the model's answer may be shown. The caller commits."""
    found = _sight(reader_id, study_id)
    if found is None:
        db.session.add(StudySight(reader_id=reader_id, study_id=study_id, answer_shown_at=now()))
    else:
        found.answer_shown_at = found.answer_shown_at or now()


def _note(reader_id: uuid.UUID, study_id: uuid.UUID) -> None:
    found = _sight(reader_id, study_id)
    if found is not None and found.answer_shown_at is None:
        audit.record("leave_blind_reading", subject=found, actor_id=reader_id)
    end_blind(reader_id, study_id)
    db.session.commit()


def _sight(reader_id: uuid.UUID, study_id: uuid.UUID) -> StudySight | None:
    return db.session.scalar(
        select(StudySight).where(StudySight.reader_id == reader_id, StudySight.study_id == study_id)
    )
