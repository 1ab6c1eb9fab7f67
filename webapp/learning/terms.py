"""Under which terms a snapshot is taken, where no plan of change says otherwise."""

import hashlib
import json
from dataclasses import dataclass

from ml.dataset.snapshot import PlanStamp
from webapp.review.consensus import QUORUM


@dataclass(frozen=True)
class Terms:
    """What a plan says about snapshots.

    Attributes:
        version: of the plan.
        quorum: independent readers who have to agree on a label.
        locked_groups: patients who are held out whatever their fold, as snapshots call them.
    """

    version: int = 1
    quorum: int = QUORUM
    locked_groups: frozenset[str] = frozenset()

    @property
    def stamp(self) -> PlanStamp:
        """What a snapshot keeps of them: two snapshots of one stamp were taken the same way."""
        said = {
            "version": self.version,
            "quorum": self.quorum,
            "locked_groups": sorted(self.locked_groups),
        }
        return PlanStamp(
            self.version, hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
        )
