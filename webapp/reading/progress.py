"""How much a reader has read. Numbers alone: nothing here rewards reading fast or daily."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta

from sqlalchemy import case, func, select

from webapp.accounts.models import User
from webapp.database import db, now
from webapp.review.models import Assessment

_WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Progress:
    """Slices with a current assessment of one reader; days are of UTC."""

    today: int
    week: int
    total: int


def progress_of(reader: User) -> Progress:
    """Count a reader's assessed slices."""
    moment = now()
    midnight = datetime.combine(moment.date(), time.min, moment.tzinfo)

    def since(start: datetime) -> object:
        return func.sum(case((Assessment.created_at >= start, 1), else_=0))

    row = db.session.execute(
        select(since(midnight), since(moment - _WEEK), func.count()).where(  # type: ignore[call-overload]
            Assessment.reader_id == reader.id,
            Assessment.superseded_at.is_(None),
            Assessment.image_id.is_not(None),
        )
    ).one()
    return Progress(int(row[0] or 0), int(row[1] or 0), int(row[2]))
