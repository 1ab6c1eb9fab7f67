"""The addresses of the API about models beside the serving one."""

import uuid

from flask import Response

from webapp.accounts.access import actor, requires
from webapp.accounts.models import Role
from webapp.api.answers import Json, notice
from webapp.api.description import PortalBlueprint
from webapp.api.rollout_schemas import (
    EvidenceSchema,
    NewShadowSchema,
    ShadowRunSchema,
    ShadowSchema,
    TrialListSchema,
)
from webapp.models_admin.queries import find_candidate
from webapp.rollout.comparison import compare, plain
from webapp.rollout.evidence import as_bytes, export_evidence
from webapp.rollout.models import ShadowRun
from webapp.rollout.queries import shadow_runs
from webapp.rollout.shadowing import start_shadow, stop_shadow
from webapp.rollout.trials import Trial, figures, trials_of

blueprint = PortalBlueprint(
    "rollout_api", __name__, url_prefix="/api/v1", description="Models beside the serving one."
)


@blueprint.get("/models/<uuid:candidate_id>/shadow")
@blueprint.response(200, ShadowSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(404, "NOT_FOUND")
@requires(Role.STEWARD)
def get_shadow(candidate_id: uuid.UUID) -> Json:
    """What a candidate said of new studies, beside the serving model."""
    candidate = find_candidate(candidate_id)
    return {
        "runs": shadow_runs(candidate),
        "comparison": plain(compare(candidate)),
        "notice": notice(),
    }


@blueprint.post("/models/<uuid:candidate_id>/shadow")
@blueprint.arguments(NewShadowSchema)
@blueprint.response(201, ShadowRunSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
@requires(Role.STEWARD)
def post_shadow(values: dict[str, int], candidate_id: uuid.UUID) -> ShadowRun:
    """Let a candidate answer new studies as well, unseen."""
    return start_shadow(
        actor=actor(), candidate_id=candidate_id, share=values["share"], most=values["most"]
    )


@blueprint.post("/models/<uuid:candidate_id>/shadow/stop")
@blueprint.response(200, ShadowRunSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
@requires(Role.STEWARD)
def post_shadow_stop(candidate_id: uuid.UUID) -> ShadowRun:
    """Give a candidate no further studies."""
    return stop_shadow(actor=actor(), candidate_id=candidate_id)


@blueprint.get("/models/<uuid:candidate_id>/trial")
@blueprint.response(200, TrialListSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(404, "NOT_FOUND")
@requires(Role.STEWARD)
def get_trial(candidate_id: uuid.UUID) -> Json:
    """What came of a candidate's trials, beside the serving model in the same time."""
    found = trials_of(find_candidate(candidate_id))
    return {"items": [_trial(one) for one in found], "notice": notice()}


def _trial(one: Trial) -> Json:
    found, end = figures(one), one.end
    return {
        "id": one.row.id,
        "share": one.row.share,
        "created_at": one.row.created_at,
        "ended_at": end.created_at if end else None,
        "ended_with": end.kind if end else None,
        "ended_by_rule": end.decided_by_id is None if end else None,
        "reason": (end.reason or None) if end else None,
        "trial": found.trial,
        "incumbent": found.incumbent,
        "missed": found.missed,
    }


@blueprint.get("/models/<uuid:candidate_id>/evidence")
@blueprint.response(200, EvidenceSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(404, "NOT_FOUND")
@requires(Role.STEWARD)
def get_evidence(candidate_id: uuid.UUID) -> Response:
    """Everything that is known about a candidate, signed by this installation."""
    found = export_evidence(actor=actor(), candidate_id=candidate_id, kind="api")
    return Response(as_bytes(found), content_type="application/json")
