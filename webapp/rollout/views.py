"""Pages of stewards about a candidate beside the serving model."""

import uuid

from flask import Blueprint, Response, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from ml.labels import LABELS
from webapp.accounts.access import actor, requires
from webapp.accounts.models import Role
from webapp.database import db
from webapp.errors import Conflict, InvalidInput
from webapp.formerrors import done_or_refused
from webapp.models_admin.models import Candidate
from webapp.models_admin.queries import find_candidate
from webapp.reporting.operations import ReportFile
from webapp.reporting.views import send_report
from webapp.rollout.comparison import changed_studies, compare
from webapp.rollout.evidence import as_bytes, export_evidence
from webapp.rollout.evidence_pdf import evidence_pdf
from webapp.rollout.forms import ShadowForm
from webapp.rollout.models import ShadowStatus
from webapp.rollout.queries import shadow_runs
from webapp.rollout.shadowing import MOST_STUDIES, start_shadow, stop_shadow
from webapp.rollout.trials import figures, trials_of

blueprint = Blueprint("rollout", __name__)
_USUAL = {"share": 100, "most": 200}


@blueprint.get("/models/<uuid:candidate_id>/shadow")
@requires(Role.STEWARD)
def shadow(candidate_id: uuid.UUID) -> ResponseReturnValue:
    """What a candidate said of new studies, beside the serving model."""
    return _shadow_page(find_candidate(candidate_id), ShadowForm(formdata=None, data=_USUAL))


@blueprint.post("/models/<uuid:candidate_id>/shadow")
@requires(Role.STEWARD)
def start(candidate_id: uuid.UUID) -> ResponseReturnValue:
    """Let a candidate answer new studies as well, unseen."""
    candidate, form = find_candidate(candidate_id), ShadowForm()
    if form.validate_on_submit():
        try:
            start_shadow(
                actor=actor(),
                candidate_id=candidate_id,
                share=form.share.data or 0,
                most=form.most.data or 0,
            )
        except (Conflict, InvalidInput) as error:
            db.session.rollback()
            form.show(error)
        else:
            flash(_("The shadow has started."), "success")
            return redirect(url_for("rollout.shadow", candidate_id=candidate_id))
    return _shadow_page(candidate, form)


@blueprint.post("/models/<uuid:candidate_id>/shadow/stop")
@requires(Role.STEWARD)
def stop(candidate_id: uuid.UUID) -> ResponseReturnValue:
    """Give a candidate no further studies."""
    return done_or_refused(
        lambda: stop_shadow(actor=actor(), candidate_id=candidate_id),
        _("The shadow has been stopped."),
        url_for("rollout.shadow", candidate_id=candidate_id),
    )


@blueprint.get("/models/<uuid:candidate_id>/trial")
@requires(Role.STEWARD)
def trial(candidate_id: uuid.UUID) -> ResponseReturnValue:
    """What came of a candidate's trials."""
    candidate = find_candidate(candidate_id)
    return render_template(
        "rollout/trial.html",
        candidate=candidate,
        trials=[(one, figures(one)) for one in trials_of(candidate)],
    )


@blueprint.get("/models/<uuid:candidate_id>/evidence.json")
@requires(Role.STEWARD)
def evidence_as_json(candidate_id: uuid.UUID) -> Response:
    """Everything about a candidate, signed by this installation."""
    found = export_evidence(actor=actor(), candidate_id=candidate_id, kind="json")
    return _file(as_bytes(found), "application/json", f"evidence-{candidate_id}.json")


@blueprint.get("/models/<uuid:candidate_id>/evidence.pdf")
@requires(Role.STEWARD)
def evidence_as_pdf(candidate_id: uuid.UUID) -> Response:
    """Everything about a candidate, for people."""
    found = export_evidence(actor=actor(), candidate_id=candidate_id, kind="pdf")
    return _file(evidence_pdf(found), "application/pdf", f"evidence-{candidate_id}.pdf")


def _file(content: bytes, media_type: str, name: str) -> Response:
    return send_report(ReportFile(content=content, media_type=media_type, name=name))


def _shadow_page(candidate: Candidate, form: ShadowForm) -> ResponseReturnValue:
    runs = shadow_runs(candidate)
    page = render_template(
        "rollout/shadow.html",
        candidate=candidate,
        runs=runs,
        is_running=any(one.status is ShadowStatus.RUNNING for one in runs),
        found=compare(candidate),
        changed=changed_studies(candidate),
        labels=[one.value for one in LABELS],
        most=MOST_STUDIES,
        form=form,
    )
    return page, 422 if form.errors else 200
