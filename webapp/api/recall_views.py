"""The addresses of the API about earlier studies that a new model sees otherwise."""

import uuid
from typing import Any

from webapp.accounts.access import actor
from webapp.api.answers import Json, notice
from webapp.api.description import PortalBlueprint
from webapp.api.recall_schemas import (
    AcknowledgedSchema,
    AcknowledgementSchema,
    RecallListSchema,
)
from webapp.bodies import limit_bodies
from webapp.review.views import LARGEST_BODY
from webapp.rollout.recall_queries import ShownCase, count_open, list_cases
from webapp.rollout.recalling import acknowledge

blueprint = PortalBlueprint(
    "recall_api", __name__, url_prefix="/api/v1", description="Studies that are seen otherwise."
)

limit_bodies(blueprint, LARGEST_BODY)


@blueprint.get("/recall")
@blueprint.response(200, RecallListSchema)
def list_recall() -> Json:
    """The caller's studies that a new model sees otherwise, the riskiest first.

    Studies that the caller uploaded or assessed; all of them for data stewards and above.
    """
    user = actor()
    return {
        "items": [_case(one) for one in list_cases(user)],
        "total": count_open(user),
        "notice": notice(),
    }


@blueprint.post("/recall/<uuid:case_id>/acknowledgement")
@blueprint.arguments(AcknowledgementSchema)
@blueprint.response(200, AcknowledgedSchema)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
def post_acknowledgement(values: dict[str, str], case_id: uuid.UUID) -> Json:
    """Take notice of what the new model says; the study's answer stays."""
    row = acknowledge(actor=actor(), case_id=case_id, note=values["note"])
    return {"id": row.id, "acknowledged_at": row.acknowledged_at, "note": row.note}


def _case(one: ShownCase) -> Json:
    return {
        "id": one.row.id,
        "study_id": one.row.study_id,
        "patient_code": one.row.study.patient.code,
        "change": one.row.change,
        "before": _answer(one.before.label, one.before.prediction_set, one.row.before),
        "after": _answer(one.after.label, one.after.prediction_set, one.row.after),
        "slices": one.slices,
        "is_current": one.is_current,
        "created_at": one.row.created_at,
    }


def _answer(label: str, possible: tuple[str, ...], analysis: Any) -> Json:
    model = analysis.model_version
    return {"label": label, "prediction_set": possible, "model": model.name if model else None}
