"""Snapshots as jobs: asked for by stewards, made by the worker."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from flask_babel import gettext as _
from sqlalchemy import ColumnElement, select

from webapp import audit
from webapp.accounts.access import demand_role
from webapp.accounts.models import Role, User
from webapp.database import db, now, one_at_a_time
from webapp.errors import Conflict
from webapp.learning.models import SnapshotRequest, SnapshotStatus
from webapp.learning.operations import SnapshotOrder, checked_name, take_snapshot
from webapp.learning.terms import terms_that_hold
from webapp.leases import Jobs, Lease, waits_or_is_over
from webapp.queueing import send_snapshot
from webapp.tenancy import acting_for

LEASE = timedelta(seconds=60)
MAX_ATTEMPTS = 3
_LONGEST_REASON = 500


def request_snapshot(*, actor: User, name: str) -> SnapshotRequest:
    """Ask for every slice whose label readers agreed on to be frozen, under a name of its own.

    The snapshot gets the id of the request.

    Raises:
        NotAllowed: the actor is no data steward.
        InvalidInput: the name is empty or too long.
        Conflict: the name is taken, also by one that is being made.
    """
    demand_role(actor, Role.STEWARD)
    one_at_a_time([f"snapshots {actor.organisation_id}"])
    row = SnapshotRequest(name=_free_name(name), requested_by_id=actor.id)
    db.session.add(row)
    audit.record("request_snapshot", subject=row, actor_id=actor.id)
    db.session.commit()
    send_snapshot(row.id)
    return row


def _free_name(name: str) -> str:
    text = checked_name(name)
    taken = select(SnapshotRequest.id).where(
        SnapshotRequest.name == text,
        SnapshotRequest.status.in_([SnapshotStatus.QUEUED, SnapshotStatus.MAKING]),
    )
    if db.session.scalar(taken.limit(1)) is not None:
        message = _("A snapshot with this name is being made.")
        raise Conflict(message, fields={"name": message})
    return text


@dataclass(frozen=True)
class SnapshotClaim(Lease):
    """A request that this worker may work on until the lease ends."""

    name: str
    requested_by_id: uuid.UUID


def claim_snapshot(request_id: uuid.UUID) -> SnapshotClaim | None:
    """Take the request if it is free; None if there is nothing to do."""
    return _jobs.claim(request_id, _claim)


def hold_snapshot(claim: SnapshotClaim) -> None:
    """Renew the lease; raises :class:`webapp.leases.LeaseLost`."""
    _jobs.update(claim, lease_until=now() + LEASE)
    db.session.commit()


def make_snapshot(claim: SnapshotClaim) -> None:
    """Make it under the plan that holds now, and end the request in the same transaction.

    Raises:
        LeaseLost: it is no longer this worker's; nothing was kept.
        Conflict: the name is taken, or there is no slice that readers agreed on.
    """
    with acting_for(claim.organisation_id):
        order = SnapshotOrder(
            name=claim.name,
            actor_id=claim.requested_by_id,
            snapshot_id=claim.job_id,
            told=_teller(claim),
            finish=lambda: _jobs.update(
                claim, status=SnapshotStatus.DONE, finished_at=now(), lease_until=None
            ),
        )
        take_snapshot(order, terms_that_hold())


def fail_snapshot(claim: SnapshotClaim, *, reason: str) -> None:
    """End the request without a snapshot; raises :class:`webapp.leases.LeaseLost`."""
    with acting_for(claim.organisation_id):
        _jobs.update(
            claim,
            status=SnapshotStatus.FAILED,
            reason=reason[:_LONGEST_REASON],
            finished_at=now(),
            lease_until=None,
        )
        db.session.commit()


def snapshots_to_resend() -> list[uuid.UUID]:
    """Those that nobody works on, marked as sent now; as :meth:`webapp.leases.Jobs.to_resend`."""
    return _jobs.to_resend()


def _teller(claim: SnapshotClaim) -> Callable[[int, int], None]:
    """Notes the first and the last slice, and otherwise one a second at most."""
    told_at = now() - LEASE

    def tell(done: int, total: int) -> None:
        nonlocal told_at
        if done == total or now() - told_at >= timedelta(seconds=1):
            told_at = now()
            _jobs.update(claim, done=done, total=total, lease_until=now() + LEASE)
            db.session.commit()

    return tell


def _claim(row: SnapshotRequest, attempt: int) -> SnapshotClaim:
    return SnapshotClaim(
        job_id=row.id,
        organisation_id=row.organisation_id,
        attempt=attempt,
        name=row.name,
        requested_by_id=row.requested_by_id,
    )


def _is_free(moment: datetime) -> ColumnElement[bool]:
    """It waits, or its worker died."""
    return waits_or_is_over(
        moment,
        SnapshotRequest.status == SnapshotStatus.QUEUED,
        SnapshotRequest.status == SnapshotStatus.MAKING,
        SnapshotRequest.lease_until,
    )


_jobs: Jobs[SnapshotRequest] = Jobs(
    model=SnapshotRequest,
    attempt=SnapshotRequest.attempt,
    sent_at=SnapshotRequest.sent_at,
    max_attempts=MAX_ATTEMPTS,
    free=_is_free,
    held=SnapshotRequest.status == SnapshotStatus.MAKING,
    taken=lambda moment: {"status": SnapshotStatus.MAKING, "lease_until": moment + LEASE},
    given_up=lambda moment: {
        "status": SnapshotStatus.FAILED,
        "reason": "The worker ended several times while it made the snapshot.",
        "finished_at": moment,
        "lease_until": None,
    },
    record_end=lambda row: audit.record("give_up_snapshot", subject=row),
)
