"""Candidates asked beside the serving model, and earlier studies that a new one sees otherwise."""

import uuid
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.accounts.models import User
from webapp.database import Base, Identifier, Timestamped, enum_column
from webapp.models_admin.models import Candidate, Deployment
from webapp.studies.models import Analysis, Study
from webapp.tenancy import OrganisationOwned

LONGEST_NOTE = 1000


class ShadowStatus(StrEnum):
    """State of a shadow run."""

    RUNNING = "running"
    FINISHED = "finished"  # it has had as many studies as it was to have
    STOPPED = "stopped"


class ShadowRun(Timestamped, OrganisationOwned, Base):
    """A candidate that answers a share of new studies beside the serving model, unseen.

    Attributes:
        share: per cent of new studies.
        most: studies that it gets at most.
        taken: studies that it has got.
        reached: studies that were answered before this moment have been looked at.
    """

    __tablename__ = "shadow_run"
    __table_args__ = (
        # One at a time in an organisation: each costs as much as the serving model does.
        Index(
            "uq_shadow_run_running",
            "organisation_id",
            unique=True,
            sqlite_where=text("status = 'running'"),
            postgresql_where=text("status = 'running'"),
        ),
    )

    id: Mapped[Identifier]
    candidate_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("candidate.id"), index=True)
    share: Mapped[int]
    most: Mapped[int]
    taken: Mapped[int] = mapped_column(default=0)
    status: Mapped[ShadowStatus] = mapped_column(
        enum_column(ShadowStatus, "shadow_status"), default=ShadowStatus.RUNNING
    )
    reached: Mapped[datetime]
    started_by_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))
    ended_by_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user.id"))
    ended_at: Mapped[datetime | None]

    candidate: Mapped[Candidate] = relationship()
    started_by: Mapped[User] = relationship(foreign_keys=started_by_id)
    ended_by: Mapped[User | None] = relationship(foreign_keys=ended_by_id)


class RecallStatus(StrEnum):
    """State of a recall."""

    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    STOPPED = "stopped"  # by a person
    WITHDRAWN = "withdrawn"  # its model was rolled back; its cases are shown no longer


class RecallRun(Timestamped, OrganisationOwned, Base):
    """Earlier studies answered again by a model that was promoted, newest first.

    Attributes:
        everything: all earlier studies, not those of the last twelve months alone.
        taken: studies that were asked for again.
        reached: studies that came later than this have been looked at; None at the beginning.
        changed_by_id: who paused, stopped or went on last; None while the portal did all itself.
    """

    __tablename__ = "recall_run"
    __table_args__ = (UniqueConstraint("deployment_id"),)

    id: Mapped[Identifier]
    deployment_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("deployment.id"))
    candidate_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("candidate.id"), index=True)
    everything: Mapped[bool] = mapped_column(default=False)
    status: Mapped[RecallStatus] = mapped_column(
        enum_column(RecallStatus, "recall_status"), default=RecallStatus.RUNNING, index=True
    )
    taken: Mapped[int] = mapped_column(default=0)
    reached: Mapped[datetime | None]
    changed_by_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user.id"))

    deployment: Mapped[Deployment] = relationship()
    candidate: Mapped[Candidate] = relationship()
    changed_by: Mapped[User | None] = relationship()


class Change(StrEnum):
    """In what a new answer differs, the one that matters most first."""

    TUMOUR_FOUND = "tumour_found"  # "no tumour" became a tumour
    CLASS_CHANGED = "class_changed"  # the class is another one
    LESS_RULED_OUT = "less_ruled_out"  # a tumour is named that was ruled out


class RecallCase(Timestamped, OrganisationOwned, Base):
    """A study that the new model answers otherwise. What the study shows stays as it is.

    Attributes:
        before_id: the analysis that is shown.
        after_id: the one of the new model.
    """

    __tablename__ = "recall_case"
    __table_args__ = (
        UniqueConstraint("run_id", "study_id"),
        Index("ix_recall_case_open", "organisation_id", "acknowledged_at"),
    )

    id: Mapped[Identifier]
    run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("recall_run.id", ondelete="CASCADE"))
    study_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("study.id", ondelete="CASCADE"), index=True
    )
    before_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("analysis.id", ondelete="CASCADE"))
    after_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("analysis.id", ondelete="CASCADE"))
    change: Mapped[Change] = mapped_column(enum_column(Change, "change"))
    acknowledged_by_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user.id"))
    acknowledged_at: Mapped[datetime | None]
    note: Mapped[str] = mapped_column(String(LONGEST_NOTE), default="")

    run: Mapped[RecallRun] = relationship()
    study: Mapped[Study] = relationship()
    before: Mapped[Analysis] = relationship(foreign_keys=before_id)
    after: Mapped[Analysis] = relationship(foreign_keys=after_id)
    acknowledged_by: Mapped[User | None] = relationship()
