"""The evidence about a candidate: everything that was known when people decided, signed.

JSON with sorted keys and without blanks, and the signature of the installation's key over it
(:mod:`ml.release.signing`), so that a file that leaves the portal can be checked later.
"""

import json
import math
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from ml.release.signing import SIGNATURE
from webapp import audit
from webapp.accounts.access import demand_role
from webapp.accounts.models import Role, User
from webapp.database import db, now
from webapp.learning.models import Retraining, Snapshot
from webapp.models_admin.models import Candidate, Deployment, GateRun, Proposal
from webapp.models_admin.queries import deployments, find_candidate
from webapp.models_admin.serving import fault_of
from webapp.rollout.comparison import compare, plain
from webapp.rollout.models import RecallCase, RecallRun
from webapp.rollout.queries import shadow_runs
from webapp.rollout.trials import figures, reason_to_end, trials_of
from webapp.signing import is_signed, sign

FORMAT = "sulcus-evidence-1"
NOTICE = "Research software. Not a certified medical device; not for diagnosis."
Json = dict[str, Any]


def export_evidence(*, actor: User, candidate_id: uuid.UUID, kind: str) -> Json:
    """Everything about a candidate, signed; the export is recorded in the audit trail.

    Args:
        kind: in which form it leaves the portal, such as ``json``.

    Raises:
        NotAllowed: the actor is no steward.
        NotFound: there is no such candidate.
    """
    demand_role(actor, Role.STEWARD)
    candidate = find_candidate(candidate_id)
    facts = _finite(_facts(candidate, actor))
    signed: Json = {**facts, SIGNATURE: sign(facts)}
    audit.record(
        "export_evidence",
        subject=candidate,
        actor_id=actor.id,
        kind=kind,
        signature=signed[SIGNATURE],
    )
    db.session.commit()
    return signed


def as_bytes(evidence: Mapping[str, Any]) -> bytes:
    """The file, byte for byte the same for the same evidence."""
    text = json.dumps(evidence, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def is_genuine(content: bytes) -> bool:
    """Whether a file is evidence that this installation has signed, unchanged."""
    try:
        found = json.loads(content)
    except ValueError:
        return False
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        return False
    signature = found.pop(SIGNATURE, None)
    try:
        return isinstance(signature, str) and is_signed(found, signature)
    except (ValueError, UnicodeError):  # what no JSON of ours holds
        return False


def _facts(candidate: Candidate, actor: User) -> Json:
    version = candidate.model_version
    rows = [row for row in deployments() if _is_about(row, candidate)]
    return {
        "format": FORMAT,
        "notice": NOTICE,
        "created_at": _moment(now()),
        "created_for": _person(actor),
        "organisation": actor.organisation.name,
        "candidate": {
            "id": str(candidate.id),
            "name": version.name,
            "weights_sha256": version.sha256,
            "registered_at": _moment(candidate.created_at),
            "registered_by": _person(candidate.registered_by),
            "card": candidate.card_name,
            "files": {one.name: one.blob_key for one in candidate.files},
        },
        "plan": _plan(candidate),
        "retrainings": [_retraining(row) for row in _retrainings(candidate)],
        "gate_runs": [_gate_run(row) for row in candidate.gate_runs],
        "shadow": {
            "runs": [
                {
                    "started_at": _moment(row.created_at),
                    "started_by": _person(row.started_by),
                    "share": row.share,
                    "most": row.most,
                    "taken": row.taken,
                    "status": row.status.value,
                    "ended_at": _moment(row.ended_at),
                    "ended_by": _person(row.ended_by),
                }
                for row in shadow_runs(candidate)
            ],
            "comparison": plain(compare(candidate)),
        },
        "trials": _trials(candidate),
        "proposals": [_proposal(row) for row in candidate.proposals],
        "deployments": [_deployment(row) for row in reversed(rows)],
        "recalls": _recalls(candidate),
    }


def _is_about(row: Deployment, candidate: Candidate) -> bool:
    """Whether a row lets the candidate serve or takes it back; all later rows may."""
    first = min(
        (one.created_at for one in candidate.proposals if one.decision is not None),
        default=None,
    )
    return row.candidate_id == candidate.id or (first is not None and row.created_at >= first)


def _plan(candidate: Candidate) -> Json | None:
    """The plan of change of the newest report of the gates."""
    for run in reversed(candidate.gate_runs):
        if run.report and isinstance(plan := run.report.get("plan"), dict):
            return plan
    return None


def _retrainings(candidate: Candidate) -> list[Retraining]:
    found = select(Retraining).where(Retraining.candidate_id == candidate.id)
    return list(db.session.scalars(found.order_by(Retraining.created_at)))


def _retraining(row: Retraining) -> Json:
    return {
        "mode": row.mode.value,
        "requested_at": _moment(row.created_at),
        "requested_by": _person(row.requested_by),
        "finished_at": _moment(row.finished_at),
        "started_from": row.started_from,
        "figures": row.figures,
        "snapshot": _snapshot(row.snapshot),
    }


def _snapshot(row: Snapshot) -> Json:
    return {
        "id": str(row.id),
        "name": row.name,
        "created_at": _moment(row.created_at),
        "created_by": _person(row.created_by),
        "plan": {"version": row.plan_version, "sha256": row.plan_sha256},
        "counts": row.counts,
        "left_out": row.left_out,
        "manifest_sha256": row.manifest_sha256,
        "images_sha256": row.images_sha256,
    }


def _gate_run(row: GateRun) -> Json:
    return {
        "number": row.number,
        "status": row.status.value,
        "requested_at": _moment(row.created_at),
        "requested_by": _person(db.session.get(User, row.requested_by_id)),
        "finished_at": _moment(row.finished_at),
        "reason": row.reason,
        "report": row.report,
        "signature": row.signature,
        "signature_holds": row.report is not None and is_signed(row.report, row.signature),
    }


def _trials(candidate: Candidate) -> list[Json]:
    found = []
    for one in reversed(trials_of(candidate)):
        counted = figures(one)
        found.append(
            {
                "deployment": one.row.number,
                "share": one.row.share,
                "began_at": _moment(one.row.created_at),
                "ended_at": _moment(one.end.created_at) if one.end else None,
                "ended_by_deployment": one.end.number if one.end else None,
                "figures": asdict(counted),
                "rule_says": reason_to_end(counted),
            }
        )
    return found


def _proposal(row: Proposal) -> Json:
    return {
        "proposed_at": _moment(row.created_at),
        "proposed_by": _person(row.proposed_by),
        "reason": row.reason,
        "share": row.share,
        "gate_run": row.gate_run.number,
        "decision": row.decision.value if row.decision else None,
        "decided_at": _moment(row.decided_at),
        "decided_by": _person(row.decided_by),
    }


def _deployment(row: Deployment) -> Json:
    fault = fault_of(row)
    return {
        "number": row.number,
        "kind": row.kind.value,
        "at": _moment(row.created_at),
        "weights_sha256": row.candidate.model_version.sha256 if row.candidate else None,
        "share": row.share,
        "reason": row.reason,
        "proposed_by": _person(row.proposed_by),
        "decided_by": _person(row.decided_by),
        "previous_signature": row.previous_signature,
        "signature": row.signature,
        "signature_holds": fault is None,
    }


def _recalls(candidate: Candidate) -> list[Json]:
    runs = db.session.scalars(
        select(RecallRun)
        .where(RecallRun.candidate_id == candidate.id)
        .order_by(RecallRun.created_at)
    ).all()
    found = []
    for run in runs:
        counts = db.session.execute(
            select(RecallCase.change, func.count(), func.count(RecallCase.acknowledged_at))
            .where(RecallCase.run_id == run.id)
            .group_by(RecallCase.change)
        )
        cases = {
            change.value: {"found": number, "acknowledged": acknowledged}
            for change, number, acknowledged in counts
        }
        found.append(
            {
                "began_at": _moment(run.created_at),
                "status": run.status.value,
                "everything": run.everything,
                "studies": run.taken,
                "cases": cases,
            }
        )
    return found


def _person(user: User | None) -> str | None:
    return f"{user.name} ({user.id})" if user else None


def _moment(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _finite(value: Any) -> Any:
    """The value without NaN and infinity, which JSON does not know."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {str(key): _finite(one) for key, one in value.items()}
        case list() | tuple():
            return [_finite(one) for one in value]
        case _:
            return value
