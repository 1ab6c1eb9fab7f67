"""Under which terms a snapshot is taken: what the plan of change says about data."""

from dataclasses import dataclass

from ml.dataset.snapshot import PlanStamp
from webapp.plans.holding import HeldPlan, plan_that_holds, shipped_plan


@dataclass(frozen=True)
class Terms:
    """What a plan says about snapshots.

    Attributes:
        quorum: independent readers who have to agree on a label.
        locked_groups: patients who are held out whatever their fold, as snapshots call them.
    """

    stamp: PlanStamp
    quorum: int
    locked_groups: frozenset[str] = frozenset()


def terms_that_hold() -> Terms:
    """Those of the plan that holds in the organisation acted for."""
    return _terms_of(plan_that_holds())


def shipped_terms() -> Terms:
    """Those of the plan that ships with the product."""
    return _terms_of(shipped_plan())


def _terms_of(held: HeldPlan) -> Terms:
    data = held.plan.data
    return Terms(
        stamp=PlanStamp(held.plan.version, held.sha256),
        quorum=1 if data.single_reader else data.quorum,
        locked_groups=frozenset(held.plan.locked_groups),
    )
