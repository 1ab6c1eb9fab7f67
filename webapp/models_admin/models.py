"""Versions of the classifier, candidates to serve, and which one served when.

Every prediction names its :class:`ModelVersion`, which all organisations share. Everything else
belongs to one organisation: its candidates, what its gates said about them, who proposed and who
confirmed them, and the list of its deployments.
"""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.accounts.models import User
from webapp.database import Base, Identifier, Timestamped, enum_column, now
from webapp.tenancy import OrganisationOwned

LONGEST_REASON = 1000


class ModelVersion(Timestamped, Base):
    """One set of weights, known by its hash. Shared by all organisations."""

    __tablename__ = "model_version"

    id: Mapped[Identifier]
    name: Mapped[str] = mapped_column(String(64))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    card: Mapped[dict[str, Any]]


class Candidate(Timestamped, OrganisationOwned, Base):
    """A model that may come to serve an organisation, with its files.

    Attributes:
        card_name: the file of its card; the other files are those that the card names.
        registered_by_id: the person who registered it, or who asked for its training.
    """

    __tablename__ = "candidate"
    __table_args__ = (UniqueConstraint("organisation_id", "model_version_id"),)

    id: Mapped[Identifier]
    model_version_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("model_version.id"))
    card_name: Mapped[str] = mapped_column(String(200))
    registered_by_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))

    model_version: Mapped[ModelVersion] = relationship(lazy="joined")
    registered_by: Mapped[User] = relationship()
    files: Mapped[list["CandidateFile"]] = relationship(
        order_by="CandidateFile.name", back_populates="candidate", cascade="all, delete-orphan"
    )
    gate_runs: Mapped[list["GateRun"]] = relationship(
        order_by="GateRun.number", back_populates="candidate", cascade="all, delete-orphan"
    )
    proposals: Mapped[list["Proposal"]] = relationship(
        order_by="Proposal.created_at", back_populates="candidate"
    )

    @property
    def last_run(self) -> "GateRun | None":
        """The newest run of the gates."""
        return self.gate_runs[-1] if self.gate_runs else None

    @property
    def has_passed(self) -> bool:
        """Whether the newest run of the gates let it through."""
        return self.last_run is not None and self.last_run.status is GateStatus.PASSED

    @property
    def open_proposal(self) -> "Proposal | None":
        """The proposal that waits for a second person."""
        return next((one for one in self.proposals if one.decision is None), None)


class CandidateFile(Timestamped, OrganisationOwned, Base):
    """A file of a candidate; ``blob_key`` is the SHA-256 of its content."""

    __tablename__ = "candidate_file"
    __table_args__ = (
        UniqueConstraint("candidate_id", "name"),
        Index("ix_candidate_file_blob", "blob_key"),
    )

    id: Mapped[Identifier]
    candidate_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("candidate.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(200))
    blob_key: Mapped[str] = mapped_column(String(64))
    size: Mapped[int]

    candidate: Mapped[Candidate] = relationship(back_populates="files")


class GateStatus(StrEnum):
    """State of a run of the gates."""

    QUEUED = "queued"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    BROKEN = "broken"  # it ended without a verdict; ``reason`` says why


class GateRun(Timestamped, OrganisationOwned, Base):
    """One run of all gates over a candidate, a job of the worker.

    Attributes:
        number: from 1, of the candidate.
        attempt, sent_at, lease_until: as in :class:`webapp.studies.models.Analysis`.
        report: what the gates found (:mod:`ml.release.gates`).
        signature: of the report, under the installation's key.
        reason: why it is broken, one sentence.
    """

    __tablename__ = "gate_run"
    __table_args__ = (UniqueConstraint("candidate_id", "number"),)

    id: Mapped[Identifier]
    candidate_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("candidate.id", ondelete="CASCADE"))
    number: Mapped[int]
    requested_by_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))
    status: Mapped[GateStatus] = mapped_column(
        enum_column(GateStatus, "gate_status"), default=GateStatus.QUEUED, index=True
    )
    attempt: Mapped[int] = mapped_column(default=0)
    sent_at: Mapped[datetime] = mapped_column(default=now)
    lease_until: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    report: Mapped[dict[str, Any] | None]
    signature: Mapped[str | None] = mapped_column(String(64))
    reason: Mapped[str | None] = mapped_column(String(500))

    candidate: Mapped[Candidate] = relationship(back_populates="gate_runs")


class Decision(StrEnum):
    """What became of a proposal."""

    CONFIRMED = "confirmed"
    DECLINED = "declined"


class Proposal(Timestamped, OrganisationOwned, Base):
    """One person's wish that a candidate serves; another person decides about it.

    Attributes:
        gate_run_id: the run whose report both of them have read.
        share: per cent of new studies that it is to answer on trial; None for all of them.
    """

    __tablename__ = "proposal"
    __table_args__ = (
        # One at a time in an organisation.
        Index(
            "uq_proposal_open",
            "organisation_id",
            unique=True,
            sqlite_where=text("decision IS NULL"),
            postgresql_where=text("decision IS NULL"),
        ),
    )

    id: Mapped[Identifier]
    candidate_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("candidate.id"), index=True)
    gate_run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("gate_run.id"))
    proposed_by_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))
    reason: Mapped[str] = mapped_column(String(LONGEST_REASON))
    share: Mapped[int | None]
    decision: Mapped[Decision | None] = mapped_column(enum_column(Decision, "decision"))
    decided_by_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user.id"))
    decided_at: Mapped[datetime | None]

    candidate: Mapped[Candidate] = relationship(back_populates="proposals")
    gate_run: Mapped[GateRun] = relationship()
    proposed_by: Mapped[User] = relationship(foreign_keys=proposed_by_id)
    decided_by: Mapped[User | None] = relationship(foreign_keys=decided_by_id)


class DeploymentKind(StrEnum):
    """How an organisation's serving model came to change."""

    PROMOTION = "promotion"  # a candidate that passed serves from now on
    CANARY = "canary"  # a candidate that passed answers a share of new studies, on trial
    ROLLBACK = "rollback"  # what served before serves again, or a trial has ended
    OFF = "off"  # no model answers
    ON = "on"  # what served before answers again


class Deployment(Timestamped, OrganisationOwned, Base):
    """From when on a model serves the organisation. Rows are only ever added, each signed.

    The database refuses to change or delete a row (triggers), and each signature covers the one
    before it, so that a row that was written past the portal is noticed.

    Attributes:
        number: from 1, without a gap.
        candidate_id: what serves; None for the installation's first model, and for ``off``.
        gate_run_id: the run that let the candidate through.
        decided_by_id: who confirmed the promotion, rolled back, or switched off or on; None where
            the portal itself ended a trial.
        share: per cent of new studies that a model on trial answers; None for the other kinds.
        previous_signature: of the row before; empty for the first one.
    """

    __tablename__ = "deployment"
    __table_args__ = (UniqueConstraint("organisation_id", "number"),)

    id: Mapped[Identifier]
    number: Mapped[int]
    kind: Mapped[DeploymentKind] = mapped_column(enum_column(DeploymentKind, "deployment_kind"))
    candidate_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("candidate.id"))
    gate_run_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("gate_run.id"))
    proposed_by_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user.id"))
    decided_by_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user.id"))
    share: Mapped[int | None]
    reason: Mapped[str] = mapped_column(String(LONGEST_REASON), default="")
    previous_signature: Mapped[str] = mapped_column(String(64), default="")
    signature: Mapped[str] = mapped_column(String(64))

    candidate: Mapped[Candidate | None] = relationship()
    gate_run: Mapped[GateRun | None] = relationship()
    proposed_by: Mapped[User | None] = relationship(foreign_keys=proposed_by_id)
    decided_by: Mapped[User | None] = relationship(foreign_keys=decided_by_id)
