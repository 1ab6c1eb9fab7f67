"""Which plan of change holds in an organisation, by its signed decisions."""

import logging
from dataclasses import dataclass

from ml.errors import InvalidConfiguration
from ml.release.change_plan import SHIPPED, ChangePlan, parse_plan_of_change
from webapp import audit
from webapp.plans.models import PlanDecision, PlanVerdict, PlanVersion
from webapp.plans.queries import decisions
from webapp.plans.signatures import facts_of_decision, facts_of_plan
from webapp.signing import is_signed

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldPlan:
    """A plan that was read and checked.

    Attributes:
        text: TOML; its UTF-8 bytes have the hash ``sha256``.
        row: None for the plan that ships with the product.
    """

    plan: ChangePlan
    text: str
    sha256: str
    row: PlanVersion | None = None


@dataclass(frozen=True)
class Fault:
    """A confirmed plan that is not followed, and why."""

    decision: PlanDecision
    reason: str


@dataclass(frozen=True)
class Holding:
    """What the decisions come to.

    Attributes:
        faults: confirmed plans newer than ``held`` that are passed over, newest first.
    """

    held: HeldPlan
    faults: tuple[Fault, ...]


def holding() -> Holding:
    """The last confirmed plan whose signatures hold; without one, that of the product."""
    faults: list[Fault] = []
    for decision in decisions():
        if decision.verdict is not PlanVerdict.CONFIRMED:
            continue
        try:
            return Holding(_followed(decision), tuple(faults))
        except _Unfit as fault:
            faults.append(Fault(decision, str(fault)))
    return Holding(shipped_plan(), tuple(faults))


def plan_that_holds() -> HeldPlan:
    """As :func:`holding`; what is passed over is noted once in the audit trail, and committed."""
    found = holding()
    for fault in found.faults:
        _refuse(fault)
    return found.held


def shipped_plan() -> HeldPlan:
    """The plan that ships with the product, version 1."""
    text = SHIPPED.read_text(encoding="utf-8")
    return _read(text, SHIPPED.name)


class _Unfit(Exception):
    """Why a plan may not be followed."""


def _followed(decision: PlanDecision) -> HeldPlan:
    plan = decision.plan
    if not is_signed(facts_of_decision(decision, at=decision.created_at), decision.signature):
        raise _Unfit("the decision's signature is wrong")
    if not is_signed(facts_of_plan(plan, at=plan.created_at), plan.signature):
        raise _Unfit("the plan's signature is wrong")
    if decision.decided_by_id == plan.proposed_by_id:
        raise _Unfit("one person alone proposed and confirmed it")
    try:
        found = _read(plan.text, f"plan {plan.number}", plan)
    except InvalidConfiguration as error:
        raise _Unfit(str(error)) from error
    if found.sha256 != plan.sha256:
        raise _Unfit("the plan's text has another hash")
    return found


def _read(text: str, where: str, row: PlanVersion | None = None) -> HeldPlan:
    read = parse_plan_of_change(text, where=where)
    return HeldPlan(read.plan, text, read.sha256, row)


def _refuse(fault: Fault) -> None:
    row = fault.decision
    _log.error("plan decision %s (number %d) is refused: %s", row.id, row.number, fault.reason)
    audit.note_fault("refuse_plan", subject=row, fault=fault.reason)
