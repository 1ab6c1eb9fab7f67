"""The addresses of the API about the reading room."""

from typing import Any

from flask import url_for

from webapp.accounts.access import actor
from webapp.api import answers
from webapp.api.description import PortalBlueprint
from webapp.api.reading_schemas import OutcomeListSchema, QueueQuerySchema, QueueSchema
from webapp.api.request_schemas import PageQuerySchema
from webapp.reading.outcomes import Outcome, outcomes_page
from webapp.reading.queue import queue_of
from webapp.reading.room import ListedEntry, listed
from webapp.studies.paging import Cursor

blueprint = PortalBlueprint(
    "reading_api", __name__, url_prefix="/api/v1", description="What readers are asked to assess."
)


@blueprint.get("/reading")
@blueprint.arguments(QueueQuerySchema, location="query")
@blueprint.response(200, QueueSchema)
def get_queue(query: dict[str, Any]) -> dict[str, Any]:
    """The slices whose assessment by the token's user would teach most, in that order."""
    queue = queue_of(actor())
    entries = listed(actor(), queue.entries[: query["limit"]])
    return {
        "items": [_entry(one) for one in entries],
        "total": len(queue.entries),
        "total_is_least": queue.is_cut,
        "notice": answers.notice(),
    }


@blueprint.get("/reading/outcomes")
@blueprint.arguments(PageQuerySchema, location="query")
@blueprint.response(200, OutcomeListSchema)
def list_outcomes(query: dict[str, Any]) -> dict[str, Any]:
    """What became of the assessments of the token's user, newest first."""
    after = Cursor.parse(query["cursor"]) if query["cursor"] else None
    page = outcomes_page(actor(), after=after, size=query["limit"])
    items = [_outcome(one) for one in page.items]
    return answers.page(items, page.next_cursor, endpoint="reading_api.list_outcomes", query=query)


def _entry(one: ListedEntry) -> dict[str, Any]:
    image_id, study_id = one.entry.image_id, one.entry.study_id
    return {
        "image_id": image_id,
        "study_id": study_id,
        "position": one.place.position,
        "patient_code": one.place.patient_code,
        "blind": one.is_blind,
        "reasons": [] if one.is_blind else [reason.value for reason in one.entry.reasons],
        "weight": None if one.is_blind else one.entry.weight,
        "links": {
            "pixels": url_for("api.get_pixels", image_id=image_id),
            "feedback": url_for("api.create_feedback", study_id=study_id),
            "page": url_for("reading.entry", image_id=image_id),
        },
    }


def _outcome(one: Outcome) -> dict[str, Any]:
    said = one.assessment
    return {
        "assessment_id": said.id,
        "study_id": said.study_id,
        "image_id": said.image_id,
        "label": said.label,
        "finding": said.finding,
        "model_shown": said.model_shown,
        "created_at": said.created_at,
        "said_by_model": one.said_by_model,
        "counting": one.counting,
        "consensus": one.state,
        "agreed_label": one.agreed,
        "snapshots": one.kept,
        "new_answer": one.new_answer,
    }
