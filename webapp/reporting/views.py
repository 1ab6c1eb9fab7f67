"""Views for downloading reports and sending results to archives."""

import uuid

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from webapp.accounts.access import actor
from webapp.database import db
from webapp.errors import Conflict
from webapp.pacs.deliveries import deliveries_of, receiving_nodes, send_results
from webapp.pacs.models import DeliveryStatus
from webapp.reporting.operations import ReportFile, ReportFormat, export_report
from webapp.studies.queries import find_study

blueprint = Blueprint("reporting", __name__)


@blueprint.get("/studies/<uuid:study_id>/report.pdf")
def pdf(study_id: uuid.UUID) -> Response:
    """The report as PDF."""
    return _exported(study_id, ReportFormat.PDF)


@blueprint.get("/studies/<uuid:study_id>/report.dcm")
def structured_report(study_id: uuid.UUID) -> Response:
    """The report as a DICOM structured report."""
    return _exported(study_id, ReportFormat.SR)


@blueprint.get("/studies/<uuid:study_id>/report.fhir.json")
def fhir(study_id: uuid.UUID) -> Response:
    """The report as FHIR R4."""
    return _exported(study_id, ReportFormat.FHIR)


@blueprint.get("/studies/<uuid:study_id>/deliveries")
def deliveries(study_id: uuid.UUID) -> str:
    """The deliveries part of the study's page; it refreshes itself while results are being sent."""
    return _deliveries(study_id)


@blueprint.post("/studies/<uuid:study_id>/deliveries")
def deliver(study_id: uuid.UUID) -> ResponseReturnValue:
    """Send the results to an archive; answer htmx with that part, others with a redirect."""
    try:
        send_results(actor=actor(), study_id=study_id, node_id=_node_id())
    except Conflict as error:
        db.session.rollback()
        if request.headers.get("HX-Request"):
            return _deliveries(study_id, message=error.message), error.status
        flash(error.message, "error")
    if request.headers.get("HX-Request"):
        return _deliveries(study_id)
    return redirect(url_for("worklist.show", study_id=study_id, _anchor="report"))


def _exported(study_id: uuid.UUID, wanted: ReportFormat) -> Response:
    return send_report(export_report(actor=actor(), study_id=study_id, wanted=wanted))


def _node_id() -> uuid.UUID:
    """The chosen archive's id; an invalid one matches no archive."""
    try:
        return uuid.UUID(request.form.get("node_id", ""))
    except ValueError:
        return uuid.UUID(int=0)


def _deliveries(study_id: uuid.UUID, *, message: str | None = None) -> str:
    study = find_study(study_id)
    known = deliveries_of(study)
    return render_template(
        "reporting/_deliveries.html",
        study=study,
        nodes=receiving_nodes(),
        deliveries=known,
        under_way=any(each.status is DeliveryStatus.QUEUED for each in known),
        message=message,
    )


def send_report(report: ReportFile) -> Response:
    """The response that downloads a report."""
    response = Response(report.content, content_type=report.media_type)
    response.headers["Content-Disposition"] = f'attachment; filename="{report.name}"'
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.cache_control.private = True
    response.cache_control.no_store = True
    return response
