"""The operator's page: queues, workers, rates, failures, storage and health."""

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import ngettext

from webapp.accounts.access import actor, requires
from webapp.accounts.models import Role
from webapp.database import db
from webapp.errors import Conflict
from webapp.operating.operations import failed_studies, retry_failed_studies
from webapp.operating.state import State
from webapp.operating.words import QUEUES, TASKS, age

blueprint = Blueprint("operating", __name__)

_FAILED_SHOWN = 50


@blueprint.get("/admin/operator")
@requires(Role.ADMIN)
def index() -> ResponseReturnValue:
    """What the installation does, of all organisations; failures of the administrator's own."""
    return render_template(
        "operating/operator.html",
        state=State(),
        failed=failed_studies(_FAILED_SHOWN),
        queue_words=QUEUES,
        task_words=TASKS,
        age=age,
    )


@blueprint.post("/admin/operator/retries")
@requires(Role.ADMIN)
def retry_all() -> ResponseReturnValue:
    """Queue every failed study of the organisation again."""
    try:
        count = retry_failed_studies(actor=actor())
    except Conflict as refusal:
        db.session.rollback()
        flash(refusal.message, "error")
    else:
        flash(
            ngettext(
                "%(num)d study is analysed again.", "%(num)d studies are analysed again.", count
            ),
            "success",
        )
    return redirect(url_for("operating.index"))
