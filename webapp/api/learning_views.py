"""The addresses of the API about what models learn from."""

import uuid
from typing import Any

from flask import url_for
from flask.typing import ResponseReturnValue

from webapp.accounts.access import actor, requires
from webapp.accounts.models import Role
from webapp.api import answers
from webapp.api.description import PortalBlueprint
from webapp.api.learning_schemas import (
    NewRetrainingSchema,
    NewSnapshotSchema,
    RetrainingListSchema,
    RetrainingSchema,
    SnapshotListSchema,
    SnapshotSchema,
    WithdrawalListSchema,
)
from webapp.bodies import limit_bodies
from webapp.learning import queries
from webapp.learning.models import Retraining, Snapshot, SnapshotRequest, SnapshotStatus
from webapp.learning.retraining import cancel_retraining, request_retraining
from webapp.learning.snapshot_jobs import request_snapshot
from webapp.learning.traces import Trace, traces
from webapp.learning.views import LARGEST_BODY

blueprint = PortalBlueprint(
    "learning_api", __name__, url_prefix="/api/v1", description="What models learn from."
)

limit_bodies(blueprint, LARGEST_BODY)


@blueprint.post("/snapshots")
@blueprint.arguments(NewSnapshotSchema)
@blueprint.response(202, SnapshotSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(409, "CONFLICT")
@requires(Role.STEWARD)
def post_snapshot(values: dict[str, Any]) -> ResponseReturnValue:
    """Freeze every slice whose label readers agreed on; data stewards and above.

    The response comes before the snapshot: poll `links.self` until `status` is done or failed.
    """
    row = request_snapshot(actor=actor(), name=values["name"])
    location = url_for("learning_api.get_snapshot", snapshot_id=row.id)
    return _requested(row), {"Location": location}


@blueprint.get("/snapshots")
@blueprint.response(200, SnapshotListSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@requires(Role.STEWARD)
def list_snapshots() -> dict[str, Any]:
    """List snapshots, newest first; data stewards and above."""
    items = [_snapshot(row) for row in queries.list_snapshots()]
    return {"items": items, "notice": answers.notice()}


@blueprint.get("/snapshots/<uuid:snapshot_id>")
@blueprint.response(200, SnapshotSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(404, "NOT_FOUND")
@requires(Role.STEWARD)
def get_snapshot(snapshot_id: uuid.UUID) -> dict[str, Any]:
    """One snapshot: how far it is, what is in it, and what is not; data stewards and above."""
    row = queries.find_snapshot_or_request(snapshot_id)
    return _requested(row) if isinstance(row, SnapshotRequest) else _snapshot(row)


@blueprint.post("/retrainings")
@blueprint.arguments(NewRetrainingSchema)
@blueprint.response(202, RetrainingSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
@requires(Role.STEWARD)
def post_retraining(values: dict[str, Any]) -> ResponseReturnValue:
    """Make the serving model anew with a snapshot; poll `links.self` until it has ended."""
    row = request_retraining(actor=actor(), **values)
    location = url_for("learning_api.get_retraining", retraining_id=row.id)
    return _retraining(row), {"Location": location}


@blueprint.get("/retrainings")
@blueprint.response(200, RetrainingListSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@requires(Role.STEWARD)
def list_retrainings() -> dict[str, Any]:
    """List retrainings, newest first; data stewards and above."""
    items = [_retraining(row) for row in queries.list_retrainings()]
    return {"items": items, "notice": answers.notice()}


@blueprint.get("/retrainings/<uuid:retraining_id>")
@blueprint.response(200, RetrainingSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(404, "NOT_FOUND")
@requires(Role.STEWARD)
def get_retraining(retraining_id: uuid.UUID) -> dict[str, Any]:
    """How far a retraining is, and what came of it."""
    return _retraining(queries.find_retraining(retraining_id))


@blueprint.post("/retrainings/<uuid:retraining_id>/cancellation")
@blueprint.response(200, RetrainingSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
@requires(Role.STEWARD)
def cancel(retraining_id: uuid.UUID) -> dict[str, Any]:
    """End a retraining: at once where it waits, at the next step where it runs."""
    return _retraining(cancel_retraining(actor=actor(), retraining_id=retraining_id))


def _retraining(row: Retraining) -> dict[str, Any]:
    found = {
        name: getattr(row, name)
        for name in (
            "id", "snapshot_id", "mode", "status", "created_at", "finished_at", "started_from",
            "step", "done", "total", "figures", "reason", "candidate_id",
        )
    }  # fmt: skip
    candidate = row.candidate_id
    return found | {
        "links": {
            "self": url_for("learning_api.get_retraining", retraining_id=row.id),
            "page": url_for("learning.retraining", retraining_id=row.id),
            "candidate": url_for("models_api.get_model", candidate_id=candidate)
            if candidate
            else None,
        }
    }


@blueprint.get("/withdrawals")
@blueprint.response(200, WithdrawalListSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@requires(Role.ADMIN)
def list_withdrawals() -> dict[str, Any]:
    """List withdrawn patients with the models that learnt from them; administrators."""
    items = [_withdrawal(one) for one in traces(queries.list_withdrawals())]
    return {"items": items, "notice": answers.notice()}


def _withdrawal(trace: Trace) -> dict[str, Any]:
    row = trace.withdrawal
    return {
        "id": row.id,
        "patient_code": row.patient.code if row.patient else None,
        "created_at": row.created_at,
        "snapshots": [{"id": one.id, "name": one.name} for one in trace.snapshots],
        "retrainings": [one.id for one in trace.retrainings],
        "models": [
            {
                "id": one.candidate.id,
                "name": one.candidate.model_version.name,
                "served": [{"since": since, "until": until} for since, until in one.served],
            }
            for one in trace.models
        ],
    }


def _requested(row: SnapshotRequest) -> dict[str, Any]:
    """A snapshot that is not there yet."""
    nothing = ("counts", "left_out", "plan", "manifest_sha256", "images_sha256", "withdrawn_groups")
    return dict.fromkeys(nothing) | {
        "id": row.id,
        "name": row.name,
        "status": row.status,
        "reason": row.reason,
        "created_at": row.created_at,
        "links": _links_of(row.id),
        "notice": answers.notice(),
    }


def _links_of(snapshot_id: uuid.UUID) -> dict[str, str]:
    return {
        "self": url_for("learning_api.get_snapshot", snapshot_id=snapshot_id),
        "page": url_for("learning.snapshot", snapshot_id=snapshot_id),
    }


def _snapshot(row: Snapshot) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "status": SnapshotStatus.DONE,
        "reason": None,
        "created_at": row.created_at,
        "counts": row.counts | {"out_of_scope": row.out_of_scope},
        "left_out": row.left_out,
        "plan": {"version": row.plan_version, "sha256": row.plan_sha256},
        "manifest_sha256": row.manifest_sha256,
        "images_sha256": row.images_sha256,
        "withdrawn_groups": queries.withdrawn_groups_in(row),
        "links": _links_of(row.id),
        "notice": answers.notice(),
    }
