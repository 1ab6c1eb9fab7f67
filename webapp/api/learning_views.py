"""The addresses of the API about what models learn from."""

import uuid
from typing import Any

from flask import request, url_for
from flask.typing import ResponseReturnValue

from webapp.accounts.access import actor, requires
from webapp.accounts.models import Role
from webapp.api import answers
from webapp.api.description import PortalBlueprint
from webapp.api.learning_schemas import NewSnapshotSchema, SnapshotListSchema, SnapshotSchema
from webapp.learning import queries
from webapp.learning.models import Snapshot
from webapp.learning.operations import create_snapshot
from webapp.review.views import LARGEST_BODY

blueprint = PortalBlueprint(
    "learning_api", __name__, url_prefix="/api/v1", description="What models learn from."
)


@blueprint.url_value_preprocessor
def _limit_body(_endpoint: str | None, _values: dict[str, Any] | None) -> None:
    request.max_content_length = LARGEST_BODY


@blueprint.post("/snapshots")
@blueprint.arguments(NewSnapshotSchema)
@blueprint.response(201, SnapshotSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(409, "CONFLICT")
@requires(Role.STEWARD)
def post_snapshot(values: dict[str, Any]) -> ResponseReturnValue:
    """Freeze every slice whose label readers agreed on; data stewards and above."""
    row = create_snapshot(actor=actor(), name=values["name"])
    location = url_for("learning_api.get_snapshot", snapshot_id=row.id)
    return _snapshot(row), {"Location": location}


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
    """One snapshot: what is in it, and what is not; data stewards and above."""
    return _snapshot(queries.find_snapshot(snapshot_id))


def _snapshot(row: Snapshot) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "created_at": row.created_at,
        "counts": row.counts,
        "left_out": row.left_out,
        "plan": {"version": row.plan_version, "sha256": row.plan_sha256},
        "manifest_sha256": row.manifest_sha256,
        "images_sha256": row.images_sha256,
        "withdrawn_groups": queries.withdrawn_groups_in(row),
        "links": {
            "self": url_for("learning_api.get_snapshot", snapshot_id=row.id),
            "page": url_for("learning.snapshot", snapshot_id=row.id),
        },
        "notice": answers.notice(),
    }
