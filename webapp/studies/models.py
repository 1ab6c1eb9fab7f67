"""Patients, studies, images, inference jobs and predictions."""

import uuid
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Enum, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.accounts.models import User
from webapp.database import Base, Identifier, Timestamped, now
from webapp.models_admin.models import ModelVersion
from webapp.tenancy import OrganisationOwned


class Status(StrEnum):
    """State of a study and of its job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    REJECTED = "rejected"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self in {Status.DONE, Status.FAILED, Status.REJECTED}


class Priority(StrEnum):
    """How soon a study should be read; urgent ones stand first."""

    ROUTINE = "routine"
    URGENT = "urgent"


def enum_column(kind: type[StrEnum], name: str) -> Enum:
    """Stored as text with a check, the same on both databases."""
    return Enum(
        kind,
        native_enum=False,
        length=16,
        create_constraint=True,
        name=name,
        values_callable=lambda members: [member.value for member in members],
    )


class Patient(Timestamped, OrganisationOwned, Base):
    """A patient by pseudonymous code; the portal knows no name."""

    __tablename__ = "patient"
    __table_args__ = (UniqueConstraint("organisation_id", "code"),)

    id: Mapped[Identifier]
    code: Mapped[str] = mapped_column(String(64))


class Study(Timestamped, OrganisationOwned, Base):
    """What was uploaded together, and the answer for all of it.

    ``label``, ``probabilities``, ``prediction_set`` and ``in_distribution`` are those of the
    study's key image, set when the status becomes ``done``.
    """

    __tablename__ = "study"
    __table_args__ = (Index("ix_study_worklist", "organisation_id", "created_at", "id"),)

    id: Mapped[Identifier]
    patient_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("patient.id"), index=True)
    uploaded_by_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"), index=True)
    description: Mapped[str] = mapped_column(String(200), default="")
    priority: Mapped[Priority] = mapped_column(
        enum_column(Priority, "priority"), default=Priority.ROUTINE
    )
    status: Mapped[Status] = mapped_column(
        enum_column(Status, "status"), default=Status.QUEUED, index=True
    )
    reason: Mapped[str | None] = mapped_column(String(64))
    finished_at: Mapped[datetime | None]
    label: Mapped[str | None] = mapped_column(String(16), index=True)
    probabilities: Mapped[dict[str, float] | None]
    prediction_set: Mapped[list[str] | None]
    in_distribution: Mapped[bool | None]

    patient: Mapped[Patient] = relationship(lazy="joined")
    uploaded_by: Mapped[User] = relationship()
    images: Mapped[list["Image"]] = relationship(
        order_by="Image.position", back_populates="study", cascade="all, delete-orphan"
    )
    jobs: Mapped[list["InferenceJob"]] = relationship(
        order_by="InferenceJob.created_at", back_populates="study", cascade="all, delete-orphan"
    )


class Image(Timestamped, OrganisationOwned, Base):
    """One slice, stored as a PNG that holds its pixels and nothing else.

    ``problem`` is the code of :class:`ml.errors.UnreadableImage` where the slice was stored but
    could not be classified.
    """

    __tablename__ = "image"
    __table_args__ = (UniqueConstraint("study_id", "position"),)

    id: Mapped[Identifier]
    study_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
    position: Mapped[int]
    blob_key: Mapped[str] = mapped_column(String(64))
    source_format: Mapped[str] = mapped_column(String(16))
    width: Mapped[int]
    height: Mapped[int]
    problem: Mapped[str | None] = mapped_column(String(32))

    study: Mapped[Study] = relationship(back_populates="images")
    predictions: Mapped[list["Prediction"]] = relationship(
        order_by="Prediction.created_at", back_populates="image", cascade="all, delete-orphan"
    )

    @property
    def prediction(self) -> "Prediction | None":
        """The newest answer, or None until there is one."""
        return self.predictions[-1] if self.predictions else None


class InferenceJob(Timestamped, OrganisationOwned, Base):
    """One attempt after another to classify a study.

    ``attempt`` counts claims and fences them: a worker may write results only while the attempt
    is still its own. ``lease_until`` is renewed while it works; once over, others may claim.
    """

    __tablename__ = "inference_job"

    id: Mapped[Identifier]
    study_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("study.id", ondelete="CASCADE"), index=True
    )
    status: Mapped[Status] = mapped_column(
        enum_column(Status, "status"), default=Status.QUEUED, index=True
    )
    attempt: Mapped[int] = mapped_column(default=0)
    images_total: Mapped[int] = mapped_column(default=0)
    images_done: Mapped[int] = mapped_column(default=0)
    sent_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    model_ms: Mapped[float | None]
    reason: Mapped[str | None] = mapped_column(String(64))

    study: Mapped[Study] = relationship(back_populates="jobs")


class Prediction(Timestamped, OrganisationOwned, Base):
    """What one model version says about one image: at most one row for each pair."""

    __tablename__ = "prediction"
    __table_args__ = (UniqueConstraint("image_id", "model_version_id"),)

    id: Mapped[Identifier]
    image_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("image.id", ondelete="CASCADE"))
    model_version_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("model_version.id"))
    label: Mapped[str] = mapped_column(String(16))
    probabilities: Mapped[dict[str, float]]
    prediction_set: Mapped[list[str]]
    in_distribution: Mapped[bool]
    ood_score: Mapped[float]
    heatmap_key: Mapped[str | None] = mapped_column(String(64))

    image: Mapped[Image] = relationship(back_populates="predictions")
    model_version: Mapped[ModelVersion] = relationship()


class IdempotencyKey(Timestamped, OrganisationOwned, Base):
    """A key that an API caller chose for one upload, and the study that came of it."""

    __tablename__ = "idempotency_key"
    __table_args__ = (UniqueConstraint("user_id", "key"),)

    id: Mapped[Identifier]
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))
    key: Mapped[str] = mapped_column(String(200))
    fingerprint: Mapped[str] = mapped_column(String(64))
    study_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
