"""How a run of the gates moves from queued to its verdict; the worker calls all of this."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement

from webapp import audit
from webapp.database import db, now
from webapp.leases import Jobs, Lease, waits_or_is_over
from webapp.models_admin.models import Candidate, GateRun, GateStatus
from webapp.signing import sign
from webapp.tenancy import acting_for

LEASE = timedelta(seconds=60)
MAX_ATTEMPTS = 3
_LONGEST = 500  # characters of a reason


@dataclass(frozen=True)
class GateClaim(Lease):
    """A run that this worker may work on until the lease ends.

    Attributes:
        files: of the candidate, name -> SHA-256.
        snapshot: the id of the snapshot that the candidate learnt from, as its card says.
    """

    card_name: str
    files: Mapping[str, str]
    snapshot: str | None


def claim_gates(run_id: uuid.UUID) -> GateClaim | None:
    """Take the run if it is free; None if there is nothing to do."""
    return _jobs.claim(run_id, _claim)


def hold_gates(claim: GateClaim) -> None:
    """Renew the lease; raises :class:`webapp.leases.LeaseLost`."""
    _jobs.update(claim, lease_until=now() + LEASE)
    db.session.commit()


def finish_gates(claim: GateClaim, report: Mapping[str, Any]) -> None:
    """Keep the report with the installation's signature, and with it the verdict.

    Raises:
        LeaseLost: the run is no longer this worker's; nothing was kept.
    """
    passed = report["verdict"] == "pass"
    with acting_for(claim.organisation_id):
        _jobs.update(
            claim,
            status=GateStatus.PASSED if passed else GateStatus.FAILED,
            report=dict(report),
            signature=sign(report),
            finished_at=now(),
            lease_until=None,
        )
        run = db.session.get_one(GateRun, claim.job_id, populate_existing=True)
        audit.record("finish_gates", subject=run.candidate, verdict=report["verdict"])
        db.session.commit()


def break_gates(claim: GateClaim, *, reason: str) -> None:
    """End the run without a verdict; raises :class:`webapp.leases.LeaseLost`."""
    with acting_for(claim.organisation_id):
        _jobs.update(
            claim,
            status=GateStatus.BROKEN,
            reason=reason[:_LONGEST],
            finished_at=now(),
            lease_until=None,
        )
        db.session.commit()


def gates_to_resend() -> list[uuid.UUID]:
    """Runs that nobody works on, marked as sent now; as :meth:`webapp.leases.Jobs.to_resend`."""
    return _jobs.to_resend()


def _claim(run: GateRun, attempt: int) -> GateClaim:
    candidate: Candidate = run.candidate
    return GateClaim(
        job_id=run.id,
        organisation_id=run.organisation_id,
        attempt=attempt,
        card_name=candidate.card_name,
        files={one.name: one.blob_key for one in candidate.files},
        snapshot=candidate.model_version.card.get("snapshot", {}).get("id"),
    )


def _is_free(moment: datetime) -> ColumnElement[bool]:
    is_running = GateRun.status == GateStatus.RUNNING
    return waits_or_is_over(
        moment, GateRun.status == GateStatus.QUEUED, is_running, GateRun.lease_until
    )


_jobs: Jobs[GateRun] = Jobs(
    model=GateRun,
    attempt=GateRun.attempt,
    sent_at=GateRun.sent_at,
    max_attempts=MAX_ATTEMPTS,
    free=_is_free,
    held=GateRun.status == GateStatus.RUNNING,
    taken=lambda moment: {"status": GateStatus.RUNNING, "lease_until": moment + LEASE},
    given_up=lambda moment: {
        "status": GateStatus.BROKEN,
        "reason": "The worker ended several times while it ran the gates.",
        "finished_at": moment,
        "lease_until": None,
    },
    record_end=lambda run: audit.record("give_up_gates", subject=run.candidate),
)
