"""Patients, studies, images, inference jobs and predictions."""

import uuid
from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.accounts.models import User
from webapp.database import Base, Identifier, Timestamped, enum_column, now
from webapp.models_admin.models import ModelVersion
from webapp.pacs.models import PacsNode
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


class Patient(Timestamped, OrganisationOwned, Base):
    """A patient by pseudonymous code; the portal knows no name."""

    __tablename__ = "patient"
    __table_args__ = (UniqueConstraint("organisation_id", "code"),)

    id: Mapped[Identifier]
    code: Mapped[str] = mapped_column(String(64))


class Study(Timestamped, OrganisationOwned, Base):
    """What arrived together, and the answer for all of it.

    ``label``, ``probabilities``, ``prediction_set`` and ``in_distribution`` are those of the
    study's first key image, set when the status becomes ``done``; the set also holds ``no_tumor``
    where that image's neighbours in a volume do not bear it out, and what cannot be ruled out in
    the images that contradict it (``dissenting_image_ids``, the most telling one of each class).

    ``uid`` is the pseudonymous Study Instance UID where the study came as DICOM; an organisation
    holds each such study once. ``acquired_on`` is its date, shifted by the patient's offset.
    ``left_out`` counts files that were not taken in, by the code of their reason.
    """

    __tablename__ = "study"
    __table_args__ = (
        Index("ix_study_worklist", "organisation_id", "created_at", "id"),
        UniqueConstraint("organisation_id", "uid"),
    )

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
    uid: Mapped[str | None] = mapped_column(String(64))
    acquired_on: Mapped[date | None]
    node_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("pacs_node.id"))
    left_out: Mapped[dict[str, int]] = mapped_column(default=dict)
    finished_at: Mapped[datetime | None]
    label: Mapped[str | None] = mapped_column(String(16), index=True)
    probabilities: Mapped[dict[str, float] | None]
    prediction_set: Mapped[list[str] | None]
    in_distribution: Mapped[bool | None]
    in_distribution_share: Mapped[float | None]
    key_image_ids: Mapped[list[str] | None]
    dissenting_image_ids: Mapped[list[str] | None]

    node: Mapped[PacsNode | None] = relationship()
    patient: Mapped[Patient] = relationship(lazy="joined")
    uploaded_by: Mapped[User] = relationship()
    series: Mapped[list["Series"]] = relationship(
        order_by="Series.position", back_populates="study", cascade="all, delete-orphan"
    )
    images: Mapped[list["Image"]] = relationship(
        order_by="Image.position", back_populates="study", cascade="all, delete-orphan"
    )
    jobs: Mapped[list["InferenceJob"]] = relationship(
        order_by="InferenceJob.created_at", back_populates="study", cascade="all, delete-orphan"
    )


class Series(Timestamped, OrganisationOwned, Base):
    """Slices of a study that belong together: one acquisition, one size, one orientation.

    Attributes:
        position: number inside the study, from 0.
        uid: pseudonymous Series Instance UID where it came as DICOM.
        plane: ``axial``, ``coronal``, ``sagittal`` or ``oblique``; None where nothing tells.
        is_volume: its slices are parallel and evenly spaced, so that other planes can be shown.
        slice_spacing: millimetres between neighbouring slices.
        row_direction: where the column index grows to, a unit vector of DICOM's patient system.
        column_direction: where the row index grows to.
        missing: slices that the even spacing asks for and that did not come.
        duplicates: files that were left out since they show the same slice again.
    """

    __tablename__ = "series"
    __table_args__ = (Index("ix_series_study_id", "study_id"),)

    id: Mapped[Identifier]
    study_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
    position: Mapped[int]
    uid: Mapped[str | None] = mapped_column(String(64))
    modality: Mapped[str | None] = mapped_column(String(16))
    plane: Mapped[str | None] = mapped_column(String(16))
    is_volume: Mapped[bool] = mapped_column(default=False)
    slice_spacing: Mapped[float | None]
    row_direction: Mapped[list[float] | None]
    column_direction: Mapped[list[float] | None]
    missing: Mapped[int] = mapped_column(default=0)
    duplicates: Mapped[int] = mapped_column(default=0)

    study: Mapped[Study] = relationship(back_populates="series")
    images: Mapped[list["Image"]] = relationship(
        order_by="Image.position", back_populates="series", passive_deletes=True
    )


class Instance(Timestamped, OrganisationOwned, Base):
    """One DICOM file, de-identified, as it is kept for the worker and for other viewers.

    All identifiers are pseudonymous. Until its series is complete an instance belongs to no
    study. An organisation holds each SOP instance once.

    Attributes:
        study_id: None until the study has been put together.
        burned_in: what the file says about identifiers in its pixels: yes, no or unknown.
        pixels_key: SHA-256 of size and stored pixels, by which the same picture is found again
            under other identifiers; None in rows from before.
    """

    __tablename__ = "instance"
    __table_args__ = (
        UniqueConstraint("organisation_id", "uid"),
        Index("ix_instance_arrival", "study_id", "created_at"),
        Index("ix_instance_series", "organisation_id", "study_uid", "series_uid"),
        Index("ix_instance_pixels", "organisation_id", "pixels_key"),
    )

    id: Mapped[Identifier]
    uid: Mapped[str] = mapped_column(String(64))
    study_uid: Mapped[str] = mapped_column(String(64))
    series_uid: Mapped[str] = mapped_column(String(64))
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    transfer_syntax_uid: Mapped[str] = mapped_column(String(64))
    modality: Mapped[str] = mapped_column(String(16), default="")
    number: Mapped[int | None]
    rows: Mapped[int]
    columns: Mapped[int]
    frames: Mapped[int] = mapped_column(default=1)
    patient_code: Mapped[str] = mapped_column(String(64))
    acquired_on: Mapped[date | None]
    blob_key: Mapped[str] = mapped_column(String(64))
    pixels_key: Mapped[str | None] = mapped_column(String(64))
    node_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("pacs_node.id"))
    received_by_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))
    study_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))

    study: Mapped[Study | None] = relationship()


class Image(Timestamped, OrganisationOwned, Base):
    """One slice. ``blob_key`` names a PNG that holds its pixels and nothing else.

    A slice of a DICOM or NIfTI file is decoded by the worker: until then ``blob_key`` is None,
    and ``source_key`` and ``frame`` say where it comes from. ``problem`` is the code of
    :class:`ml.errors.UnreadableImage` where a slice could not be decoded or classified.

    Attributes:
        position: number inside the study, from 0, through all series.
        source_key: blob of the de-identified file; None for pictures, which are kept as PNG.
        frame: number of the slice inside that file, from 0.
        instance_id: the DICOM instance, where the file is one.
        row_spacing, column_spacing: millimetres between the centres of neighbouring pixels,
            down and across.
        origin: centre of the first pixel in DICOM's patient coordinate system, millimetres.
        value_scale, value_offset: scanner's value = pixel * scale + offset.
        window_centre, window_width: the file's own suggestion, in the scanner's values.
    """

    __tablename__ = "image"
    __table_args__ = (
        UniqueConstraint("study_id", "position"),
        Index("ix_image_blob_key", "organisation_id", "blob_key"),
        Index("ix_image_source_key", "organisation_id", "source_key"),
    )

    id: Mapped[Identifier]
    study_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
    series_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("series.id", ondelete="CASCADE"), index=True
    )
    instance_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("instance.id", ondelete="SET NULL"), index=True
    )
    position: Mapped[int]
    blob_key: Mapped[str | None] = mapped_column(String(64))
    source_key: Mapped[str | None] = mapped_column(String(64))
    source_format: Mapped[str] = mapped_column(String(16))
    frame: Mapped[int] = mapped_column(default=0)
    width: Mapped[int]
    height: Mapped[int]
    row_spacing: Mapped[float | None]
    column_spacing: Mapped[float | None]
    origin: Mapped[list[float] | None]
    value_scale: Mapped[float] = mapped_column(default=1.0)
    value_offset: Mapped[float] = mapped_column(default=0.0)
    window_centre: Mapped[float | None]
    window_width: Mapped[float | None]
    problem: Mapped[str | None] = mapped_column(String(32))

    study: Mapped[Study] = relationship(back_populates="images")
    series: Mapped[Series] = relationship(back_populates="images")
    instance: Mapped[Instance | None] = relationship()
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
    # Values of ml.quality.QualityFlag; what was predicted before them has none.
    quality: Mapped[list[str]] = mapped_column(default=list)
    heatmap_key: Mapped[str | None] = mapped_column(String(64))

    image: Mapped[Image] = relationship(back_populates="predictions")
    model_version: Mapped[ModelVersion] = relationship()


class IdempotencyKey(Timestamped, OrganisationOwned, Base):
    """A key that an API caller chose for one upload, and the study that came of it.

    ``further_study_ids`` names the others where the upload was split into several.
    """

    __tablename__ = "idempotency_key"
    __table_args__ = (UniqueConstraint("user_id", "key"),)

    id: Mapped[Identifier]
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))
    key: Mapped[str] = mapped_column(String(200))
    fingerprint: Mapped[str] = mapped_column(String(64))
    study_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
    further_study_ids: Mapped[list[str] | None]
