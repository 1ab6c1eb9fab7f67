"""Pages about models: for everybody which one serves, for stewards how another comes to serve."""

import uuid
from collections.abc import Callable

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from webapp.accounts.access import actor, requires
from webapp.accounts.models import Role
from webapp.bodies import limit_bodies
from webapp.database import db
from webapp.errors import Conflict, InvalidInput, NotAllowed, PortalError
from webapp.formerrors import done_or_refused
from webapp.models_admin import operations, queries
from webapp.models_admin.forms import ProposalForm, ReasonForm
from webapp.models_admin.models import Candidate
from webapp.models_admin.serving import overview

LARGEST_BODY = 64 * 2**10
"""Bytes of a reason as a form or as JSON."""

blueprint = Blueprint("models", __name__)

limit_bodies(blueprint, LARGEST_BODY)


@blueprint.get("/models")
def index() -> ResponseReturnValue:
    """Which model serves, which did before, and the candidates."""
    return _index_page(ReasonForm(formdata=None))


@blueprint.get("/models/<uuid:candidate_id>")
@requires(Role.STEWARD)
def show(candidate_id: uuid.UUID) -> ResponseReturnValue:
    """One candidate with what its gates say."""
    return _candidate_page(queries.find_candidate(candidate_id), ProposalForm(formdata=None))


@blueprint.post("/models/<uuid:candidate_id>/gates")
@requires(Role.STEWARD)
def run_gates(candidate_id: uuid.UUID) -> ResponseReturnValue:
    """Run the gates again."""
    return _done(
        lambda: operations.run_gates(actor=actor(), candidate_id=candidate_id),
        _("The gates are running. This takes a few minutes."),
        url_for("models.show", candidate_id=candidate_id),
    )


@blueprint.post("/models/<uuid:candidate_id>/proposal")
@requires(Role.STEWARD)
def propose(candidate_id: uuid.UUID) -> ResponseReturnValue:
    """Propose that a candidate serves, or that it is tried."""
    form = ProposalForm()
    if form.validate_on_submit():
        try:
            operations.propose_model(
                actor=actor(),
                candidate_id=candidate_id,
                reason=form.reason.data or "",
                share=form.share.data,
            )
        except (InvalidInput, Conflict) as error:
            db.session.rollback()
            form.show(error)
        else:
            flash(
                _("The model has been proposed. Another data steward has to confirm it."), "success"
            )
            return redirect(url_for("models.show", candidate_id=candidate_id))
    return _candidate_page(queries.find_candidate(candidate_id), form)


@blueprint.post("/models/<uuid:candidate_id>/confirmation")
@requires(Role.STEWARD)
def confirm(candidate_id: uuid.UUID) -> ResponseReturnValue:
    """Let a proposed candidate serve."""
    return _done(
        lambda: operations.confirm_model(actor=actor(), candidate_id=candidate_id),
        _("The proposal has been confirmed; it counts from the next study on."),
        url_for("models.show", candidate_id=candidate_id),
    )


@blueprint.post("/models/<uuid:candidate_id>/decline")
@requires(Role.STEWARD)
def decline(candidate_id: uuid.UUID) -> ResponseReturnValue:
    """End a proposal."""
    return _done(
        lambda: operations.decline_model(actor=actor(), candidate_id=candidate_id),
        _("The proposal has been declined."),
        url_for("models.show", candidate_id=candidate_id),
    )


@blueprint.post("/models/rollback")
@requires(Role.STEWARD)
def roll_back() -> ResponseReturnValue:
    """Let the model before serve again."""
    return _with_reason(
        lambda reason: operations.roll_back(actor=actor(), reason=reason),
        _("The previous model serves again."),
    )


@blueprint.post("/models/off")
@requires(Role.STEWARD)
def switch_off() -> ResponseReturnValue:
    """Let no model answer."""
    return _with_reason(
        lambda reason: operations.switch_off(actor=actor(), reason=reason),
        _("The model is switched off. Studies are kept and shown, without a result."),
    )


@blueprint.post("/models/on")
@requires(Role.STEWARD)
def switch_on() -> ResponseReturnValue:
    """Let the model answer again."""
    return _done(
        lambda: operations.switch_on(actor=actor()),
        _("The model answers again."),
        url_for("models.index"),
    )


def _done(change: Callable[[], object], told: str, address: str) -> ResponseReturnValue:
    return done_or_refused(change, told, address, refusals=(Conflict, NotAllowed))


def _with_reason(change: Callable[[str], object], told: str) -> ResponseReturnValue:
    form = ReasonForm()
    if form.validate_on_submit():
        try:
            change(form.reason.data or "")
        except PortalError as error:
            db.session.rollback()
            form.show(error)
        else:
            flash(told, "success")
            return redirect(url_for("models.index"))
    return _index_page(form)


def _index_page(form: ReasonForm) -> ResponseReturnValue:
    is_steward = actor().may(Role.STEWARD)
    page = render_template(
        "models_admin/models.html",
        overview=overview(),
        candidates=queries.candidates() if is_steward else [],
        refusals=queries.refusals() if is_steward else [],
        form=form,
        is_steward=is_steward,
    )
    return page, 422 if form.errors else 200


def _candidate_page(candidate: Candidate, form: ProposalForm) -> ResponseReturnValue:
    page = render_template("models_admin/candidate.html", candidate=candidate, form=form)
    return page, 422 if form.errors else 200
