"""What pages, API, metrics and worker read about the watch. Nothing here changes anything."""

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import joinedload

from webapp.database import db, now
from webapp.pacs.models import PacsNode
from webapp.watch.models import EVERYTHING, Baseline, DriftAlarm, DriftRun
from webapp.watch.sampling import in_scope, overrides_of, read_studies, scopes_of, start_of

WEEKS_SHOWN = 26
_MOST_ALARMS = 50


def newest_baseline() -> Baseline | None:
    """The one that weeks are compared with."""
    return db.session.scalar(
        select(Baseline)
        .order_by(Baseline.created_at.desc())
        .limit(1)
        .options(joinedload(Baseline.frozen_by))
    )


def final_weeks(since: date) -> set[date]:
    """Mondays of the weeks that need no further comparison."""
    return set(
        db.session.scalars(
            select(DriftRun.week)
            .where(DriftRun.week >= since, DriftRun.scope == EVERYTHING, DriftRun.is_final)
            .distinct()
        )
    )


def runs_before(
    week: date, scope: str, baseline_id: uuid.UUID | None, *, most: int
) -> list[DriftRun]:
    """The last weeks before one that were compared with the same, oldest first."""
    found = db.session.scalars(
        select(DriftRun)
        .where(
            DriftRun.week < week,
            DriftRun.week >= week - timedelta(weeks=most),
            DriftRun.scope == scope,
            DriftRun.baseline_id.is_(None)
            if baseline_id is None
            else DriftRun.baseline_id == baseline_id,
        )
        .order_by(DriftRun.week)
    )
    return list(found)


def runs_of(scope: str = EVERYTHING, *, weeks: int = WEEKS_SHOWN) -> list[DriftRun]:
    """The last weeks of a scope, oldest first."""
    found = db.session.scalars(
        select(DriftRun).where(DriftRun.scope == scope).order_by(DriftRun.week.desc()).limit(weeks)
    ).all()
    return list(reversed(found))


def newest_runs() -> list[DriftRun]:
    """Of each scope the newest week with a study, everything first."""
    newest = (
        select(DriftRun.scope, func.max(DriftRun.week).label("week"))
        .where(DriftRun.week >= now().date() - timedelta(weeks=WEEKS_SHOWN), DriftRun.studies > 0)
        .group_by(DriftRun.scope)
        .subquery()
    )
    found = db.session.scalars(
        select(DriftRun).join(
            newest, (newest.c.scope == DriftRun.scope) & (newest.c.week == DriftRun.week)
        )
    )
    return sorted(found, key=lambda run: (run.scope != EVERYTHING, run.scope))


def open_alarms() -> Sequence[DriftAlarm]:
    """Those that have not ended, newest first."""
    return db.session.scalars(
        select(DriftAlarm)
        .where(DriftAlarm.cleared_at.is_(None))
        .order_by(DriftAlarm.created_at.desc())
        .options(joinedload(DriftAlarm.acknowledged_by))
    ).all()


def ended_alarms() -> Sequence[DriftAlarm]:
    """Those that have ended, newest first; the last fifty."""
    return db.session.scalars(
        select(DriftAlarm)
        .where(DriftAlarm.cleared_at.is_not(None))
        .order_by(DriftAlarm.created_at.desc())
        .limit(_MOST_ALARMS)
        .options(joinedload(DriftAlarm.acknowledged_by))
    ).all()


def alarms_between(since: datetime, until: datetime) -> Sequence[DriftAlarm]:
    """Those that were open at any moment of ``[since, until)``, oldest first."""
    return db.session.scalars(
        select(DriftAlarm)
        .where(
            DriftAlarm.created_at < until,
            DriftAlarm.cleared_at.is_(None) | (DriftAlarm.cleared_at >= since),
        )
        .order_by(DriftAlarm.created_at)
        .options(joinedload(DriftAlarm.acknowledged_by))
    ).all()


def count_unseen_alarms() -> int:
    """Open alarms that no steward has acknowledged."""
    return (
        db.session.scalar(
            select(func.count(DriftAlarm.id)).where(
                DriftAlarm.cleared_at.is_(None), DriftAlarm.acknowledged_at.is_(None)
            )
        )
        or 0
    )


def node_names() -> dict[str, str]:
    """Scope -> name of the archive that it stands for."""
    rows = db.session.execute(select(PacsNode.id, PacsNode.name))
    return {f"node:{node_id}": name for node_id, name in rows}


@dataclass(frozen=True)
class MonthlyRate:
    """Assessed studies of one month and scope, and those with a disagreement."""

    month: str
    scope: str
    overridden: int
    assessed: int


def monthly_rates(*, months: int = 12) -> list[MonthlyRate]:
    """Of all studies and of each origin, newest month first."""
    since = now() - timedelta(days=31 * (months - 1))
    found = read_studies(start_of(since.date().replace(day=1)), now())
    by_month = defaultdict(list)
    for one in found:
        by_month[f"{one.at:%Y-%m}"].append(one)
    return [
        MonthlyRate(month, scope, *overrides_of(in_scope(those, scope)))
        for month, those in sorted(by_month.items(), reverse=True)
        for scope in scopes_of(those)
    ]
