"""Pages of data stewards."""

import uuid
from typing import IO

from flask import Blueprint, Response, flash, redirect, render_template, send_file, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_babel import ngettext

from webapp.accounts.access import actor, requires
from webapp.accounts.models import Role
from webapp.bodies import limit_bodies
from webapp.database import db
from webapp.errors import Conflict, InvalidInput, NotFound
from webapp.learning import queries
from webapp.learning.curves import curves_of
from webapp.learning.export import archive
from webapp.learning.fitness import fitness_of
from webapp.learning.forms import RetrainingForm, SnapshotForm, WithdrawalForm
from webapp.learning.models import SnapshotRequest
from webapp.learning.operations import record_download, withdraw_patient
from webapp.learning.readers import readers_page
from webapp.learning.retraining import cancel_retraining, request_retraining
from webapp.learning.snapshot_jobs import request_snapshot
from webapp.learning.traces import traces
from webapp.review.mass_corrections import flag_mass_corrections, lift_flag
from webapp.review.models import OTHER
from webapp.storage import MissingBlob
from webapp.wording import LABELS, OTHER_LABEL, word

READINGS = {
    "slices current": _l("Slices, current assessments"),
    "slices blind": _l("Slices, first assessments given blind"),
    "studies current": _l("Studies as a whole, current assessments"),
    "studies blind": _l("Studies as a whole, first assessments given blind"),
}
LARGEST_BODY = 64 * 2**10
"""Bytes of a name, a code or a choice as a form or as JSON."""

blueprint = Blueprint("learning", __name__, url_prefix="/learning")

limit_bodies(blueprint, LARGEST_BODY)


@blueprint.get("/snapshots")
@requires(Role.STEWARD)
def snapshots() -> ResponseReturnValue:
    """All snapshots, and a form for a new one."""
    return _snapshots(SnapshotForm(formdata=None))


@blueprint.post("/snapshots")
@requires(Role.STEWARD)
def create() -> ResponseReturnValue:
    """Ask for what readers have agreed about to be frozen."""
    form = SnapshotForm()
    try:
        row = request_snapshot(actor=actor(), name=form.name.data or "")
    except (InvalidInput, Conflict) as error:
        db.session.rollback()
        form.show(error)
        return _snapshots(form), error.status
    return redirect(url_for("learning.snapshot", snapshot_id=row.id))


@blueprint.get("/snapshots/list")
@requires(Role.STEWARD)
def snapshot_list() -> ResponseReturnValue:
    """The list of snapshots, which refreshes itself while one is being made."""
    return render_template(
        "learning/_snapshots.html",
        snapshots=queries.list_snapshots(),
        requests=queries.requests_shown(),
    )


@blueprint.get("/snapshots/<uuid:snapshot_id>")
@requires(Role.STEWARD)
def snapshot(snapshot_id: uuid.UUID) -> ResponseReturnValue:
    """One snapshot: what is in it, and what is not; or how far it is."""
    row = queries.find_snapshot_or_request(snapshot_id)
    if isinstance(row, SnapshotRequest):
        return render_template("learning/request.html", snapshot=row)
    return render_template(
        "learning/snapshot.html",
        snapshot=row,
        withdrawn=queries.withdrawn_groups_in(row),
        retrainings=queries.retrainings_of(row),
        fitness=fitness_of(row),
    )


@blueprint.get("/snapshots/<uuid:snapshot_id>/progress")
@requires(Role.STEWARD)
def snapshot_progress(snapshot_id: uuid.UUID) -> ResponseReturnValue:
    """How far a snapshot is; once it is made, the page is loaded anew."""
    row = queries.find_snapshot_or_request(snapshot_id)
    if isinstance(row, SnapshotRequest):
        return render_template("learning/_request.html", snapshot=row)
    return "", {"HX-Refresh": "true"}


@blueprint.get("/snapshots/<uuid:snapshot_id>/snapshot.zip")
@requires(Role.STEWARD)
def download(snapshot_id: uuid.UUID) -> Response:
    """The folder that models learn from, as a ZIP."""
    row = record_download(actor=actor(), snapshot_id=snapshot_id)
    try:
        return send_snapshot(archive(row))
    except MissingBlob as error:
        raise NotFound(_("Files of this snapshot are missing.")) from error


@blueprint.post("/snapshots/<uuid:snapshot_id>/retrainings")
@requires(Role.STEWARD)
def retrain(snapshot_id: uuid.UUID) -> ResponseReturnValue:
    """Make the serving model anew with a snapshot."""
    form = RetrainingForm()
    try:
        row = request_retraining(actor=actor(), snapshot_id=snapshot_id, mode=form.chosen())
    except (InvalidInput, Conflict) as error:
        db.session.rollback()
        flash(error.message, "error")
        return redirect(url_for("learning.snapshot", snapshot_id=snapshot_id))
    return redirect(url_for("learning.retraining", retraining_id=row.id))


@blueprint.get("/retrainings/<uuid:retraining_id>")
@requires(Role.STEWARD)
def retraining(retraining_id: uuid.UUID) -> ResponseReturnValue:
    """How far a retraining is, and what came of it."""
    return _retraining("learning/retraining.html", retraining_id)


@blueprint.get("/retrainings/<uuid:retraining_id>/state")
@requires(Role.STEWARD)
def retraining_state(retraining_id: uuid.UUID) -> ResponseReturnValue:
    """The part of that page that refreshes itself."""
    return _retraining("learning/_retraining.html", retraining_id)


@blueprint.post("/retrainings/<uuid:retraining_id>/cancel")
@requires(Role.STEWARD)
def cancel(retraining_id: uuid.UUID) -> ResponseReturnValue:
    """End a retraining."""
    try:
        cancel_retraining(actor=actor(), retraining_id=retraining_id)
    except Conflict as error:
        db.session.rollback()
        flash(error.message, "error")
    return redirect(url_for("learning.retraining", retraining_id=retraining_id))


@blueprint.get("/readers")
@requires(Role.STEWARD)
def readers() -> ResponseReturnValue:
    """How far readers agree, how often each is right, and who makes no quorum."""
    page = readers_page()
    return render_template(
        "learning/readers.html",
        page=page,
        overall=[
            (READINGS[f"{scope} {which}"], one) for (scope, which), one in page.overall.items()
        ],
        by_class=[
            (OTHER_LABEL if label == OTHER else word(LABELS, label), one)
            for label, one in page.by_class.items()
        ],
    )


@blueprint.post("/readers/flags")
@requires(Role.STEWARD)
def look_for_masses() -> ResponseReturnValue:
    """Flag readers who correct in masses; it is done before each snapshot as well."""
    number = len(flag_mass_corrections())
    flash(
        ngettext("%(num)d reader was flagged.", "%(num)d readers were flagged.", number), "success"
    )
    return redirect(url_for("learning.readers"))


@blueprint.post("/readers/flags/<uuid:flag_id>/lift")
@requires(Role.STEWARD)
def lift(flag_id: uuid.UUID) -> ResponseReturnValue:
    """Let a reader help to make a quorum again."""
    lift_flag(actor=actor(), flag_id=flag_id)
    flash(_("The flag has been lifted."), "success")
    return redirect(url_for("learning.readers"))


@blueprint.get("/withdrawals")
@requires(Role.ADMIN)
def withdrawals() -> ResponseReturnValue:
    """Patients who are left out of later snapshots, and which snapshots hold them."""
    return _withdrawals(WithdrawalForm(formdata=None))


@blueprint.post("/withdrawals")
@requires(Role.ADMIN)
def withdraw() -> ResponseReturnValue:
    """Leave a patient out from now on."""
    form = WithdrawalForm()
    try:
        withdraw_patient(actor=actor(), code=form.code.data or "")
    except NotFound as error:
        form.code.errors = [error.message]
        return _withdrawals(form), 422
    flash(_("Later snapshots will contain nothing from this patient."), "success")
    return redirect(url_for("learning.withdrawals"))


def send_snapshot(file: IO[bytes]) -> Response:
    """The ZIP as an answer that closes it in the end; no cache keeps the patients' images."""
    answer = send_file(
        file, mimetype="application/zip", as_attachment=True, download_name="snapshot.zip"
    )
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _retraining(template: str, retraining_id: uuid.UUID) -> str:
    row = queries.find_retraining(retraining_id)
    return render_template(template, retraining=row, curves=curves_of(row.figures))


def _snapshots(form: SnapshotForm) -> str:
    return render_template(
        "learning/snapshots.html",
        snapshots=queries.list_snapshots(),
        requests=queries.requests_shown(),
        form=form,
    )


def _withdrawals(form: WithdrawalForm) -> str:
    rows = traces(queries.list_withdrawals())
    return render_template("learning/withdrawals.html", traces=rows, form=form)
