"""Pages of the review: a reader's answer, and the answers for training."""

import uuid
from typing import Any

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from webapp.access import actor, requires
from webapp.accounts.models import Role, User
from webapp.database import db
from webapp.errors import Conflict, InvalidInput, PortalError
from webapp.review.export import feedback_archive, send_archive
from webapp.review.forms import AssessmentForm
from webapp.review.models import Verdict
from webapp.review.operations import record_assessment
from webapp.review.queries import assessments_of
from webapp.studies.models import Image, Prediction
from webapp.studies.operations import find_image

blueprint = Blueprint("review", __name__)


@blueprint.post("/images/<uuid:image_id>/feedback")
def record(image_id: uuid.UUID) -> ResponseReturnValue:
    """Keep the reader's answer; htmx gets the panel again, a browser without script the study."""
    image = find_image(image_id)
    form = AssessmentForm()
    try:
        _keep(image_id, form)
    except (InvalidInput, Conflict) as error:
        db.session.rollback()
        return _refused(image, form, error)
    if request.headers.get("HX-Request"):
        return _panel(image, saved=True)
    flash(_("Saved. Thank you."), "success")
    return _to_study(image)


@blueprint.get("/feedback/export")
@requires(Role.REVIEWER)
def export() -> Response:
    """All current answers with their images, as a ZIP to train with."""
    return send_archive(feedback_archive(actor_id=actor().id))


def panel_context(
    image: Image,
    prediction: Prediction,
    *,
    reader: User,
    form: AssessmentForm | None = None,
    saved: bool = False,
) -> dict[str, Any]:
    """What ``review/_panel.html`` needs."""
    answers = assessments_of(image, reader=reader)
    return {
        "image": image,
        "prediction": prediction,
        "current": answers.current,
        "others": answers.others,
        "earlier": answers.earlier,
        "form": form or AssessmentForm.showing(answers.current),
        "saved": saved,
    }


def _keep(image_id: uuid.UUID, form: AssessmentForm) -> None:
    if not form.validate():
        raise InvalidInput.of_form(form.errors)
    record_assessment(
        actor=actor(),
        image_id=image_id,
        verdict=Verdict(form.verdict.data),
        label=form.chosen_label,
        confidence=form.chosen_confidence,
        comment=form.comment.data or "",
    )


def _refused(image: Image, form: AssessmentForm, error: PortalError) -> ResponseReturnValue:
    if request.headers.get("HX-Request") and image.prediction:
        form.show(error)
        return _panel(image, form=form), error.status
    flash(error.message, "error")
    return _to_study(image)


def _panel(image: Image, *, form: AssessmentForm | None = None, saved: bool = False) -> str:
    prediction = image.prediction
    if prediction is None:
        raise Conflict(_("There is no result for this image yet, so nothing to assess."))
    context = panel_context(image, prediction, reader=actor(), form=form, saved=saved)
    return render_template("review/_panel.html", **context)


def _to_study(image: Image) -> ResponseReturnValue:
    return redirect(
        url_for("studies.show", study_id=image.study_id, image=image.position, _anchor="feedback")
    )
