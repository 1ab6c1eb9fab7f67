"""Snapshots of what readers agreed about, and patients who are no longer part of later ones."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, ForeignKey, Index, String, UniqueConstraint, event
from sqlalchemy.orm import Mapped, Mapper, mapped_column, relationship

from webapp.accounts.models import User
from webapp.database import Base, Identifier, Timestamped, enum_column, now
from webapp.models_admin.models import Candidate
from webapp.studies.models import Patient
from webapp.tenancy import OrganisationOwned

LONGEST_NAME = 120
OUT_OF_SCOPE = "out_of_scope"


class Unchangeable(RuntimeError):
    """A snapshot was about to be changed: a mistake in our code."""


class Snapshot(Timestamped, OrganisationOwned, Base):
    """Slices with the labels that readers agreed on, frozen (:mod:`ml.dataset.snapshot`).

    The folder that models learn from is put together from blobs whenever it is wanted: card and
    manifest as they were written, and each slice by its content.

    Attributes:
        created_by_id: None where it was made on the command line.
        plan_version, plan_sha256: the plan of change that it was made under.
        counts: as in the card: slices, groups, labels, what is held out, ``out_of_scope``, which
            is none of these; the last is not there in snapshots from before there was the list.
        left_out: number of assessed slices that are not in it, by reason.
        manifest_sha256, images_sha256: as in the card; the first is the manifest's blob as well.
        manifest_key, card_key: blobs.
        out_of_scope_key: the same of the second list; None where there is none.
    """

    __tablename__ = "snapshot"
    __table_args__ = (UniqueConstraint("organisation_id", "name"),)

    id: Mapped[Identifier]
    name: Mapped[str] = mapped_column(String(LONGEST_NAME))
    created_by_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user.id"))
    plan_version: Mapped[int]
    plan_sha256: Mapped[str] = mapped_column(String(64))
    counts: Mapped[dict[str, Any]]
    left_out: Mapped[dict[str, int]]
    manifest_sha256: Mapped[str] = mapped_column(String(64))
    images_sha256: Mapped[str] = mapped_column(String(64))
    manifest_key: Mapped[str] = mapped_column(String(64), index=True)
    card_key: Mapped[str] = mapped_column(String(64), index=True)
    out_of_scope_key: Mapped[str | None] = mapped_column(String(64), index=True)

    created_by: Mapped[User | None] = relationship()

    @property
    def out_of_scope(self) -> int:
        """Number of slices that show none of the classes."""
        return int(self.counts.get("out_of_scope", 0))


class SnapshotStatus(StrEnum):
    """How far a snapshot is."""

    QUEUED = "queued"
    MAKING = "making"
    DONE = "done"
    FAILED = "failed"


class SnapshotRequest(Timestamped, OrganisationOwned, Base):
    """A snapshot that somebody asked for; a job of the worker.

    The snapshot that comes of it has the same id. It is a row of its own because a snapshot never
    changes.

    Attributes:
        attempt, sent_at, lease_until: as in :class:`webapp.studies.models.Analysis`.
        done, total: slices that have been read.
        reason: why it failed, one sentence.
    """

    __tablename__ = "snapshot_request"

    id: Mapped[Identifier]
    name: Mapped[str] = mapped_column(String(LONGEST_NAME))
    requested_by_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))
    status: Mapped[SnapshotStatus] = mapped_column(
        enum_column(SnapshotStatus, "snapshot_request_status"),
        default=SnapshotStatus.QUEUED,
        index=True,
    )
    attempt: Mapped[int] = mapped_column(default=0)
    sent_at: Mapped[datetime] = mapped_column(default=now)
    lease_until: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(default=0)
    reason: Mapped[str | None] = mapped_column(String(500))

    requested_by: Mapped[User] = relationship()


class SnapshotSlice(Timestamped, OrganisationOwned, Base):
    """One slice of a snapshot. Who said what of it and when stands in the manifest.

    Attributes:
        image_id: the slice in the portal; it may be gone since.
        blob_key: the PNG, named by its content.
        patient_group: the patient as a pseudonym of snapshots alone.
        part: ``training``, ``holdout``, or :data:`OUT_OF_SCOPE` for a slice without a label.
    """

    __tablename__ = "snapshot_slice"
    __table_args__ = (
        UniqueConstraint("snapshot_id", "blob_key"),
        Index("ix_snapshot_slice_group", "organisation_id", "patient_group"),
    )

    id: Mapped[Identifier]
    snapshot_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("snapshot.id", ondelete="CASCADE"))
    image_id: Mapped[uuid.UUID] = mapped_column(index=True)
    blob_key: Mapped[str] = mapped_column(String(64), index=True)
    label: Mapped[str] = mapped_column(String(16))
    patient_group: Mapped[str] = mapped_column(String(64))
    part: Mapped[str] = mapped_column(String(16))
    fold: Mapped[int]
    rule: Mapped[str] = mapped_column(String(16))

    snapshot: Mapped[Snapshot] = relationship()


class Withdrawal(Timestamped, OrganisationOwned, Base):
    """A patient of whom no later snapshot holds anything.

    Attributes:
        patient_group: as in snapshots, so that it holds for a patient who comes back as well.
        study_ids: the patient's studies at that time: they stay out under another code, too.
        patient_id: None once the portal has no studies of the patient.
    """

    __tablename__ = "withdrawal"
    __table_args__ = (UniqueConstraint("organisation_id", "patient_group"),)

    id: Mapped[Identifier]
    patient_group: Mapped[str] = mapped_column(String(64))
    study_ids: Mapped[list[str]]
    patient_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("patient.id", ondelete="SET NULL"), index=True
    )
    withdrawn_by_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))

    patient: Mapped[Patient | None] = relationship()
    withdrawn_by: Mapped[User] = relationship()


class RetrainingStatus(StrEnum):
    """State of a retraining."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RetrainingMode(StrEnum):
    """What may change (:data:`ml.release.change_plan.MODES`)."""

    HEAD = "head"
    FULL = "full"


class Retraining(Timestamped, OrganisationOwned, Base):
    """A model made anew from a snapshot and the model that served; a job of the worker.

    Attributes:
        started_from: name of the model that it goes on from.
        attempt, sent_at, lease_until: as in :class:`webapp.studies.models.Analysis`.
        cancel_requested: the worker ends it at the next step.
        step, done, total: what is being done, and how much of it.
        figures: what is known by now.
        reason: why it failed, one sentence.
        candidate_id: what came of it.
    """

    __tablename__ = "retraining"

    id: Mapped[Identifier]
    snapshot_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("snapshot.id"), index=True)
    mode: Mapped[RetrainingMode] = mapped_column(enum_column(RetrainingMode, "retraining_mode"))
    requested_by_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))
    status: Mapped[RetrainingStatus] = mapped_column(
        enum_column(RetrainingStatus, "retraining_status"),
        default=RetrainingStatus.QUEUED,
        index=True,
    )
    attempt: Mapped[int] = mapped_column(default=0)
    sent_at: Mapped[datetime] = mapped_column(default=now)
    lease_until: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    started_from: Mapped[str | None] = mapped_column(String(64))
    step: Mapped[str] = mapped_column(String(80), default="")
    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(default=0)
    figures: Mapped[dict[str, Any]] = mapped_column(default=dict)
    reason: Mapped[str | None] = mapped_column(String(500))
    candidate_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("candidate.id"))

    snapshot: Mapped[Snapshot] = relationship()
    requested_by: Mapped[User] = relationship()
    candidate: Mapped[Candidate | None] = relationship()


@event.listens_for(Snapshot, "before_update")
@event.listens_for(SnapshotSlice, "before_update")
def _refuse(_mapper: Mapper[Any], _connection: Connection, row: Base) -> None:
    raise Unchangeable(f"{type(row).__name__} {row.id} was made to stay as it is")  # type: ignore[attr-defined]
