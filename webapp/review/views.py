"""Views for assessments, drafts, and their export for training."""

import uuid
from typing import IO, Any

from flask import (
    Blueprint,
    Response,
    flash,
    redirect,
    render_template,
    request,
    send_file,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_wtf.csrf import CSRFError

from webapp.accounts.access import actor, requires
from webapp.accounts.guard import admit_visitor
from webapp.accounts.models import Role
from webapp.bodies import limit_bodies
from webapp.database import db
from webapp.errorpages import csrf_error
from webapp.errors import Conflict, InvalidInput, NotFound, PortalError
from webapp.review.adjudicating import adjudicate, dispute_of, disputes_of, open_disputes
from webapp.review.export import feedback_archive
from webapp.review.forms import AssessmentForm, BlindForm, RulingForm
from webapp.review.operations import (
    Subject,
    discard_draft,
    keep_draft,
    keep_first_opinion,
    record_assessments,
)
from webapp.review.panel import BlindPanel, Panel, blind_panel, panel_of, panel_with
from webapp.review.queries import answered_between
from webapp.studies.models import Image, Study
from webapp.studies.queries import find_image, find_study
from webapp.studies.sight import blind_slice, note_answer_shown
from webapp.viewer.series import shown_series

blueprint = Blueprint("review", __name__)

LARGEST_BODY = 64 * 2**10
"""Bytes of an assessment as a form or as JSON."""
DISPUTES_SHOWN = 50
_DRAFTED = (
    "analysis_id", "image_id", "region", "scope", "first", "last", "verdict", "label", "finding",
    "confidence", "comment",
)  # fmt: skip

limit_bodies(blueprint, LARGEST_BODY)


@blueprint.get("/studies/<uuid:study_id>/assessment")
def panel(study_id: uuid.UUID) -> ResponseReturnValue:
    """The part of the study's page in which a slice is assessed."""
    study = find_study(study_id)
    if (image_id := blind_slice(actor().id, study.id)) is not None:
        return _rendered(blind_panel(study, image_id, reader=actor()))
    note_answer_shown(actor().id, study)
    position = request.args.get("image", default=0, type=int)
    return _rendered(panel_of(study, position, reader=actor()))


@blueprint.post("/studies/<uuid:study_id>/assessments")
def record(study_id: uuid.UUID) -> ResponseReturnValue:
    """Store an assessment; answer htmx with the panel, others with a redirect to the study."""
    study = find_study(study_id)
    form = BlindForm() if blind_slice(actor().id, study.id) else AssessmentForm()
    is_first = isinstance(form, BlindForm)
    try:
        saved = _keep(study, form)
    except (InvalidInput, Conflict) as error:
        db.session.rollback()
        form.show(error)
        return _refused(study, form, error)
    image = db.session.get_one(Image, form.image)
    if form.reading.data:
        return _on_with_reading(image, is_first=is_first)
    if request.headers.get("HX-Request"):
        return _rendered(_after(study, image, form, saved))
    flash(_("Saved. Thank you."), "success")
    return _to_study(study, image.position)


@blueprint.post("/images/<uuid:image_id>/assessment/keep")
def keep(image_id: uuid.UUID) -> ResponseReturnValue:
    """Stand by one's first opinion after the model's answer has been shown."""
    _refuse_foreign_words()
    image = find_image(image_id)
    try:
        keep_first_opinion(actor=actor(), image_id=image.id)
    except Conflict as error:  # a second click
        flash(error.message, "warning")
        return _to_study(image.study, image.position)
    if request.form.get("reading"):
        return _on_with_reading(image, is_first=False)
    flash(_("Saved. Thank you."), "success")
    return _to_study(image.study, image.position)


@blueprint.post("/studies/<uuid:study_id>/draft")
def draft(study_id: uuid.UUID) -> ResponseReturnValue:
    """Store the reader's draft."""
    _refuse_foreign_words()
    payload = {name: request.form[name] for name in _DRAFTED if name in request.form}
    keep_draft(actor=actor(), study_id=study_id, payload=payload)
    return "", 204


@blueprint.post("/studies/<uuid:study_id>/draft/discard")
def discard(study_id: uuid.UUID) -> ResponseReturnValue:
    """Delete the reader's draft; htmx gets a new panel."""
    study = find_study(study_id)
    discard_draft(actor=actor(), study_id=study.id)
    position = request.form.get("image", default=0, type=int)
    reading = request.form.get("reading") or None
    if not request.headers.get("HX-Request"):
        return _to_study(study, position, reading=reading)
    if (image_id := blind_slice(actor().id, study.id)) is not None:
        return _rendered(blind_panel(study, image_id, reader=actor()))
    found = panel_of(study, position, reader=actor())
    if found is not None:
        found.form.reading.data = reading
    return _rendered(found)


@blueprint.get("/feedback/export")
@requires(Role.REVIEWER)
def export() -> Response:
    """Export all current assessments with their images as a ZIP for training."""
    return send_archive(feedback_archive(actor_id=actor().id))


@blueprint.get("/disputes")
@requires(Role.REVIEWER)
def disputes() -> ResponseReturnValue:
    """Slices that readers disagree about and that one may settle."""
    waiting = open_disputes(actor())
    shown = disputes_of(actor(), waiting[:DISPUTES_SHOWN])
    return render_template("review/disputes.html", disputes=shown, total=len(waiting))


@blueprint.get("/disputes/<uuid:image_id>")
@requires(Role.REVIEWER)
def dispute(image_id: uuid.UUID) -> ResponseReturnValue:
    """One of them, with what its readers say and without their names."""
    found = dispute_of(actor(), image_id)
    form = RulingForm(formdata=None, data={"version": found.version})
    return render_template("review/dispute.html", dispute=found, form=form)


@blueprint.post("/disputes/<uuid:image_id>")
@requires(Role.REVIEWER)
def settle(image_id: uuid.UUID) -> ResponseReturnValue:
    """Settle it, and go on with the next one."""
    form = RulingForm()
    try:
        adjudicate(actor=actor(), image_id=image_id, ruling=form.ruling)
    except (InvalidInput, Conflict) as error:
        db.session.rollback()
        found = dispute_of(actor(), image_id)
        form.show(error)
        form.version.data = found.version
        return render_template("review/dispute.html", dispute=found, form=form), error.status
    flash(_("Saved. Thank you."), "success")
    waiting = open_disputes(actor())
    if not waiting:
        return redirect(url_for("review.disputes"))
    return redirect(url_for("review.dispute", image_id=waiting[0]))


@blueprint.errorhandler(CSRFError)
def out_of_date(error: CSRFError) -> ResponseReturnValue:
    """Show a form with an outdated CSRF token again, with the typed values and a new token."""
    if request.endpoint != "review.record" or not admit_visitor():
        return csrf_error(error)
    study = find_study((request.view_args or {})["study_id"])
    form = BlindForm() if blind_slice(actor().id, study.id) else AssessmentForm()
    form.form_errors = [_("This form was open for too long. Please send it again.")]
    return _refused(study, form, InvalidInput(form.form_errors[0]), status=400)


def _keep(study: Study, form: AssessmentForm) -> int:
    """Store the assessment; return the number of slices, 0 for the whole study."""
    _refuse_foreign_words()
    if not form.validate():
        raise InvalidInput.of_form(form.errors)
    if isinstance(form, BlindForm):
        subject = Subject(study.id, (form.image,), form.analysis, begun_on=form.image)
    else:
        subject = _subject(study, form)
    kept = record_assessments(actor=actor(), subject=subject, opinion=form.opinion)
    return 0 if subject.image_ids is None else len(kept)


def _refuse_foreign_words() -> None:
    """Refuse a form of another user, who was signed in when this tab was opened."""
    if request.form.get("reader", str(actor().id)) != str(actor().id):
        raise Conflict(_("This was written by somebody else, who has signed out since."))


def _subject(study: Study, form: AssessmentForm) -> Subject:
    image_ids: tuple[uuid.UUID, ...] | None = (form.image,)
    if form.scope.data == "study":
        image_ids = None
    elif form.scope.data == "range":
        image_ids = _chosen_slices(study, form)
    return Subject(study.id, image_ids, analysis_id=form.analysis, begun_on=form.image)


def _chosen_slices(study: Study, form: AssessmentForm) -> tuple[uuid.UUID, ...]:
    """Slices from one number to another, within the series of the current slice."""
    image = db.session.get(Image, form.image)
    every = shown_series(study)
    series = next((one for one in every if image and one.holds(image.position)), None)
    first, last = form.first.data, form.last.data
    if series is None or image is None or image.study_id != study.id:
        raise InvalidInput(_("There is no such image in this study."))
    ends = {"low": series.first + 1, "high": series.first + series.count}
    if first is None or last is None or not ends["low"] <= first <= last <= ends["high"]:
        message = _("Give two numbers from %(low)d to %(high)d, the smaller one first.", **ends)
        raise InvalidInput(message, fields={"first": message})
    found = answered_between(study, form.analysis, first - 1, last - 1)
    if not found:
        raise Conflict(_("There is no result for these slices, so nothing to assess."))
    return found


def _after(study: Study, image: Image, form: AssessmentForm, saved: int) -> Panel | None:
    """The panel after a save: with the current analysis, or with the earlier one assessed."""
    db.session.refresh(study)
    now = panel_of(study, image.position, reader=actor(), saved=saved)
    if now is not None and now.analysis.id == form.analysis:
        return now
    # An earlier analysis was assessed: keep showing it, with a note about the newer one.
    return panel_with(study, form, reader=actor(), saved=saved)


def _on_with_reading(image: Image, *, is_first: bool) -> ResponseReturnValue:
    """To the next slice of the queue, or first to the model's answer about this one."""
    if is_first:
        place: dict[str, Any] = {"image": image.position, "reading": image.id}
        address = url_for("worklist.show", study_id=image.study_id, **place)
    else:
        flash(_("Saved. Thank you."), "success")
        address = url_for("reading.go_on", after=image.id)
    if request.headers.get("HX-Request"):
        return Response(status=204, headers={"HX-Redirect": address})
    return redirect(address)


def _refused(
    study: Study, form: AssessmentForm, error: PortalError, *, status: int | None = None
) -> ResponseReturnValue:
    found: Panel | BlindPanel
    try:
        if isinstance(form, BlindForm):
            found = blind_panel(study, form.image, reader=actor(), form=form)
        else:
            found = panel_with(study, form, reader=actor())
    except (NotFound, InvalidInput):
        raise error from None
    if request.headers.get("HX-Request"):
        return _rendered(found), status or error.status
    template = _template_of(found)
    page = render_template("review/assessment.html", panel=found, study=study, template=template)
    return page, status or error.status


def _rendered(found: Panel | BlindPanel | None) -> str:
    return render_template(_template_of(found), panel=found)


def _template_of(found: Panel | BlindPanel | None) -> str:
    blind = isinstance(found, BlindPanel)
    return "review/_blind_panel.html" if blind else "review/_panel.html"


def _to_study(study: Study, position: int, *, reading: str | None = None) -> ResponseReturnValue:
    place: dict[str, Any] = {"image": position, "reading": reading, "_anchor": "feedback"}
    return redirect(url_for("worklist.show", study_id=study.id, **place))


def send_archive(file: IO[bytes]) -> Response:
    """The response with the ZIP, which closes the file; not cached, as it has patients' images."""
    answer = send_file(
        file, mimetype="application/zip", as_attachment=True, download_name="feedback.zip"
    )
    answer.headers["Cache-Control"] = "no-store"
    return answer
