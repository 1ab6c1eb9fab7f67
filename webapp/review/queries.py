"""Read-only queries on assessments, for the pages and the API."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, true
from sqlalchemy.orm import aliased, joinedload, lazyload

from webapp.accounts.models import Role, User
from webapp.database import db, now
from webapp.models_admin.models import ModelVersion
from webapp.review.models import Assessment, AssessmentDraft
from webapp.review.operations import DRAFTS_LAST
from webapp.studies.models import Analysis, Image, Prediction, Study
from webapp.studies.paging import Cursor, cut


@dataclass(frozen=True)
class Assessments:
    """Assessments of one slice and of its whole study, as one reader sees them.

    Attributes:
        current: the reader's own of the slice.
        current_of_study: the reader's own of the whole study.
        earlier: the reader's superseded ones of either, newest first.
        others: current ones of other readers that the reader may see, newest first.
        hidden: number of those hidden until the reader has saved an assessment.
    """

    current: Assessment | None
    current_of_study: Assessment | None
    earlier: list[Assessment]
    others: list[Assessment]
    hidden: int


def assessments_of(study_id: uuid.UUID, image_id: uuid.UUID, *, reader: User) -> Assessments:
    """Assessments of the slice and of its whole study, as ``reader`` sees them."""
    found = db.session.scalars(
        select(Assessment)
        .where(
            Assessment.study_id == study_id,
            or_(Assessment.image_id == image_id, Assessment.image_id.is_(None)),
        )
        .order_by(Assessment.created_at.desc())
        .options(joinedload(Assessment.reader).options(lazyload(User.organisation)))
    ).all()
    own = [one for one in found if one.reader_id == reader.id]
    others = [one for one in found if one.reader_id != reader.id and one.superseded_at is None]
    current = _first_current(own, image_id)
    current_of_study = _first_current(own, None)
    if reader.organisation.blind_reading and current_of_study is None:
        shown = [one for one in others if current is not None and one.image_id is not None]
    else:
        shown = others
    return Assessments(
        current=current,
        current_of_study=current_of_study,
        earlier=[one for one in own if one.superseded_at is not None],
        others=shown,
        hidden=len(others) - len(shown),
    )


def visible_to(reader: User) -> ColumnElement[bool]:
    """Condition for assessments that ``reader`` may see on pages about a study.

    With blind reading: the reader's own, those of slices that the reader has assessed, and all
    of a study that the reader has assessed as a whole.
    """
    if not reader.organisation.blind_reading:
        return true()
    own = aliased(Assessment)
    covers = or_(own.image_id == Assessment.image_id, own.image_id.is_(None))
    mine = select(own.id).where(
        own.reader_id == reader.id,
        own.superseded_at.is_(None),
        own.study_id == Assessment.study_id,
        covers,
    )
    return or_(Assessment.reader_id == reader.id, mine.correlate(Assessment).exists())


def listed_for(reader: User) -> ColumnElement[bool]:
    """Condition for assessments in lists and exports: all for reviewers, else the visible ones."""
    return true() if sees_all(reader) else visible_to(reader)


def sees_all(reader: User) -> bool:
    """Whether lists and exports hide no assessment from ``reader``."""
    return reader.may(Role.REVIEWER) or not reader.organisation.blind_reading


def draft_of(study_id: uuid.UUID, *, reader: User) -> AssessmentDraft | None:
    """The reader's draft for the study, or None."""
    return db.session.scalar(
        select(AssessmentDraft).where(
            AssessmentDraft.reader_id == reader.id,
            AssessmentDraft.study_id == study_id,
            AssessmentDraft.updated_at >= now() - DRAFTS_LAST,
        )
    )


def answered_between(
    study: Study, analysis_id: uuid.UUID, first: int, last: int
) -> tuple[uuid.UUID, ...]:
    """Slices with a prediction at these positions in the study, both ends included."""
    found = (
        select(Image.id)
        .join(
            Prediction,
            and_(Prediction.image_id == Image.id, Prediction.analysis_id == analysis_id),
        )
        .where(Image.study_id == study.id, Image.position.between(first, last))
        .order_by(Image.position)
    )
    return tuple(db.session.scalars(found))


def current_assessments() -> Select[Assessment]:
    """The statement for all current assessments, with slice, study, prediction and model."""
    return (
        select(Assessment)
        .where(Assessment.superseded_at.is_(None))
        .options(
            joinedload(Assessment.image),
            joinedload(Assessment.study),
            joinedload(Assessment.prediction),
            joinedload(Assessment.analysis)
            .joinedload(Analysis.model_version)
            .load_only(ModelVersion.name, ModelVersion.sha256),
        )
    )


def current_assessments_page(
    *, after: Cursor | None, size: int
) -> tuple[Sequence[Assessment], str | None]:
    """One page of the current assessments, newest first, and the cursor of the next page."""
    found = current_assessments().order_by(Assessment.created_at.desc(), Assessment.id.desc())
    if after:
        found = found.where(after.condition(Assessment.created_at, Assessment.id))
    return cut(db.session.scalars(found.limit(size + 1)).all(), size)


def count_current_assessments() -> int:
    """Number of current assessments in the current organisation."""
    return (
        db.session.scalar(
            select(func.count()).select_from(Assessment).where(Assessment.superseded_at.is_(None))
        )
        or 0
    )


def _first_current(rows: Sequence[Assessment], image_id: uuid.UUID | None) -> Assessment | None:
    return next(
        (one for one in rows if one.image_id == image_id and one.superseded_at is None), None
    )
