"""Under which terms a snapshot is taken: what the plan of change says about data."""

from dataclasses import dataclass

from ml.dataset.snapshot import PlanStamp
from ml.release.change_plan import read_plan_of_change


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


def shipped_terms() -> Terms:
    """Those of the plan that ships with the product."""
    read = read_plan_of_change()
    data = read.plan.data
    return Terms(
        stamp=PlanStamp(read.plan.version, read.sha256),
        quorum=1 if data.single_reader else data.quorum,
        locked_groups=frozenset(read.plan.locked_groups),
    )
