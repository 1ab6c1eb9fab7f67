"""The endpoints of the API. The docstrings of views are part of the OpenAPI description."""

import uuid
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from flask import Response, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from webapp.accounts.access import actor, requires
from webapp.accounts.models import Role
from webapp.api import answer_schemas, answers, request_schemas
from webapp.api.description import PortalBlueprint
from webapp.corrections import operations as corrections
from webapp.corrections.operations import Correction, Deletion
from webapp.errors import Conflict
from webapp.inference.operations import retry_study
from webapp.inference.results import result_of
from webapp.intake.arrival import Handling
from webapp.intake.forms import uploaded_files
from webapp.intake.known import Known
from webapp.intake.parcels import Split
from webapp.intake.submission import Choices, Idempotency, submit_files
from webapp.reporting.operations import export_report
from webapp.reporting.views import send_report
from webapp.review.export import feedback_archive
from webapp.review.operations import Opinion, Subject, record_assessments
from webapp.review.queries import current_assessments_page
from webapp.review.views import LARGEST_BODY, send_archive
from webapp.studies.models import Study
from webapp.studies.paging import Cursor
from webapp.studies.queries import find_image, find_study
from webapp.studies.sight import note_answer_shown
from webapp.uploads import takes_files
from webapp.viewer import pictures
from webapp.worklist import queries
from webapp.worklist.queries import HistoryFilters

blueprint = PortalBlueprint(
    "api", __name__, url_prefix="/api/v1", description="Studies, results and readers' assessments."
)
_FILE = _PICTURE = {"type": "string", "format": "binary"}
_REPORTS = {
    "application/dicom": {"schema": _FILE},
    "application/fhir+json": {"schema": {"type": "object"}},
}


@blueprint.url_value_preprocessor
def _limit_body(endpoint: str | None, _values: dict[str, Any] | None) -> None:
    if endpoint == "api.create_feedback":
        request.max_content_length = LARGEST_BODY


@blueprint.post("/studies")
@blueprint.arguments(request_schemas.IdempotencySchema, location="headers")
@blueprint.arguments(
    request_schemas.SubmissionSchema, location="form", content_type="multipart/form-data"
)
@blueprint.response(202, answer_schemas.SubmittedSchema)
@blueprint.alt_response(409, "CONFLICT")
@blueprint.alt_response(413, HTTPStatus(413).name)
@takes_files
def create_study(headers: dict[str, Any], values: dict[str, Any]) -> ResponseReturnValue:
    """Upload a study to be analysed.

    The response comes before the analysis: poll `links.self` until `status` is final.
    """
    submission = submit_files(
        actor=actor(),
        files=uploaded_files(values["files"]),
        patient_code=values["patient_code"],
        description=values["description"],
        priority=values["priority"],
        idempotency=Idempotency(headers["key"]) if headers["key"] else None,
        handling=Handling(
            burned_in=values["burned_in"], plane=values["plane"], forgiving=values["forgiving"]
        ),
        choices=Choices(
            split=Split.YES if values["split"] else Split.NO,
            known=Known(values["known"]),
            code_confirmed=values["patient_code_confirmed"],
        ),
    )
    location = url_for("api.get_study", study_id=submission.study.id)
    return answers.submitted(submission), {"Location": location}


@blueprint.get("/studies")
@blueprint.arguments(request_schemas.StudyQuerySchema, location="query")
@blueprint.response(200, answer_schemas.StudyListSchema)
def list_studies(query: dict[str, Any]) -> dict[str, Any]:
    """List studies, newest first."""
    filters = HistoryFilters(
        status=query["status"], label=query["label"], patient_code=query["patient_code"]
    )
    found = queries.history(
        filters, reader=actor(), after=_cursor(query["cursor"]), size=query["limit"]
    )
    rows = [answers.summary(row) for row in found.items]
    return answers.page(rows, found.next_cursor, endpoint="api.list_studies", query=query)


@blueprint.get("/studies/<uuid:study_id>")
@blueprint.response(200, answer_schemas.StudySchema)
@blueprint.alt_response(404, "NOT_FOUND")
def get_study(study_id: uuid.UUID) -> dict[str, Any]:
    """One study: its progress and its result."""
    study = find_study(study_id)
    note_answer_shown(actor().id, study)
    return answers.full(study)


@blueprint.patch("/studies/<uuid:study_id>")
@blueprint.arguments(request_schemas.CorrectionSchema)
@blueprint.response(200, answer_schemas.StudySchema)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
def correct_study(values: dict[str, Any], study_id: uuid.UUID) -> dict[str, Any]:
    """Correct patient code, description and priority."""
    seen = values.pop("version", None)
    confirmed = values.pop("patient_code_confirmed", False)
    correction = Correction(**values, code_confirmed=confirmed)
    return answers.full(
        corrections.correct_study(
            actor=actor(), study_id=study_id, correction=correction, seen=seen
        )
    )


@blueprint.delete("/studies/<uuid:study_id>")
@blueprint.arguments(request_schemas.DeletionSchema)
@blueprint.response(204)
@blueprint.alt_response(403, "FORBIDDEN")
@blueprint.alt_response(404, "NOT_FOUND")
def delete_study(values: dict[str, Any], study_id: uuid.UUID) -> None:
    """Delete a study with all that is kept of it, for good; its uploader, reviewers and above."""
    corrections.delete_study(actor=actor(), study_id=study_id, deletion=Deletion(**values))


@blueprint.post("/studies/<uuid:study_id>/analysis")
@blueprint.response(202, answer_schemas.AcceptedSchema)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
def analyse_again(study_id: uuid.UUID) -> dict[str, Any]:
    """Analyse a study again whose analysis failed; one that has not failed is a conflict.

    The response comes before the analysis: poll `links.self` until `status` is final.
    """
    return answers.accepted(retry_study(actor=actor(), study_id=study_id))


@blueprint.get("/studies/<uuid:study_id>/report")
@blueprint.arguments(request_schemas.ReportQuerySchema, location="query")
@blueprint.response(200, _FILE, content_type="application/pdf")
@blueprint.doc(responses={200: {"content": _REPORTS}})
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
def get_report(query: dict[str, Any], study_id: uuid.UUID) -> Response:
    """The report of an analysed study as a file: PDF, DICOM structured report or FHIR R4."""
    wanted = query["format"]
    return send_report(export_report(actor=actor(), study_id=study_id, wanted=wanted))


@blueprint.post("/studies/<uuid:study_id>/feedback")
@blueprint.arguments(request_schemas.AnswerSchema)
@blueprint.response(201, answer_schemas.KeptFeedbackSchema)
@blueprint.alt_response(404, "NOT_FOUND")
@blueprint.alt_response(409, "CONFLICT")
@blueprint.alt_response(413, HTTPStatus(413).name)
def create_feedback(values: dict[str, Any], study_id: uuid.UUID) -> dict[str, Any]:
    """Assess a slice, several slices, or the study as a whole.

    Each assessment takes the place of your earlier one of the same. Say nothing of these, and the
    study's key image is meant.
    """
    subject = _subject(
        study_id,
        image_id=values.pop("image_id"),
        image_ids=values.pop("image_ids"),
        whole=values.pop("scope") is not None,
        analysis_id=values.pop("analysis_id"),
    )
    subject = replace(subject, model_shown=values.pop("model_shown"))
    kept = record_assessments(actor=actor(), subject=subject, opinion=Opinion(**values))
    items = [answers.assessment(one) for one in kept]
    return items[0] | ({"assessments": items} if len(items) > 1 else {})


@blueprint.get("/feedback")
@blueprint.arguments(request_schemas.FeedbackQuerySchema, location="query")
@blueprint.response(200, answer_schemas.FeedbackListSchema)
@blueprint.doc(responses={200: {"content": {"application/zip": {"schema": _FILE}}}})
@blueprint.alt_response(403, "FORBIDDEN")
@requires(Role.REVIEWER)
def list_feedback(query: dict[str, Any]) -> dict[str, Any] | Response:
    """List the current assessments of all readers, newest first; reviewers and above."""
    if query["format"] == "zip":
        return send_archive(feedback_archive(actor_id=actor().id))
    found, next_cursor = current_assessments_page(
        after=_cursor(query["cursor"]), size=query["limit"]
    )
    rows = [answers.assessment(one) for one in found]
    return answers.page(rows, next_cursor, endpoint="api.list_feedback", query=query)


@blueprint.get("/images/<uuid:image_id>/pixels")
@blueprint.response(200, _PICTURE, content_type="image/png")
@blueprint.alt_response(404, "NOT_FOUND")
def get_pixels(image_id: uuid.UUID) -> Response:
    """An image as stored, at full bit depth."""
    return pictures.stored_slice(find_image(image_id))


@blueprint.get("/images/<uuid:image_id>/heatmap")
@blueprint.response(200, _PICTURE, content_type="image/png")
@blueprint.alt_response(404, "NOT_FOUND")
def get_heatmap(image_id: uuid.UUID) -> Response:
    """Where the model suspects a tumour, as an overlay of the image's size."""
    image = find_image(image_id)
    note_answer_shown(actor().id, image.study)
    return pictures.heatmap(image)


def _subject(
    study_id: uuid.UUID,
    *,
    image_id: uuid.UUID | None,
    image_ids: list[uuid.UUID] | None,
    whole: bool,
    analysis_id: uuid.UUID | None,
) -> Subject:
    study = find_study(study_id)
    if whole:
        return Subject(study.id, None, analysis_id=analysis_id)
    chosen = image_ids or [image_id or _key_image(study)]
    return Subject(study.id, tuple(chosen), analysis_id=analysis_id)


def _key_image(study: Study) -> uuid.UUID:
    result = result_of(study)
    if result is None:
        raise Conflict(_("There is no result for this study yet, so nothing to assess."))
    return result.key_images[0]


def _cursor(text: str | None) -> Cursor | None:
    return Cursor.parse(text) if text else None
