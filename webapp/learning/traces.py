"""Where slices of withdrawn patients went: snapshots, retrainings, and models that served."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from webapp.learning.models import Retraining, Snapshot, Withdrawal
from webapp.learning.queries import holding, list_retrainings
from webapp.models_admin.models import Candidate
from webapp.models_admin.queries import candidates
from webapp.models_admin.serving import served_times

Times = Sequence[tuple[datetime, datetime | None]]


@dataclass(frozen=True)
class LearntModel:
    """A candidate that learnt from a patient, itself or through the model that it goes on from.

    Attributes:
        served: from when to when; None as an end: it serves.
    """

    candidate: Candidate
    served: Times


@dataclass(frozen=True)
class Trace:
    """What came of a patient's slices, each oldest first."""

    withdrawal: Withdrawal
    snapshots: Sequence[Snapshot]
    retrainings: Sequence[Retraining]
    models: Sequence[LearntModel]


def traces(withdrawals: Sequence[Withdrawal]) -> list[Trace]:
    """One for each withdrawal, in their order."""
    held = holding([one.patient_group for one in withdrawals])
    if not held:
        return [Trace(one, [], [], []) for one in withdrawals]
    retrainings, every, times = list_retrainings()[::-1], candidates()[::-1], served_times()
    return [
        _trace(one, held.get(one.patient_group, []), retrainings, every, times)
        for one in withdrawals
    ]


def _trace(
    withdrawal: Withdrawal,
    snapshots: Sequence[Snapshot],
    retrainings: Sequence[Retraining],
    every: Sequence[Candidate],
    times: Mapping[uuid.UUID, Times],
) -> Trace:
    ids = {one.id for one in snapshots}
    from_them = [one for one in retrainings if one.snapshot_id in ids]
    made = {one.candidate_id for one in from_them}
    learnt = _with_descendants(
        [one for one in every if one.id in made or _snapshot_named(one) in {str(n) for n in ids}],
        every,
    )
    models = [LearntModel(one, times.get(one.id, [])) for one in learnt]
    return Trace(withdrawal, snapshots, from_them, models)


def _with_descendants(first: Sequence[Candidate], every: Sequence[Candidate]) -> list[Candidate]:
    """The models, and those that were retrained from them, and so on."""
    known = {one.model_version.sha256 for one in first}
    more = known
    while more:
        more = {
            one.model_version.sha256
            for one in every
            if _parent(one) in more and one.model_version.sha256 not in known
        }
        known = known | more
    return [one for one in every if one.model_version.sha256 in known]


def _snapshot_named(candidate: Candidate) -> str | None:
    """The id of the snapshot that the card says it learnt from."""
    return _told(candidate, "snapshot", "id")


def _parent(candidate: Candidate) -> str | None:
    """The hash of the weights that the card says it was retrained from."""
    return _told(candidate, "retrained_from", "weights_sha256")


def _told(candidate: Candidate, table: str, name: str) -> str | None:
    said = candidate.model_version.card.get(table)
    value = said.get(name) if isinstance(said, dict) else None
    return value if isinstance(value, str) else None
