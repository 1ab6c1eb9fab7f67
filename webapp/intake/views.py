"""The upload page and the endpoints for its script."""

from flask import (
    Blueprint,
    flash,
    jsonify,
    redirect,
    render_template,
    request,
    url_for,
)
from flask.typing import ResponseReturnValue

from ml.imaging import ACCEPTED_FORMATS
from webapp.accounts.access import actor
from webapp.database import db
from webapp.errorpages import wants_json
from webapp.errors import (
    CodeConflict,
    InvalidInput,
    KnownContent,
    PortalError,
    QuestionableCode,
)
from webapp.extensions import current_settings
from webapp.intake.forms import UploadForm, choices, file_paths, handling, uploaded_files
from webapp.intake.known import Known
from webapp.intake.parcels import Split, guessed_patients
from webapp.intake.patient_codes import checked_code
from webapp.intake.received import answered, omission_count, page_of
from webapp.intake.submission import Submission, submit_files
from webapp.studies.models import Priority
from webapp.uploads import takes, takes_files

blueprint = Blueprint("intake", __name__)


@blueprint.route("/studies/new", methods=["GET", "POST"])
@takes_files
def upload() -> ResponseReturnValue:
    """Upload a study; the page's script gets JSON, a browser without script a page."""
    form = UploadForm()
    if request.method == "GET":
        form.split.data, form.known.data = Split.ASK.value, Known.ASK.value
        return _upload_page(form)
    try:
        submission = _submitted(form)
    except PortalError as error:
        if isinstance(error, KnownContent | CodeConflict):
            _link(error)
        if wants_json():
            raise  # webapp.errorpages makes it a problem document
        db.session.rollback()
        form.show(error)
        return _upload_page(form, error), error.status
    for note in submission.notes:
        flash(note, "info")
    if wants_json():
        return answered(submission), 201
    if submission.left_out:
        flash(omission_count(submission), "info")
    several = len(submission.studies) > 1
    return redirect(url_for("worklist.index") if several else page_of(submission.study.id))


@blueprint.post("/studies/new/check")
@takes(2**20)
def check_upload() -> ResponseReturnValue:
    """Questions to ask before the files are sent, for the page's script."""
    question = None
    try:
        checked_code(request.form.get("patient_code", ""), confirmed=False)
    except QuestionableCode as doubt:
        question = doubt.message
    except InvalidInput:
        pass  # the upload itself reports it
    patients = guessed_patients(file_paths(request.form.get("paths")))
    return jsonify(code_question=question, patients=patients)


def _submitted(form: UploadForm) -> Submission:
    if not form.validate():
        raise InvalidInput.of_form(form.errors)
    return submit_files(
        actor=actor(),
        files=uploaded_files(request.files.getlist("files"), request.form.get("paths")),
        patient_code=form.patient_code.data or "",
        description=form.description.data or "",
        priority=Priority(form.priority.data),
        handling=handling(form),
        choices=choices(form),
    )


def _link(error: PortalError) -> None:
    """Add the pages of the studies named by an error."""
    known = error.extra.get("known")
    for one in known if isinstance(known, list) else [error.extra]:
        one["page"] = url_for("worklist.show", study_id=one["study_id"])


def _upload_page(form: UploadForm, error: PortalError | None = None) -> str:
    settings = current_settings()
    limits = {
        "max_upload_mb": settings.max_upload_bytes // 2**20,
        "max_megapixels": settings.max_pixels // 1_000_000,
        "formats": list(ACCEPTED_FORMATS),
    }
    return render_template(
        "intake/upload.html",
        form=form,
        limits=limits,
        message=error.message if error else None,
        asked=error.code if error else None,
        extra=error.extra if error else {},
    )
