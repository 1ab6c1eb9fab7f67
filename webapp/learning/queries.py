"""What pages, API and command line read about snapshots. Nothing here changes anything."""

import uuid
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

from flask_babel import gettext as _
from sqlalchemy import select
from sqlalchemy.orm import joinedload, lazyload

from webapp.accounts.models import User
from webapp.database import db, now
from webapp.errors import NotFound
from webapp.learning.models import (
    Retraining,
    Snapshot,
    SnapshotRequest,
    SnapshotSlice,
    SnapshotStatus,
    Withdrawal,
)

_UNDER_WAY = (SnapshotStatus.QUEUED, SnapshotStatus.MAKING)
_FAILURES_SHOWN = timedelta(days=1)


def list_snapshots() -> Sequence[Snapshot]:
    """All of the organisation acted for, newest first."""
    return db.session.scalars(
        select(Snapshot)
        .order_by(Snapshot.created_at.desc(), Snapshot.id)
        .options(joinedload(Snapshot.created_by).options(lazyload(User.organisation)))
    ).all()


def find_snapshot(snapshot_id: uuid.UUID) -> Snapshot:
    """One of the organisation acted for; raises :class:`NotFound`."""
    row = db.session.scalar(select(Snapshot).where(Snapshot.id == snapshot_id))
    if row is None:
        raise NotFound(_("There is no such snapshot."))
    return row


def requests_shown() -> Sequence[SnapshotRequest]:
    """Snapshots that are being made, and those that lately failed, newest first."""
    return db.session.scalars(
        select(SnapshotRequest)
        .where(
            SnapshotRequest.status.in_(_UNDER_WAY)
            | (SnapshotRequest.finished_at >= now() - _FAILURES_SHOWN),
            SnapshotRequest.status != SnapshotStatus.DONE,
        )
        .order_by(SnapshotRequest.created_at.desc(), SnapshotRequest.id)
    ).all()


def find_snapshot_or_request(snapshot_id: uuid.UUID) -> Snapshot | SnapshotRequest:
    """A snapshot, or what is to become one; raises :class:`NotFound`."""
    # Not the other way round: the snapshot may be finished between the two.
    request = db.session.scalar(select(SnapshotRequest).where(SnapshotRequest.id == snapshot_id))
    made = db.session.scalar(select(Snapshot).where(Snapshot.id == snapshot_id))
    found = made or request
    if found is None:
        raise NotFound(_("There is no such snapshot."))
    return found


def slices_of(snapshot: Snapshot) -> Sequence[SnapshotSlice]:
    """Its slices, in the order of the manifest."""
    return db.session.scalars(
        select(SnapshotSlice)
        .where(SnapshotSlice.snapshot_id == snapshot.id)
        .order_by(SnapshotSlice.blob_key)
    ).all()


def list_withdrawals() -> Sequence[Withdrawal]:
    """Patients who are left out of later snapshots, the last one first."""
    return db.session.scalars(
        select(Withdrawal).order_by(Withdrawal.created_at.desc(), Withdrawal.id)
    ).all()


def holding(groups: Sequence[str]) -> dict[str, list[Snapshot]]:
    """Snapshots that hold slices of these patients, by patient, oldest first."""
    rows = db.session.execute(
        select(SnapshotSlice.patient_group, SnapshotSlice.snapshot_id)
        .where(SnapshotSlice.patient_group.in_(groups))
        .distinct()
    ).all()
    wanted = {snapshot_id for _group, snapshot_id in rows}
    pairs = {(group, snapshot_id) for group, snapshot_id in rows}
    found: dict[str, list[Snapshot]] = defaultdict(list)
    ordered = select(Snapshot).where(Snapshot.id.in_(wanted)).order_by(Snapshot.created_at)
    for snapshot in db.session.scalars(ordered):
        for group in groups:
            if (group, snapshot.id) in pairs:
                found[group].append(snapshot)
    return found


def withdrawn_groups_in(snapshot: Snapshot) -> int:
    """Number of patients in the snapshot who have been withdrawn since."""
    return len(
        db.session.scalars(
            select(SnapshotSlice.patient_group)
            .join(Withdrawal, Withdrawal.patient_group == SnapshotSlice.patient_group)
            .where(SnapshotSlice.snapshot_id == snapshot.id)
            .distinct()
        ).all()
    )


def list_retrainings() -> Sequence[Retraining]:
    """All of the organisation acted for, newest first."""
    return db.session.scalars(
        select(Retraining)
        .order_by(Retraining.created_at.desc(), Retraining.id)
        .options(joinedload(Retraining.snapshot), joinedload(Retraining.candidate))
    ).all()


def retrainings_of(snapshot: Snapshot) -> Sequence[Retraining]:
    """Those from a snapshot, newest first."""
    return [one for one in list_retrainings() if one.snapshot_id == snapshot.id]


def find_retraining(retraining_id: uuid.UUID) -> Retraining:
    """One of the organisation acted for; raises :class:`NotFound`."""
    row = db.session.scalar(select(Retraining).where(Retraining.id == retraining_id))
    if row is None:
        raise NotFound(_("There is no such retraining."))
    return row


def snapshot_to_judge_by(named: str | None) -> Snapshot | None:
    """The snapshot of that id, or where there is none, the newest one."""
    rows = list_snapshots()
    return next((one for one in rows if str(one.id) == named), rows[0] if rows else None)
