"""What the signatures of a plan and of a decision about it cover."""

from datetime import datetime
from typing import Any

from webapp.plans.models import PlanDecision, PlanVersion


def facts_of_plan(plan: PlanVersion, *, at: datetime) -> dict[str, Any]:
    """The whole row.

    Args:
        at: when it was made.
    """
    return {
        "organisation": str(plan.organisation_id),
        "number": plan.number,
        "text": plan.text,
        "sha256": plan.sha256,
        "proposed_by": str(plan.proposed_by_id),
        "reason": plan.reason,
        "at": at.isoformat(),
    }


def facts_of_decision(decision: PlanDecision, *, at: datetime) -> dict[str, Any]:
    """The whole row, and the signature of the plan that it is about.

    Args:
        at: when it was made.
    """
    return {
        "organisation": str(decision.organisation_id),
        "number": decision.number,
        "plan": decision.plan.signature,
        "verdict": decision.verdict.value,
        "decided_by": str(decision.decided_by_id),
        "at": at.isoformat(),
        "previous": decision.previous_signature,
    }
