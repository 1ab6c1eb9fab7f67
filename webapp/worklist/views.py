"""Pages about studies: worklist, upload, one study, its pictures, history and jobs."""

import uuid
from typing import Any

from flask import (
    Blueprint,
    Response,
    flash,
    jsonify,
    redirect,
    render_template,
    request,
    stream_with_context,
    url_for,
)
from flask.typing import ResponseReturnValue

from ml.imaging import ACCEPTED_FORMATS
from webapp.accounts.access import actor, requires
from webapp.accounts.models import Role
from webapp.accounts.queries import list_users
from webapp.database import db
from webapp.errorpages import wants_json
from webapp.errors import (
    CodeConflict,
    Conflict,
    InvalidInput,
    KnownContent,
    PortalError,
    QuestionableCode,
)
from webapp.extensions import current_settings
from webapp.health import troubles
from webapp.intake.parcels import guessed_patients
from webapp.intake.received import answered, omission_count, page_of
from webapp.review.panel import begun_panel, panel_of
from webapp.studies.models import Priority, Study
from webapp.studies.patient_codes import checked_code
from webapp.uploads import takes, takes_files
from webapp.viewer import pictures, stack, volumes
from webapp.viewer.look import comparable_studies, look_at
from webapp.viewer.orientation import edges_of
from webapp.viewer.series import are_slices, find_series, shown_series
from webapp.worklist import queries
from webapp.worklist.export import export_history
from webapp.worklist.forms import (
    UploadForm,
    choices,
    file_paths,
    handling,
    history_filters,
    history_query,
    page_cursor,
    uploaded_files,
    worklist_filters,
)
from webapp.worklist.operations import (
    Known,
    Split,
    Submission,
    find_image,
    find_study,
    retry_study,
    submit_files,
)

blueprint = Blueprint("studies", __name__)


@blueprint.get("/")
def worklist() -> ResponseReturnValue:
    """What there is to read."""
    return render_template("worklist/worklist.html", **_worklist())


@blueprint.get("/worklist/rows")
def worklist_rows() -> ResponseReturnValue:
    """The part of the worklist that refreshes itself."""
    return render_template("worklist/_worklist_rows.html", **_worklist())


@blueprint.route("/studies/new", methods=["GET", "POST"])
@takes_files
def upload() -> ResponseReturnValue:
    """Take a study in; a script gets JSON, a browser without script a page."""
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
            raise  # becomes a problem document
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
    return redirect(url_for("studies.worklist") if several else page_of(submission.study.id))


@blueprint.post("/studies/new/check")
@takes(2**20)
def check_upload() -> ResponseReturnValue:
    """What there is to ask about an upload before its files are sent, for the page's script."""
    question = None
    try:
        checked_code(request.form.get("patient_code", ""), confirmed=False)
    except QuestionableCode as doubt:
        question = doubt.message
    except InvalidInput:
        pass  # the upload itself will say so
    patients = guessed_patients(file_paths(request.form.get("paths")))
    return jsonify(code_question=question, patients=patients)


@blueprint.get("/studies/<uuid:study_id>")
def show(study_id: uuid.UUID) -> ResponseReturnValue:
    """One study: images, result and the reader's assessment, with what was begun of it."""
    study = find_study(study_id)
    panel = begun_panel(study, reader=actor())
    wanted = _wanted_position()
    if wanted is None and panel is not None:
        wanted = panel.image.position
    context = _study(study, wanted)
    selected = context["selected"]
    if panel is None and selected:
        panel = panel_of(study, selected.position, reader=actor())
    others = comparable_studies(study)
    edges = edges_of(selected.series) if selected else None
    return render_template(
        "worklist/study.html",
        comparable=others,
        edges=edges,
        panel=panel,
        images=context["look"].images,
        **context,
    )


@blueprint.get("/studies/<uuid:study_id>/result")
def result(study_id: uuid.UUID) -> ResponseReturnValue:
    """The part of the study's page that refreshes itself until the study is final."""
    return render_template(
        "worklist/_result.html", **_study(find_study(study_id), _wanted_position())
    )


@blueprint.get("/studies/<uuid:study_id>/stack")
def slices(study_id: uuid.UUID) -> ResponseReturnValue:
    """All slices of a study, for the script of the viewer."""
    return jsonify(stack.read_stack(find_study(study_id)))


@blueprint.get("/studies/<uuid:study_id>/images")
def images(study_id: uuid.UUID) -> ResponseReturnValue:
    """The answers about all images of a study: a part of its page, or a page without script."""
    study = find_study(study_id)
    part = bool(request.headers.get("HX-Request"))
    template = "worklist/_images.html" if part else "worklist/images.html"
    return render_template(
        template,
        study=study,
        images=queries.images_of(study),
        are_slices=are_slices(shown_series(study)),
    )


@blueprint.post("/studies/<uuid:study_id>/retry")
def retry(study_id: uuid.UUID) -> ResponseReturnValue:
    """Analyse a failed study again."""
    try:
        retry_study(actor=actor(), study_id=study_id)
    except Conflict as error:  # a second click: the study's page says what became of it
        flash(error.message, "warning")
    return redirect(url_for("studies.show", study_id=study_id))


@blueprint.get("/images/<uuid:image_id>/pixels")
def pixels(image_id: uuid.UUID) -> ResponseReturnValue:
    """A slice."""
    return pictures.slice_for_display(find_image(image_id))


@blueprint.get("/images/<uuid:image_id>/values")
def values(image_id: uuid.UUID) -> ResponseReturnValue:
    """The grey values of a slice, to be windowed in the browser."""
    return volumes.slice_values(find_image(image_id))


@blueprint.get("/images/<uuid:image_id>/heatmap")
def heatmap(image_id: uuid.UUID) -> ResponseReturnValue:
    """Where the model suspects something, to lay over the slice."""
    return pictures.heatmap(find_image(image_id))


@blueprint.get("/series/<uuid:series_id>/volume.nii")
def volume(series_id: uuid.UUID) -> ResponseReturnValue:
    """A series as a volume."""
    return volumes.volume(find_series(series_id))


@blueprint.get("/series/<uuid:series_id>/heatmap.nii.gz")
def heatmap_volume(series_id: uuid.UUID) -> ResponseReturnValue:
    """The heatmaps of a series, to lay over its volume."""
    return volumes.heatmap_volume(find_series(series_id))


@blueprint.get("/history")
def history() -> ResponseReturnValue:
    """All studies, to search."""
    filters = history_filters(request.args)
    return render_template(
        "worklist/history.html",
        page=queries.history(filters, reader=actor(), after=page_cursor(request.args)),
        filters=filters,
        uploaders=list_users(),
        export_url=_history_csv_url(filters),
    )


@blueprint.get("/history.csv")
def history_csv() -> ResponseReturnValue:
    """All studies that match, as a file for a spreadsheet."""
    lines = export_history(actor=actor(), filters=history_filters(request.args))
    return Response(
        stream_with_context(lines),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="history.csv"'},
    )


@blueprint.get("/admin/jobs")
@requires(Role.ADMIN)
def jobs() -> ResponseReturnValue:
    """What the workers do and did."""
    page = queries.jobs_page()
    return render_template(
        "worklist/jobs.html",
        analyses=page.analyses,
        counts=page.counts,
        oldest_waiting_seconds=page.oldest_waiting_seconds,
        troubles=troubles(),
    )


def _worklist() -> dict[str, Any]:
    filters = worklist_filters(request.args)
    return {
        "page": queries.worklist(filters, reader=actor(), after=page_cursor(request.args)),
        "filters": filters,
        "counts": queries.worklist_counts(filters, reader=actor()),
    }


def _history_csv_url(filters: queries.HistoryFilters) -> str:
    kept: dict[str, Any] = dict(history_query(filters))
    return url_for("studies.history_csv", **kept)


def _wanted_position() -> int | None:
    return request.args.get("image", type=int)


def _study(study: Study, position: int | None) -> dict[str, Any]:
    look = look_at(study, position=position)
    return {
        "study": study,
        "look": look,
        "selected": look.selected,
        "analysis": look.analysis,
        "prediction": look.prediction,
        "model": look.model,
    }


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
    """Say where the studies are that an error names."""
    known = error.extra.get("known")
    for one in known if isinstance(known, list) else [error.extra]:
        one["page"] = url_for("studies.show", study_id=one["study_id"])


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
