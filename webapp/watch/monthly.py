"""The monthly report: what post-market monitoring asks of a portal about its model."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from math import sqrt
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import func, select

from webapp.accounts.models import Organisation
from webapp.database import db, now
from webapp.errors import NotFound
from webapp.models_admin.models import Deployment, ModelVersion
from webapp.review.models import Assessment, Verdict
from webapp.studies.models import Analysis, Purpose, Status, Study
from webapp.tenancy import current_organisation_id
from webapp.watch import queries, words
from webapp.watch.sampling import overrides_of, read_studies, start_of

_MONTH = re.compile(r"(20\d{2})-(0[1-9]|1[0-2])")
_Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True)
class Share:
    """A share with Wilson's 95 % interval (Wilson 1927); None where nothing was counted."""

    number: int
    of: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ModelInUse:
    """A model that answered in the month, and how many analyses."""

    name: str
    sha256: str
    analyses: int


@dataclass(frozen=True)
class AlarmInMonth:
    """An alarm that was open, and what was done."""

    family: str
    origin: str
    raised_at: datetime
    cleared_at: datetime | None
    note: str
    acknowledged_by: str


@dataclass(frozen=True)
class ModelChange:
    """A promotion, a rollback, or that models were switched off or on."""

    at: datetime
    kind: str
    model: str
    decided_by: str
    reason: str


@dataclass(frozen=True)
class MonthlyReport:
    """Figures of one calendar month in UTC, of one organisation.

    Attributes:
        month: such as ``2026-11``.
        is_over: whether the month has ended.
        answers: class -> studies that got it as their answer.
        failures: reason code -> analyses that ended without an answer.
        agreements, overrides: studies about which nobody, or a reader, disagreed, of those that
            were assessed.
        complaints: disagreements with a comment.
    """

    month: str
    is_over: bool
    made_at: datetime
    organisation: str
    models: tuple[ModelInUse, ...]
    studies: int
    answers: Mapping[str, int]
    several: Share
    unfamiliar: Share
    agreements: Share
    overrides: Share
    complaints: int
    failures: Mapping[str, int]
    weeks_compared: int
    alarms: tuple[AlarmInMonth, ...]
    changes: tuple[ModelChange, ...]


def monthly_report(month: str) -> MonthlyReport:
    """The report of the organisation acted for.

    Raises:
        NotFound: there is no such month, or it has not begun.
    """
    found = _MONTH.fullmatch(month)
    moment = now()
    if found is None or start_of(date(int(found[1]), int(found[2]), 1)) > moment:
        raise NotFound(_("There is no report of this month."))
    first = date(int(found[1]), int(found[2]), 1)
    since, until = start_of(first), start_of(_next_month(first))
    answered = _answered(since, until)
    several = sum(len(row.prediction_set or ()) != 1 for row in answered)
    strange = sum(_is_unfamiliar(row) for row in answered)
    overridden, assessed = overrides_of(read_studies(since, until))
    organisation = db.session.get_one(Organisation, current_organisation_id())
    return MonthlyReport(
        month=month,
        is_over=until <= moment,
        made_at=moment,
        organisation=organisation.name,
        models=_models(since, until),
        studies=len(answered),
        answers=dict(Counter(str(row.label) for row in answered)),
        several=share(several, len(answered)),
        unfamiliar=share(strange, len(answered)),
        agreements=share(assessed - overridden, assessed),
        overrides=share(overridden, assessed),
        complaints=_complaints(since, until),
        failures=_failures(since, until),
        weeks_compared=sum(
            since.date() <= run.week < until.date() and bool(run.figures)
            for run in queries.runs_of(weeks=104)
        ),
        alarms=_alarms(since, until),
        changes=_changes(since, until),
    )


def plain(report: MonthlyReport) -> dict[str, Any]:
    """As JSON takes it, with the notice and the limits of what is known."""
    notice = _("Research software. Not a certified medical device; not for diagnosis.")
    return asdict(report) | {"limits": limits_known(), "notice": notice}


def limits_known() -> list[str]:
    """What these figures do not say."""
    return [
        _(
            "Whether a result was right is known only where a reader assessed it. Readers choose "
            "what they assess, so that the share of disagreements is not an error rate."
        ),
        _(
            "The watch notices that studies differ, not that results are wrong, and not a change "
            "of what few studies show."
        ),
        _("Deleted studies are no longer counted."),
        _("What happened to patients afterwards is not known to this software."),
    ]


def last_months(today: date, count: int) -> list[str]:
    """This month and those before it, newest first."""
    months = today.year * 12 + today.month - 1
    return [f"{one // 12}-{one % 12 + 1:02}" for one in range(months, months - count, -1)]


def share(number: int, of: int) -> Share:
    """A share with its interval."""
    if not of:
        return Share(number, of, None, None)
    p, square = number / of, _Z**2
    middle = (p + square / (2 * of)) / (1 + square / of)
    half = _Z / (1 + square / of) * sqrt(p * (1 - p) / of + square / (4 * of**2))
    return Share(number, of, max(0.0, middle - half), min(1.0, middle + half))


def _next_month(first: date) -> date:
    return date(first.year + first.month // 12, first.month % 12 + 1, 1)


def _answered(since: datetime, until: datetime) -> Sequence[Any]:
    return db.session.execute(
        select(
            Analysis.label,
            Analysis.prediction_set,
            Analysis.in_distribution,
            Analysis.in_distribution_share,
        )
        .join(Study, Study.current_analysis_id == Analysis.id)
        .where(
            Analysis.status == Status.DONE,
            Analysis.finished_at >= since,
            Analysis.finished_at < until,
            Analysis.label.is_not(None),
        )
    ).all()


def _is_unfamiliar(row: Any) -> bool:
    few = row.in_distribution_share is not None and row.in_distribution_share < 0.5
    return row.in_distribution is False or few


def _models(since: datetime, until: datetime) -> tuple[ModelInUse, ...]:
    rows = db.session.execute(
        select(ModelVersion.name, ModelVersion.sha256, func.count(Analysis.id))
        .join(Analysis, Analysis.model_version_id == ModelVersion.id)
        .where(
            Analysis.purpose == Purpose.SERVING,
            Analysis.status == Status.DONE,
            Analysis.finished_at >= since,
            Analysis.finished_at < until,
        )
        .group_by(ModelVersion.name, ModelVersion.sha256)
        .order_by(ModelVersion.name)
    )
    return tuple(ModelInUse(*row) for row in rows)


def _failures(since: datetime, until: datetime) -> dict[str, int]:
    rows = db.session.execute(
        select(Analysis.reason, func.count(Analysis.id))
        .where(
            Analysis.purpose == Purpose.SERVING,
            Analysis.status.in_([Status.FAILED, Status.REJECTED]),
            Analysis.finished_at >= since,
            Analysis.finished_at < until,
        )
        .group_by(Analysis.reason)
    )
    return {reason or "unknown": int(count) for reason, count in rows}


def _complaints(since: datetime, until: datetime) -> int:
    return (
        db.session.scalar(
            select(func.count(Assessment.id)).where(
                Assessment.verdict == Verdict.DISAGREE,
                Assessment.comment != "",
                Assessment.superseded_at.is_(None),
                Assessment.created_at >= since,
                Assessment.created_at < until,
            )
        )
        or 0
    )


def _alarms(since: datetime, until: datetime) -> tuple[AlarmInMonth, ...]:
    nodes = queries.node_names()
    return tuple(
        AlarmInMonth(
            family=alarm.family,
            origin=words.scope_word(alarm.scope, nodes),
            raised_at=alarm.created_at,
            cleared_at=alarm.cleared_at,
            note=alarm.note,
            acknowledged_by=alarm.acknowledged_by.name if alarm.acknowledged_by else "",
        )
        for alarm in queries.alarms_between(since, until)
    )


def _changes(since: datetime, until: datetime) -> tuple[ModelChange, ...]:
    rows = db.session.scalars(
        select(Deployment)
        .where(Deployment.created_at >= since, Deployment.created_at < until)
        .order_by(Deployment.number)
    )
    return tuple(
        ModelChange(
            at=row.created_at,
            kind=row.kind.value,
            model=row.candidate.model_version.name if row.candidate else "",
            decided_by=row.decided_by.name if row.decided_by else str(_("by rule")),
            reason=row.reason,
        )
        for row in rows
    )
