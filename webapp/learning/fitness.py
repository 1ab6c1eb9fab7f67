"""Whether a snapshot may be learnt from in one way or the other: what the plan of change says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flask_babel import gettext as _
from sqlalchemy import func, select

from ml.labels import LABELS
from ml.release.change_plan import ChangePlan
from webapp.database import db
from webapp.extensions import current_settings
from webapp.learning.models import RetrainingMode, Snapshot, SnapshotSlice
from webapp.plans.holding import holding
from webapp.wording import LABELS as LABEL_WORDS
from webapp.wording import word


@dataclass(frozen=True)
class Fitness:
    """What keeps a snapshot from being learnt from.

    Attributes:
        lacks: what the snapshot has too little of, a sentence each; empty where it will do.
        modes: each way of retraining, and why it cannot be chosen; None where it can.
    """

    lacks: Sequence[str]
    modes: Mapping[RetrainingMode, str | None]

    def reason_against(self, mode: RetrainingMode) -> str | None:
        """Why this snapshot cannot be learnt from in this way; None where it can."""
        return next(iter(self.lacks), None) or self.modes[mode]


def fitness_of(snapshot: Snapshot) -> Fitness:
    """By the plan that holds, and by what the installation has."""
    plan = holding().held.plan
    return Fitness(
        lacks=_lacks(snapshot, plan),
        modes={mode: _reason_against(mode, plan) for mode in RetrainingMode},
    )


def _reason_against(mode: RetrainingMode, plan: ChangePlan) -> str | None:
    if mode.value not in plan.modes:
        return str(_("The plan of change does not allow it."))
    if mode is RetrainingMode.FULL and current_settings().base_manifest is None:
        return str(
            _(
                "It needs the collection that the first model was made with; "
                "SULCUS_BASE_MANIFEST does not name one."
            )
        )
    return None


def _lacks(snapshot: Snapshot, plan: ChangePlan) -> list[str]:
    rules, counts = plan.data, snapshot.counts
    slices = counts["slices"] - counts["holdout_slices"]
    groups = counts["groups"] - counts["holdout_groups"]
    found = [
        (slices, rules.fewest_slices, _("Slices to learn from")),
        (groups, rules.fewest_groups, _("Patients to learn from")),
        (counts["holdout_groups"], rules.fewest_holdout_groups, _("Patients held out")),
    ]
    by_label = _groups_by_label(snapshot)
    found += [
        (
            by_label.get(label.value, 0),
            rules.fewest_groups_per_class,
            _("Patients to learn from, %(label)s", label=word(LABEL_WORDS, label.value)),
        )
        for label in LABELS
    ]
    return [
        _("%(what)s: %(found)d; the plan asks for %(n)d at least.", what=what, found=there, n=n)
        for there, n, what in found
        if there < n
    ]


def _groups_by_label(snapshot: Snapshot) -> dict[str, int]:
    """Patients of the training part with a slice of the label."""
    rows = db.session.execute(
        select(SnapshotSlice.label, func.count(SnapshotSlice.patient_group.distinct()))
        .where(SnapshotSlice.snapshot_id == snapshot.id, SnapshotSlice.part == "training")
        .group_by(SnapshotSlice.label)
    )
    return {str(row[0]): int(row[1]) for row in rows}
