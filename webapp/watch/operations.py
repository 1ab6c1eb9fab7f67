"""What changes what is watched: freezing a baseline, keeping weeks, raising and ending alarms."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import select

from webapp import audit
from webapp.accounts.access import demand_role
from webapp.accounts.checks import storable
from webapp.accounts.models import Role, User
from webapp.database import db, now, one_at_a_time
from webapp.errors import Conflict, InvalidInput, NotFound
from webapp.inference.observations import KEPT
from webapp.queueing import send_watch
from webapp.tenancy import acting_for, current_organisation_id
from webapp.watch.models import LONGEST_NOTE, Against, Baseline, DriftAlarm, DriftRun, RunVerdict
from webapp.watch.sampling import (
    WatchedStudy,
    in_scope,
    overrides_of,
    read_studies,
    scopes_of,
    watched_studies,
)

FEWEST_OF_BASELINE, MOST_OF_BASELINE = 100, 500


@dataclass(frozen=True)
class WeekResult:
    """What came of comparing a week of one scope."""

    week: date
    scope: str
    is_final: bool
    studies: int
    against: Against
    baseline_id: uuid.UUID | None
    model_sha256: str | None
    verdict: RunVerdict
    figures: list[dict[str, Any]]
    assessed: int
    overridden: int


def freeze_baseline(*, actor: User) -> Baseline:
    """Compare later weeks with the newest studies; alarms about the old baseline end.

    The studies are the newest ones that the model which answered last has answered.

    Raises:
        NotAllowed: the actor is no steward.
        Conflict: there are too few studies, or somebody else is freezing one now.
    """
    demand_role(actor, Role.STEWARD)
    with acting_for(actor.organisation_id):
        _one_at_a_time()
        moment = now()
        found = watched_studies(moment - KEPT, moment)
        chosen = [one for one in found if one.model_sha256 == found[0].model_sha256]
        chosen = chosen[:MOST_OF_BASELINE]
        if len(chosen) < FEWEST_OF_BASELINE:
            raise Conflict(
                _(
                    "A baseline needs %(needed)d studies that the model has answered; there are "
                    "%(found)d.",
                    needed=FEWEST_OF_BASELINE,
                    found=len(chosen),
                )
            )
        baseline = _baseline(actor, chosen, moment)
        db.session.add(baseline)
        for alarm in db.session.scalars(select(DriftAlarm).where(DriftAlarm.cleared_at.is_(None))):
            alarm.cleared_at = moment
            audit.record("clear_drift_alarm", subject=alarm, actor_id=actor.id, why="baseline")
        audit.record(
            "freeze_baseline", subject=baseline, actor_id=actor.id, studies=baseline.studies
        )
        db.session.commit()
    send_watch()
    return baseline


def _baseline(actor: User, chosen: Sequence[WatchedStudy], moment: datetime) -> Baseline:
    first = min(one.at for one in chosen)
    read = read_studies(first, moment)
    return Baseline(
        frozen_by_id=actor.id,
        model_sha256=chosen[0].model_sha256,
        first_at=first,
        last_at=chosen[0].at,
        studies=len(chosen),
        figures=b"".join(one.figures for one in chosen),
        answers=[[one.scope, one.label, one.several, one.unfamiliar] for one in chosen],
        overrides={scope: list(overrides_of(in_scope(read, scope))) for scope in scopes_of(read)},
    )


def acknowledge_alarm(*, actor: User, alarm_id: uuid.UUID, note: str) -> DriftAlarm:
    """Note who looked at an alarm and what was done; again replaces the note.

    Raises:
        NotAllowed: the actor is no steward.
        NotFound: there is no such alarm.
        InvalidInput: nothing is said, too much, or what cannot be kept.
    """
    demand_role(actor, Role.STEWARD)
    text = storable(note).strip()
    if not text or len(text) > LONGEST_NOTE:
        told = _("Please say what was done, in at most %(most)d characters.", most=LONGEST_NOTE)
        raise InvalidInput.of_field("note", told)
    with acting_for(actor.organisation_id):
        alarm = db.session.scalar(select(DriftAlarm).where(DriftAlarm.id == alarm_id))
        if alarm is None:
            raise NotFound(_("There is no such alarm."))
        alarm.acknowledged_at, alarm.acknowledged_by_id, alarm.note = now(), actor.id, text
        audit.record("acknowledge_drift_alarm", subject=alarm, actor_id=actor.id)
        db.session.commit()
        return alarm


def keep_week(results: Sequence[WeekResult], raised: Mapping[tuple[str, str], bool]) -> None:
    """Keep what the worker found about a week, and raise or end alarms, in one transaction.

    Args:
        raised: (scope, family) -> whether there is an alarm after this week.
    """
    _one_at_a_time()
    for result in results:
        _keep(result)
    by_scope = {result.scope: result for result in results}
    still = {
        (alarm.scope, alarm.family): alarm
        for alarm in db.session.scalars(select(DriftAlarm).where(DriftAlarm.cleared_at.is_(None)))
    }
    for (scope, family), is_raised in raised.items():
        alarm = still.get((scope, family))
        if is_raised and alarm is None:
            _raise(by_scope[scope], family)
        elif not is_raised and alarm is not None:
            alarm.cleared_at = now()
            audit.record("clear_drift_alarm", subject=alarm, why="back within the limits")
    db.session.commit()


def _keep(result: WeekResult) -> None:
    row = db.session.scalar(
        select(DriftRun).where(DriftRun.week == result.week, DriftRun.scope == result.scope)
    )
    if row is None:
        row = DriftRun(week=result.week, scope=result.scope)
        db.session.add(row)
    for name, value in vars(result).items():
        setattr(row, name, value)


def _raise(result: WeekResult, family: str) -> None:
    evidence = [one for one in result.figures if one["family"] == family and one["level"] >= 1]
    alarm = DriftAlarm(
        scope=result.scope,
        family=family,
        week=result.week,
        against=result.against,
        evidence=sorted(evidence, key=lambda one: -float(one["distance"])),
    )
    db.session.add(alarm)
    audit.record("raise_drift_alarm", subject=alarm, family=family, scope=result.scope)


def _one_at_a_time() -> None:
    one_at_a_time([f"watch {current_organisation_id()}"])
