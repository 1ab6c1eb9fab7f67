"""Earlier studies that a new model sees otherwise: for clinicians to take notice of."""

import uuid
from collections.abc import Callable

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from webapp.accounts.access import actor, requires
from webapp.accounts.models import Role
from webapp.database import db
from webapp.errors import Conflict, InvalidInput, NotFound
from webapp.formerrors import done_or_refused
from webapp.rollout.forms import AcknowledgementForm
from webapp.rollout.models import LONGEST_NOTE, RecallStatus
from webapp.rollout.recall_queries import count_open, list_cases, list_recalls
from webapp.rollout.recalling import (
    acknowledge,
    analyse_again,
    change_recall,
    recall_everything,
)

blueprint = Blueprint("recall", __name__)
_STATUSES = {
    "pause": RecallStatus.PAUSED,
    "resume": RecallStatus.RUNNING,
    "stop": RecallStatus.STOPPED,
}


@blueprint.get("/recall")
def index() -> ResponseReturnValue:
    """The user's studies that a new model sees otherwise, the riskiest first."""
    user = actor()
    return render_template(
        "rollout/recall.html",
        cases=list_cases(user),
        total=count_open(user),
        acknowledged=list_cases(user, acknowledged=True),
        runs=list_recalls() if user.may(Role.STEWARD) else [],
        longest=LONGEST_NOTE,
    )


@blueprint.post("/recall/<uuid:case_id>/acknowledgement")
def acknowledge_case(case_id: uuid.UUID) -> ResponseReturnValue:
    """Take notice of what the new model says."""
    note = AcknowledgementForm().note.data or ""
    return _done(
        lambda: acknowledge(actor=actor(), case_id=case_id, note=note),
        _("The study has been acknowledged."),
        url_for("recall.index"),
    )


@blueprint.post("/recall/<uuid:case_id>/analysis")
def analyse(case_id: uuid.UUID) -> ResponseReturnValue:
    """Analyse the study with the model that serves now."""
    try:
        study = analyse_again(actor=actor(), case_id=case_id)
    except Conflict as error:
        db.session.rollback()
        flash(error.message, "error")
        return redirect(url_for("recall.index"))
    return redirect(url_for("worklist.show", study_id=study.id))


@blueprint.post("/recall/runs/<uuid:run_id>/<action>")
@requires(Role.STEWARD)
def change_run(run_id: uuid.UUID, action: str) -> ResponseReturnValue:
    """Pause a recall, let it go on (resume), stop it, or extend it to all studies."""

    def change() -> object:
        if action == "extend":
            return recall_everything(actor=actor(), run_id=run_id)
        if action not in _STATUSES:
            raise NotFound(_("There is no such page."))
        return change_recall(actor=actor(), run_id=run_id, status=_STATUSES[action])

    return _done(change, _("The recall has been changed."), url_for("recall.index"))


def _done(change: Callable[[], object], told: str, address: str) -> ResponseReturnValue:
    return done_or_refused(change, told, address, refusals=(Conflict, InvalidInput))
