"""The addresses of the API about slices that readers disagree about."""

import uuid
from typing import Any

from flask import url_for

from webapp.accounts.access import actor, requires
from webapp.accounts.models import Role
from webapp.api import answers
from webapp.api.consensus_schemas import (
    AdjudicationSchema,
    DisputeListSchema,
    DisputeQuerySchema,
    RulingSchema,
)
from webapp.api.description import PortalBlueprint
from webapp.bodies import limit_bodies
from webapp.review.adjudicating import Dispute, Ruling, adjudicate, disputes_of, open_disputes
from webapp.review.views import LARGEST_BODY

blueprint = PortalBlueprint(
    "consensus", __name__, url_prefix="/api/v1", description="Slices that readers disagree about."
)

limit_bodies(blueprint, LARGEST_BODY)


@blueprint.get("/disputes")
@blueprint.arguments(DisputeQuerySchema, location="query")
@blueprint.response(200, DisputeListSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@requires(Role.REVIEWER)
def list_disputes(query: dict[str, Any]) -> dict[str, Any]:
    """List slices that readers disagree about and that you have not assessed; reviewers and above.

    What readers say comes without their names and in no order that tells.
    """
    waiting = open_disputes(actor())
    shown = disputes_of(actor(), waiting[: query["limit"]])
    return {
        "items": [_dispute(one) for one in shown],
        "total": len(waiting),
        "notice": answers.notice(),
    }


@blueprint.post("/images/<uuid:image_id>/adjudication")
@blueprint.arguments(RulingSchema)
@blueprint.response(201, AdjudicationSchema)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
@requires(Role.REVIEWER)
def create_adjudication(values: dict[str, Any], image_id: uuid.UUID) -> dict[str, Any]:
    """Settle a dispute about a slice that you have not assessed; reviewers and above."""
    row = adjudicate(actor=actor(), image_id=image_id, ruling=Ruling(**values))
    return {
        "id": row.id,
        "image_id": row.image_id,
        "label": row.label,
        "finding": row.finding,
        "comment": row.comment,
        "opinions": len(row.about),
        "created_at": row.created_at,
        "notice": answers.notice(),
    }


def _dispute(one: Dispute) -> dict[str, Any]:
    return {
        "image_id": one.image.id,
        "study_id": one.image.study_id,
        "version": one.version,
        "opinions": one.opinions,
        "links": {
            "pixels": url_for("api.get_pixels", image_id=one.image.id),
            "page": url_for("review.dispute", image_id=one.image.id),
        },
    }
