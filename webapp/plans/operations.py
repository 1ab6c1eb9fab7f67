"""What data stewards do with plans of change: propose, and decide about another one's proposal."""

import uuid

from flask_babel import gettext as _
from sqlalchemy import func, select

from ml.errors import InvalidConfiguration
from ml.release.change_plan import ReadPlan, parse_plan_of_change
from webapp import audit
from webapp.accounts.access import demand_role
from webapp.accounts.checks import checked_reason, storable
from webapp.accounts.models import Role, User
from webapp.database import db, now, one_at_a_time
from webapp.errors import Conflict, InvalidInput, NotAllowed
from webapp.plans.models import (
    LONGEST_REASON,
    LONGEST_TEXT,
    PlanDecision,
    PlanVerdict,
    PlanVersion,
)
from webapp.plans.queries import find_plan
from webapp.plans.signatures import facts_of_decision, facts_of_plan
from webapp.signing import sign

_SHIPPED_NUMBER = 1


def lock_of(organisation_id: uuid.UUID) -> str:
    """The name under which whoever relies on the plan keeps it from changing meanwhile."""
    return f"plans {organisation_id}"


def propose_plan(*, actor: User, text: str, reason: str) -> PlanVersion:
    """Propose a plan of change; another person has to confirm it.

    Raises:
        NotAllowed: the actor is no data steward.
        InvalidInput: the text is no plan, its version is not the next one, or the reason is
            missing; the message names the line or the value.
        Conflict: a proposal is open.
    """
    demand_role(actor, Role.STEWARD)
    why, plain = checked_reason(reason, longest=LONGEST_REASON), _checked_text(text)
    read = _checked_plan(plain)
    one_at_a_time([lock_of(actor.organisation_id)])
    if open_proposal() is not None:
        raise Conflict(_("Another plan is waiting for a decision. Decide on it first."))
    number = next_number()
    if read.plan.version != number:
        message = _("Write version = %(n)d: it is the next one.", n=number)
        raise InvalidInput.of_field("text", message)
    row = PlanVersion(
        organisation_id=actor.organisation_id,
        number=number,
        text=plain,
        sha256=read.sha256,
        proposed_by_id=actor.id,
        reason=why,
        created_at=now(),
    )
    row.signature = sign(facts_of_plan(row, at=row.created_at))
    db.session.add(row)
    audit.record(
        "propose_plan", subject=row, actor_id=actor.id, number=number, sha256=row.sha256[:12]
    )
    db.session.commit()
    return row


def confirm_plan(*, actor: User, plan_id: uuid.UUID) -> PlanDecision:
    """Confirm another person's plan: it holds from now on, and every gate report of before is old.

    Raises:
        NotAllowed: the actor is no data steward, or is who proposed it.
        NotFound: there is no such plan.
        Conflict: it has been decided on.
    """
    plan = _undecided(actor, plan_id)
    if plan.proposed_by_id == actor.id:
        raise NotAllowed(_("Somebody other than its proposer has to confirm the plan."))
    return _decide(plan, actor, PlanVerdict.CONFIRMED, "confirm_plan")


def decline_plan(*, actor: User, plan_id: uuid.UUID) -> PlanDecision:
    """End a proposal: the plan does not come to hold; its proposer may do this, too.

    Raises:
        NotAllowed: the actor is no data steward.
        NotFound: there is no such plan.
        Conflict: it has been decided on.
    """
    return _decide(_undecided(actor, plan_id), actor, PlanVerdict.DECLINED, "decline_plan")


def open_proposal() -> PlanVersion | None:
    """The plan that waits for a second person in the organisation acted for."""
    decided = select(PlanDecision.plan_id)
    return db.session.scalar(select(PlanVersion).where(PlanVersion.id.not_in(decided)).limit(1))


def next_number() -> int:
    """The version that the next proposed plan has to have."""
    return (db.session.scalar(select(func.max(PlanVersion.number))) or _SHIPPED_NUMBER) + 1


def _undecided(actor: User, plan_id: uuid.UUID) -> PlanVersion:
    demand_role(actor, Role.STEWARD)
    one_at_a_time([lock_of(actor.organisation_id)])
    plan = find_plan(plan_id)
    if plan.decision is not None:
        raise Conflict(_("This plan has been decided on already."))
    return plan


def _decide(plan: PlanVersion, actor: User, verdict: PlanVerdict, action: str) -> PlanDecision:
    last = db.session.scalar(select(PlanDecision).order_by(PlanDecision.number.desc()).limit(1))
    row = PlanDecision(
        organisation_id=actor.organisation_id,
        number=last.number + 1 if last else 1,
        plan=plan,
        verdict=verdict,
        decided_by_id=actor.id,
        previous_signature=last.signature if last else "",
        created_at=now(),
    )
    row.signature = sign(facts_of_decision(row, at=row.created_at))
    db.session.add(row)
    audit.record(
        action, subject=row, actor_id=actor.id, number=plan.number, sha256=plan.sha256[:12]
    )
    db.session.commit()
    return row


def _checked_plan(text: str) -> ReadPlan:
    try:
        return parse_plan_of_change(text, where=_("The plan"))
    except InvalidConfiguration as error:
        raise InvalidInput.of_field("text", str(error)) from error


def _checked_text(text: str) -> str:
    """With the line ends that the hash is made of."""
    plain = storable(text).strip("\n") + "\n"
    if not plain.strip():
        raise InvalidInput.of_field("text", _("Please give the plan."))
    if len(plain) > LONGEST_TEXT:
        message = _("This may have at most %(n)d characters.", n=LONGEST_TEXT)
        raise InvalidInput.of_field("text", message)
    return plain
