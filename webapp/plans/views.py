"""The page of the plan of change."""

import uuid
from collections.abc import Callable

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from webapp.accounts.access import actor, requires
from webapp.accounts.models import Role
from webapp.bodies import limit_bodies
from webapp.database import db
from webapp.errors import Conflict, InvalidInput, NotAllowed
from webapp.formerrors import done_or_refused
from webapp.plans import operations
from webapp.plans.forms import PlanForm
from webapp.plans.page import next_text, plans_page

LARGEST_BODY = 64 * 2**10
"""Bytes of a plan as a form, a file or JSON."""

blueprint = Blueprint("plans", __name__, url_prefix="/learning/plan")

limit_bodies(blueprint, LARGEST_BODY)


@blueprint.get("")
@requires(Role.STEWARD)
def index() -> ResponseReturnValue:
    """The plan that holds, the proposed one, and all that came before."""
    return _page(PlanForm(formdata=None))


@blueprint.post("")
@requires(Role.STEWARD)
def propose() -> ResponseReturnValue:
    """Propose another plan."""
    form = PlanForm()
    given = form.given()
    if form.validate_on_submit():
        try:
            operations.propose_plan(actor=actor(), text=given, reason=form.reason.data or "")
        except (InvalidInput, Conflict) as error:
            db.session.rollback()
            form.show(error)
        else:
            flash(_("The plan has been proposed. Another steward has to confirm it."), "success")
            return redirect(url_for("plans.index"))
    form.text.data = given
    return _page(form)


@blueprint.post("/<uuid:plan_id>/confirmation")
@requires(Role.STEWARD)
def confirm(plan_id: uuid.UUID) -> ResponseReturnValue:
    """Let a proposed plan hold."""
    return _decided(
        lambda: operations.confirm_plan(actor=actor(), plan_id=plan_id),
        _("The plan holds from now on. Candidates have to pass its gates."),
    )


@blueprint.post("/<uuid:plan_id>/decline")
@requires(Role.STEWARD)
def decline(plan_id: uuid.UUID) -> ResponseReturnValue:
    """End a proposal."""
    return _decided(
        lambda: operations.decline_plan(actor=actor(), plan_id=plan_id),
        _("The plan has been declined."),
    )


def _decided(change: Callable[[], object], told: str) -> ResponseReturnValue:
    address = url_for("plans.index")
    return done_or_refused(change, told, address, refusals=(Conflict, NotAllowed))


def _page(form: PlanForm) -> ResponseReturnValue:
    page = plans_page()
    if form.text.data is None:
        form.text.data = next_text(page.held.text)
    status = 422 if form.errors or getattr(form, "form_errors", None) else 200
    return render_template("plans/plan.html", page=page, form=form), status
