"""What the pages and the API read about answers of readers. Nothing here changes anything."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, func, select
from sqlalchemy.orm import joinedload, lazyload

from webapp.accounts.models import User
from webapp.database import db
from webapp.models_admin.models import ModelVersion
from webapp.review.models import Feedback
from webapp.studies.models import Analysis, Image, Prediction
from webapp.studies.paging import Cursor, cut


@dataclass(frozen=True)
class Answers:
    """What readers said about one image.

    Attributes:
        current: the reader's own current answer.
        earlier: the reader's own former ones, newest first.
        others: current answers of other readers, newest first.
    """

    current: Feedback | None
    earlier: list[Feedback]
    others: list[Feedback]


def answers_about(image: Image, *, reader: User) -> Answers:
    """All answers about ``image``, as ``reader`` sees them."""
    found = db.session.scalars(
        select(Feedback)
        .where(Feedback.image_id == image.id)
        .order_by(Feedback.created_at.desc())
        .options(joinedload(Feedback.reader).options(lazyload(User.organisation)))
    ).all()
    own = [answer for answer in found if answer.reader_id == reader.id]
    return Answers(
        current=next((answer for answer in own if answer.superseded_at is None), None),
        earlier=[answer for answer in own if answer.superseded_at is not None],
        others=[
            answer
            for answer in found
            if answer.reader_id != reader.id and answer.superseded_at is None
        ],
    )


def current_answers() -> Select[Feedback]:
    """The statement that finds all current answers, with image, study, prediction and model."""
    return (
        select(Feedback)
        .where(Feedback.superseded_at.is_(None))
        .options(
            joinedload(Feedback.image).joinedload(Image.study),
            joinedload(Feedback.prediction)
            .joinedload(Prediction.analysis)
            .joinedload(Analysis.model_version)
            .load_only(ModelVersion.name, ModelVersion.sha256),
        )
    )


def current_answers_page(
    *, after: Cursor | None, size: int
) -> tuple[Sequence[Feedback], str | None]:
    """One page of the current answers, newest first, and where the next one starts."""
    found = current_answers().order_by(Feedback.created_at.desc(), Feedback.id.desc())
    if after:
        found = found.where(after.condition(Feedback.created_at, Feedback.id))
    return cut(db.session.scalars(found.limit(size + 1)).all(), size)


def count_current_answers() -> int:
    """How many current answers there are."""
    return (
        db.session.scalar(
            select(func.count()).select_from(Feedback).where(Feedback.superseded_at.is_(None))
        )
        or 0
    )
