"""What the pages and the API read about answers of readers. Nothing here changes anything."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, func, select
from sqlalchemy.orm import joinedload, lazyload

from webapp.accounts.models import User
from webapp.database import db
from webapp.models_admin.models import ModelVersion
from webapp.review.models import Assessment
from webapp.studies.models import Analysis, Image, Prediction
from webapp.studies.paging import Cursor, cut


@dataclass(frozen=True)
class Assessments:
    """What readers said about one image.

    Attributes:
        current: the reader's own current answer.
        earlier: the reader's own former ones, newest first.
        others: current answers of other readers, newest first.
    """

    current: Assessment | None
    earlier: list[Assessment]
    others: list[Assessment]


def assessments_of(image: Image, *, reader: User) -> Assessments:
    """All answers about ``image``, as ``reader`` sees them."""
    found = db.session.scalars(
        select(Assessment)
        .where(Assessment.image_id == image.id)
        .order_by(Assessment.created_at.desc())
        .options(joinedload(Assessment.reader).options(lazyload(User.organisation)))
    ).all()
    own = [answer for answer in found if answer.reader_id == reader.id]
    return Assessments(
        current=next((answer for answer in own if answer.superseded_at is None), None),
        earlier=[answer for answer in own if answer.superseded_at is not None],
        others=[
            answer
            for answer in found
            if answer.reader_id != reader.id and answer.superseded_at is None
        ],
    )


def current_assessments() -> Select[Assessment]:
    """The statement that finds all current answers, with image, study, prediction and model."""
    return (
        select(Assessment)
        .where(Assessment.superseded_at.is_(None))
        .options(
            joinedload(Assessment.image).joinedload(Image.study),
            joinedload(Assessment.prediction)
            .joinedload(Prediction.analysis)
            .joinedload(Analysis.model_version)
            .load_only(ModelVersion.name, ModelVersion.sha256),
        )
    )


def current_assessments_page(
    *, after: Cursor | None, size: int
) -> tuple[Sequence[Assessment], str | None]:
    """One page of the current answers, newest first, and where the next one starts."""
    found = current_assessments().order_by(Assessment.created_at.desc(), Assessment.id.desc())
    if after:
        found = found.where(after.condition(Assessment.created_at, Assessment.id))
    return cut(db.session.scalars(found.limit(size + 1)).all(), size)


def count_current_assessments() -> int:
    """How many current answers there are."""
    return (
        db.session.scalar(
            select(func.count()).select_from(Assessment).where(Assessment.superseded_at.is_(None))
        )
        or 0
    )
