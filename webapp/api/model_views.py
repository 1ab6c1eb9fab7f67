"""The addresses of the API about models."""

import uuid
from typing import Any

from webapp.accounts.access import actor, requires
from webapp.accounts.models import Role
from webapp.api.answers import Json, notice
from webapp.api.description import PortalBlueprint
from webapp.api.model_schemas import (
    CandidateSchema,
    DeploymentSchema,
    GateRunSchema,
    ModelsSchema,
    NewProposalSchema,
    ProposalSchema,
    ReasonSchema,
)
from webapp.bodies import limit_bodies
from webapp.models_admin import operations, queries
from webapp.models_admin.models import Candidate, Deployment, GateRun, Proposal
from webapp.models_admin.serving import Overview, candidate_of, overview
from webapp.models_admin.views import LARGEST_BODY

blueprint = PortalBlueprint(
    "models_api", __name__, url_prefix="/api/v1", description="Models: which serves, and how."
)

limit_bodies(blueprint, LARGEST_BODY)


@blueprint.get("/models")
@blueprint.response(200, ModelsSchema)
def list_models() -> Json:
    """Which model serves and which did before; for stewards the candidates as well."""
    found = overview()
    shown = queries.candidates() if actor().may(Role.STEWARD) else []
    return {
        "serving": found.name,
        "since": found.since,
        "is_off": found.is_off,
        "on_trial": (
            candidate_of(found.canary).model_version.name if found.canary is not None else None
        ),
        "candidates": [_candidate(one, found) for one in shown],
        "deployments": [_deployment(one) for one in found.deployments],
        "notice": notice(),
    }


@blueprint.get("/models/<uuid:candidate_id>")
@blueprint.response(200, CandidateSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(404, "NOT_FOUND")
@requires(Role.STEWARD)
def get_model(candidate_id: uuid.UUID) -> Json:
    """A candidate with what its gates say."""
    return _candidate(queries.find_candidate(candidate_id), overview())


@blueprint.post("/models/<uuid:candidate_id>/gates")
@blueprint.response(202, GateRunSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
@requires(Role.STEWARD)
def run_gates(candidate_id: uuid.UUID) -> Json:
    """Run the gates over a candidate again."""
    return _run(operations.run_gates(actor=actor(), candidate_id=candidate_id))


@blueprint.post("/models/<uuid:candidate_id>/proposal")
@blueprint.arguments(NewProposalSchema)
@blueprint.response(201, ProposalSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
@requires(Role.STEWARD)
def propose(values: dict[str, Any], candidate_id: uuid.UUID) -> Proposal:
    """Propose that a candidate serves; another steward has to confirm it."""
    return operations.propose_model(actor=actor(), candidate_id=candidate_id, **values)


@blueprint.post("/models/<uuid:candidate_id>/confirmation")
@blueprint.response(201, DeploymentSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
@requires(Role.STEWARD)
def confirm(candidate_id: uuid.UUID) -> Json:
    """Confirm another steward's proposal: the candidate serves from the next analysis on."""
    return _deployment(operations.confirm_model(actor=actor(), candidate_id=candidate_id))


@blueprint.post("/models/<uuid:candidate_id>/decline")
@blueprint.response(201, ProposalSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
@requires(Role.STEWARD)
def decline(candidate_id: uuid.UUID) -> Proposal:
    """End a proposal without promoting the candidate."""
    return operations.decline_model(actor=actor(), candidate_id=candidate_id)


@blueprint.post("/models/rollback")
@blueprint.arguments(ReasonSchema)
@blueprint.response(201, DeploymentSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(409, "CONFLICT")
@requires(Role.STEWARD)
def roll_back(values: dict[str, Any]) -> Json:
    """Let the model that served before serve again."""
    return _deployment(operations.roll_back(actor=actor(), **values))


@blueprint.post("/models/off")
@blueprint.arguments(ReasonSchema)
@blueprint.response(201, DeploymentSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(409, "CONFLICT")
@requires(Role.STEWARD)
def switch_off(values: dict[str, Any]) -> Json:
    """Let no model answer: studies are kept and shown."""
    return _deployment(operations.switch_off(actor=actor(), **values))


@blueprint.post("/models/on")
@blueprint.response(201, DeploymentSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(409, "CONFLICT")
@requires(Role.STEWARD)
def switch_on() -> Json:
    """Let the model that was switched off answer again."""
    return _deployment(operations.switch_on(actor=actor()))


def _candidate(candidate: Candidate, found: Overview) -> Json:
    run, proposals = candidate.last_run, candidate.proposals
    return {
        "id": candidate.id,
        "name": candidate.model_version.name,
        "sha256": candidate.model_version.sha256,
        "created_at": candidate.created_at,
        "is_serving": found.candidate_id == candidate.id and not found.is_off,
        "gates": _run(run) if run else None,
        "proposal": proposals[-1] if proposals else None,
    }


def _run(run: GateRun) -> Json:
    return {
        "number": run.number,
        "status": run.status,
        "created_at": run.created_at,
        "finished_at": run.finished_at,
        "reason": run.reason,
        "plan": (run.report or {}).get("plan"),
        "gates": (run.report or {}).get("gates", []),
    }


def _deployment(row: Deployment) -> Json:
    version = row.candidate.model_version if row.candidate else None
    return {
        "number": row.number,
        "kind": row.kind,
        "model": version.name if version else None,
        "sha256": version.sha256 if version else None,
        "created_at": row.created_at,
        "reason": row.reason,
        "share": row.share,
    }
