"""Views for the worklist, one study, the history and jobs."""

import uuid
from typing import Any

from flask import (
    Blueprint,
    Response,
    flash,
    redirect,
    render_template,
    request,
    stream_with_context,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from webapp.accounts.access import actor, requires
from webapp.accounts.models import Role
from webapp.accounts.queries import list_users
from webapp.errors import Conflict, NotAllowed
from webapp.health import findings
from webapp.inference.operations import retry_study
from webapp.reading.room import Room, enter
from webapp.review.panel import begun_panel, blind_panel, panel_of
from webapp.studies.models import Status, Study
from webapp.studies.queries import find_study, images_of
from webapp.studies.sight import blind_slice, note_answer_shown
from webapp.viewer.look import comparable_studies, look_at
from webapp.viewer.orientation import edges_of
from webapp.viewer.series import are_slices, shown_series
from webapp.worklist import queries
from webapp.worklist.export import export_history
from webapp.worklist.forms import history_filters, history_query, page_cursor, worklist_filters

blueprint = Blueprint("worklist", __name__)


@blueprint.get("/")
def index() -> ResponseReturnValue:
    """The worklist."""
    return render_template("worklist/worklist.html", **_worklist())


@blueprint.get("/worklist/rows")
def rows() -> ResponseReturnValue:
    """The rows of the worklist, which refresh themselves."""
    return render_template("worklist/_worklist_rows.html", **_worklist())


@blueprint.get("/studies/<uuid:study_id>")
def show(study_id: uuid.UUID) -> ResponseReturnValue:
    """One study: images, result, and the reader's assessment with its draft.

    In the reading room (``?reading=``) the assessment is of the slice that the queue asks for.
    """
    study = find_study(study_id)
    room = _room(study)
    if room is not None and room.is_blind:
        return _blind(study, room)
    note_answer_shown(actor().id, study)
    panel = begun_panel(study, reader=actor()) if room is None else None
    asked = panel.image if panel is not None else (room.image if room is not None else None)
    wanted = _wanted_position()
    if wanted is None and asked is not None:
        wanted = asked.position
    context = _study(study, wanted)
    selected = context["selected"]
    if panel is None and selected:
        at = room.image if room is not None else selected
        panel = panel_of(study, at.position, reader=actor())
    if panel is not None:
        panel.form.reading.data = str(room.image.id) if room is not None else ""
    return render_template(
        "worklist/study.html",
        comparable=comparable_studies(study),
        edges=edges_of(selected.series) if selected else None,
        panel=panel,
        images=context["look"].images,
        room=room,
        **context,
    )


@blueprint.get("/studies/<uuid:study_id>/result")
def result(study_id: uuid.UUID) -> ResponseReturnValue:
    """The result part of the study's page, which refreshes itself until the status is final."""
    study = _with_answers(study_id)
    return render_template("worklist/_result.html", **_study(study, _wanted_position()))


@blueprint.get("/studies/<uuid:study_id>/images")
def images(study_id: uuid.UUID) -> ResponseReturnValue:
    """The predictions for all images: part of the study's page, or a page without JavaScript."""
    study = _with_answers(study_id)
    part = bool(request.headers.get("HX-Request"))
    template = "worklist/_images.html" if part else "worklist/images.html"
    return render_template(
        template,
        study=study,
        images=images_of(study),
        are_slices=are_slices(shown_series(study)),
    )


@blueprint.post("/studies/<uuid:study_id>/retry")
def retry(study_id: uuid.UUID) -> ResponseReturnValue:
    """Analyse a failed study again."""
    try:
        retry_study(actor=actor(), study_id=study_id)
    except Conflict as error:  # a second click: the study's page shows the status
        flash(error.message, "warning")
    return redirect(url_for("worklist.show", study_id=study_id))


@blueprint.get("/history")
def history() -> ResponseReturnValue:
    """Search all studies."""
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
    """All matching studies as CSV."""
    lines = export_history(actor=actor(), filters=history_filters(request.args))
    return Response(
        stream_with_context(lines),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="history.csv"'},
    )


@blueprint.get("/admin/jobs")
@requires(Role.ADMIN)
def jobs() -> ResponseReturnValue:
    """Current and past jobs of the workers."""
    page = queries.jobs_page()
    return render_template(
        "worklist/jobs.html",
        analyses=page.analyses,
        counts=page.counts,
        oldest_waiting_seconds=page.oldest_waiting_seconds,
        findings=findings(),
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
    return url_for("worklist.history_csv", **kept)


def _room(study: Study) -> Room | None:
    """Where the reader is in the reading room; None outside of it."""
    image_id = request.args.get("reading", type=uuid.UUID)
    if image_id is None or study.status is not Status.DONE:
        return None
    return enter(actor(), study, image_id, came_from=request.args.get("from", type=uuid.UUID))


def _blind(study: Study, room: Room) -> ResponseReturnValue:
    """The study before the model's answer is shown: images, and a form for a diagnosis."""
    wanted = _wanted_position()
    look = look_at(study, position=room.image.position if wanted is None else wanted)
    selected = look.selected or room.image
    return render_template(
        "reading/blind.html",
        study=study,
        look=look,
        selected=selected,
        edges=edges_of(selected.series),
        panel=blind_panel(study, room.image.id, reader=actor()),
        images=look.images,
        comparable=[],
        room=room,
    )


def _with_answers(study_id: uuid.UUID) -> Study:
    """The study, for a page that shows the model's answers.

    Raises:
        NotAllowed: the reader reads one of its slices before they are shown.
    """
    study = find_study(study_id)
    if blind_slice(actor().id, study.id) is not None:
        raise NotAllowed(_("You read this study before the model’s answer is shown."))
    note_answer_shown(actor().id, study)
    return study


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
