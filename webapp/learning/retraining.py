"""Retrainings: asked for and cancelled by stewards, moved on by the worker."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import ColumnElement, and_, exists
from sqlalchemy.orm import aliased

from ml.model_files import ModelFiles
from webapp import audit
from webapp.accounts.access import demand_role
from webapp.accounts.models import Role, User
from webapp.database import db, now
from webapp.errors import Conflict
from webapp.learning.fitness import fitness_of
from webapp.learning.models import Retraining, RetrainingMode, RetrainingStatus
from webapp.learning.queries import find_retraining, find_snapshot
from webapp.leases import Jobs, Lease, waits_or_is_over
from webapp.models_admin.operations import add_candidate
from webapp.queueing import send_gates, send_retraining
from webapp.tenancy import acting_for

LEASE = timedelta(seconds=60)
MAX_ATTEMPTS = 3
_LONGEST_REASON = 500
_LONGEST_STEP = 80
_UNDER_WAY = (RetrainingStatus.QUEUED, RetrainingStatus.RUNNING)


def request_retraining(
    *, actor: User, snapshot_id: uuid.UUID, mode: RetrainingMode = RetrainingMode.HEAD
) -> Retraining:
    """Ask for the serving model to be made anew with a snapshot; its gates are run afterwards.

    Raises:
        NotAllowed: the actor is no data steward.
        NotFound: there is no such snapshot.
        Conflict: the plan of change does not allow it with this snapshot, or the installation
            lacks what it takes.
    """
    demand_role(actor, Role.STEWARD)
    snapshot = find_snapshot(snapshot_id)
    reason = fitness_of(snapshot).reason_against(mode)
    if reason is not None:
        raise Conflict(reason)
    row = Retraining(snapshot_id=snapshot.id, mode=mode, requested_by_id=actor.id)
    db.session.add(row)
    audit.record(
        "request_retraining",
        subject=row,
        actor_id=actor.id,
        snapshot=str(snapshot.id),
        mode=mode.value,
    )
    db.session.commit()
    send_retraining(row.id)
    return row


def cancel_retraining(*, actor: User, retraining_id: uuid.UUID) -> Retraining:
    """End a retraining: at once where it waits, at the next step where it runs.

    Raises:
        NotAllowed: the actor is no data steward.
        NotFound: there is no such retraining.
        Conflict: it has ended.
    """
    demand_role(actor, Role.STEWARD)
    row = find_retraining(retraining_id)
    if row.status not in _UNDER_WAY:
        raise Conflict(_("This retraining has ended."))
    row.cancel_requested = True
    if row.status is RetrainingStatus.QUEUED:
        row.status, row.finished_at = RetrainingStatus.CANCELLED, now()
    audit.record("cancel_retraining", subject=row, actor_id=actor.id)
    db.session.commit()
    return row


@dataclass(frozen=True)
class RetrainingClaim(Lease):
    """A retraining that this worker may work on until the lease ends."""

    snapshot_id: uuid.UUID
    mode: str


def claim_retraining(retraining_id: uuid.UUID) -> RetrainingClaim | None:
    """Take the retraining if it is free and no other one runs; None if there is nothing to do."""
    return _jobs.claim(retraining_id, _claim)


def note_start(claim: RetrainingClaim, *, started_from: str) -> None:
    """Say which model it goes on from; raises :class:`webapp.leases.LeaseLost`."""
    _jobs.update(claim, started_from=started_from[:64])
    db.session.commit()


def hold_retraining(claim: RetrainingClaim) -> None:
    """Renew the lease; raises :class:`webapp.leases.LeaseLost`."""
    _jobs.update(claim, lease_until=now() + LEASE)
    db.session.commit()


def record_step(
    claim: RetrainingClaim, *, step: str, done: int, total: int, figures: Mapping[str, Any]
) -> bool:
    """Note how far it is, and renew the lease.

    Returns:
        Whether it is to be cancelled.

    Raises:
        LeaseLost: it is no longer this worker's.
    """
    _jobs.update(
        claim,
        step=step[:_LONGEST_STEP],
        done=done,
        total=total,
        figures=dict(figures),
        lease_until=now() + LEASE,
    )
    db.session.commit()
    with acting_for(claim.organisation_id):
        return db.session.get_one(Retraining, claim.job_id, populate_existing=True).cancel_requested


def finish_retraining(claim: RetrainingClaim, files: ModelFiles) -> None:
    """Register what came of it as a candidate, whose gates are then run.

    One transaction: a worker that dies leaves either nothing or all of it.

    Raises:
        LeaseLost: it is no longer this worker's; nothing was registered.
        Conflict: the same weights came of an earlier retraining.
    """
    with acting_for(claim.organisation_id):
        row = db.session.get_one(Retraining, claim.job_id, populate_existing=True)
        candidate, run = add_candidate(actor=row.requested_by, files=files)
        _jobs.update(
            claim,
            status=RetrainingStatus.DONE,
            candidate_id=candidate.id,
            finished_at=now(),
            lease_until=None,
        )
        audit.record("finish_retraining", subject=row, candidate=str(candidate.id))
        db.session.commit()
    send_gates(run.id)


def end_retraining(
    claim: RetrainingClaim, status: RetrainingStatus, *, reason: str | None = None
) -> None:
    """End it without a candidate; raises :class:`webapp.leases.LeaseLost`."""
    with acting_for(claim.organisation_id):
        _jobs.update(
            claim,
            status=status,
            reason=reason[:_LONGEST_REASON] if reason else None,
            finished_at=now(),
            lease_until=None,
        )
        db.session.commit()


def retrainings_to_resend() -> list[uuid.UUID]:
    """Those that nobody works on, marked as sent now; as :meth:`webapp.leases.Jobs.to_resend`."""
    return _jobs.to_resend()


def _claim(row: Retraining, attempt: int) -> RetrainingClaim:
    return RetrainingClaim(
        job_id=row.id,
        organisation_id=row.organisation_id,
        attempt=attempt,
        snapshot_id=row.snapshot_id,
        mode=row.mode.value,
    )


def _is_free(moment: datetime) -> ColumnElement[bool]:
    """It waits, or its worker died; and no other one runs in the installation."""
    other = aliased(Retraining)
    another_runs = exists().where(
        other.id != Retraining.id,
        other.status == RetrainingStatus.RUNNING,
        other.lease_until >= moment,
    )
    is_free = waits_or_is_over(
        moment,
        Retraining.status == RetrainingStatus.QUEUED,
        Retraining.status == RetrainingStatus.RUNNING,
        Retraining.lease_until,
    )
    return and_(is_free, ~another_runs)


_jobs: Jobs[Retraining] = Jobs(
    model=Retraining,
    attempt=Retraining.attempt,
    sent_at=Retraining.sent_at,
    max_attempts=MAX_ATTEMPTS,
    free=_is_free,
    held=Retraining.status == RetrainingStatus.RUNNING,
    taken=lambda moment: {
        "status": RetrainingStatus.RUNNING,
        "started_at": moment,
        "lease_until": moment + LEASE,
    },
    given_up=lambda moment: {
        "status": RetrainingStatus.FAILED,
        "reason": "The worker ended several times during the retraining.",
        "finished_at": moment,
        "lease_until": None,
    },
    record_end=lambda row: audit.record("give_up_retraining", subject=row),
)
