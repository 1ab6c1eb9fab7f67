"""The addresses of the API about the plan of change."""

import uuid
from typing import Any

from webapp.accounts.access import actor, requires
from webapp.accounts.models import Role
from webapp.api.answers import Json, notice
from webapp.api.description import PortalBlueprint
from webapp.api.plan_schemas import NewPlanSchema, PlanSchema, PlansSchema
from webapp.bodies import limit_bodies
from webapp.plans import operations, queries
from webapp.plans.holding import holding
from webapp.plans.models import PlanVersion
from webapp.plans.views import LARGEST_BODY

blueprint = PortalBlueprint(
    "plans_api", __name__, url_prefix="/api/v1", description="What may change in a model."
)

limit_bodies(blueprint, LARGEST_BODY)


@blueprint.get("/plans")
@blueprint.response(200, PlansSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@requires(Role.STEWARD)
def list_plans() -> Json:
    """The plan of change that holds, and all that were proposed; data stewards and above."""
    found = holding()
    held = found.held
    return {
        "holds": {
            "version": held.plan.version,
            "sha256": held.sha256,
            "text": held.text,
            "is_shipped": held.row is None,
        },
        "refused": [
            {"version": one.decision.plan.number, "reason": one.reason} for one in found.faults
        ],
        "plans": [_plan(one) for one in queries.list_plans()],
        "next_version": operations.next_number(),
        "notice": notice(),
    }


@blueprint.post("/plans")
@blueprint.arguments(NewPlanSchema)
@blueprint.response(201, PlanSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(409, "CONFLICT")
@requires(Role.STEWARD)
def propose(values: dict[str, Any]) -> Json:
    """Propose a plan; another steward has to confirm it."""
    return _plan(operations.propose_plan(actor=actor(), **values))


@blueprint.post("/plans/<uuid:plan_id>/confirmation")
@blueprint.response(201, PlanSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
@requires(Role.STEWARD)
def confirm(plan_id: uuid.UUID) -> Json:
    """Confirm another steward's plan: it holds from now on."""
    return _plan(operations.confirm_plan(actor=actor(), plan_id=plan_id).plan)


@blueprint.post("/plans/<uuid:plan_id>/decline")
@blueprint.response(201, PlanSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
@requires(Role.STEWARD)
def decline(plan_id: uuid.UUID) -> Json:
    """End a proposal: the plan does not come to hold."""
    return _plan(operations.decline_plan(actor=actor(), plan_id=plan_id).plan)


def _plan(row: PlanVersion) -> Json:
    decision = row.decision
    return {
        "id": row.id,
        "version": row.number,
        "sha256": row.sha256,
        "text": row.text,
        "reason": row.reason,
        "created_at": row.created_at,
        "verdict": decision.verdict if decision else None,
        "decided_at": decision.created_at if decision else None,
    }
