"""Patients, studies, images, analyses and predictions."""

import uuid
from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.accounts.models import User
from webapp.database import Base, Identifier, Timestamped, enum_column, now
from webapp.models_admin.models import ModelVersion
from webapp.tenancy import OrganisationOwned, owner_without_index


class Status(StrEnum):
    """State of an analysis; a study has the state of its current analysis."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"  # replaced by a newer one before it ended; never a study's state

    @property
    def is_final(self) -> bool:
        """Whether the state will not change by itself."""
        return self not in {Status.QUEUED, Status.RUNNING}


class Purpose(StrEnum):
    """Purpose of an analysis."""

    SERVING = "serving"  # its result is the study's; the others run when no study waits
    SHADOW = "shadow"  # another model on the same images; its result is not shown
    RECALL = "recall"  # repeats an earlier study to see what would have changed


class Mode(StrEnum):
    """How the slices of an analysis were analysed."""

    VOLUME = "volume"  # all together with adjacent slices
    SLICES = "slices"  # each separately
    MIXED = "mixed"  # some series one way, some the other


class Priority(StrEnum):
    """How soon a study should be read; urgent ones are listed first."""

    ROUTINE = "routine"
    URGENT = "urgent"


class Patient(Timestamped, OrganisationOwned, Base):
    """A patient, known only by a pseudonymous code."""

    __tablename__ = "patient"
    __table_args__ = (UniqueConstraint("organisation_id", "code"),)

    id: Mapped[Identifier]
    organisation_id: Mapped[uuid.UUID] = owner_without_index()
    code: Mapped[str] = mapped_column(String(64))


class Study(Timestamped, OrganisationOwned, Base):
    """Images that belong together. Its current analysis owns its result.

    ``uid`` is the pseudonymous Study Instance UID of a study that came as DICOM; it is unique in
    an organisation. ``acquired_on`` is its date, shifted by the patient's offset. ``left_out``
    counts skipped files by reason code.

    Attributes:
        current_analysis_id: the newest analysis for serving. It covers all images of the study:
            code that adds or removes images requests a new one in the same transaction
            (:func:`webapp.inference.analyses.request_analysis`). None only within the transaction
            that creates the study.
    """

    __tablename__ = "study"
    __table_args__ = (
        Index("ix_study_worklist", "organisation_id", "created_at", "id"),
        UniqueConstraint("organisation_id", "uid"),
    )

    id: Mapped[Identifier]
    organisation_id: Mapped[uuid.UUID] = owner_without_index()
    patient_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("patient.id"), index=True)
    uploaded_by_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"), index=True)
    description: Mapped[str] = mapped_column(String(200), default="")
    priority: Mapped[Priority] = mapped_column(
        enum_column(Priority, "priority"), default=Priority.ROUTINE
    )
    uid: Mapped[str | None] = mapped_column(String(64))
    acquired_on: Mapped[date | None]
    node_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("pacs_node.id"))
    left_out: Mapped[dict[str, int]] = mapped_column(default=dict)
    current_analysis_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("analysis.id", use_alter=True), index=True
    )

    patient: Mapped[Patient] = relationship(lazy="joined")
    uploaded_by: Mapped[User] = relationship()
    series: Mapped[list["Series"]] = relationship(
        order_by="Series.position", back_populates="study", cascade="all, delete-orphan"
    )
    images: Mapped[list["Image"]] = relationship(
        order_by="Image.position", back_populates="study", cascade="all, delete-orphan"
    )
    analyses: Mapped[list["Analysis"]] = relationship(
        order_by="Analysis.number",
        back_populates="study",
        foreign_keys="Analysis.study_id",
        cascade="all, delete-orphan",
    )
    current_analysis: Mapped["Analysis | None"] = relationship(
        foreign_keys=current_analysis_id, lazy="joined", post_update=True
    )

    @property
    def status(self) -> Status:
        """The status of the current analysis."""
        return self.current_analysis.status if self.current_analysis else Status.QUEUED

    @property
    def reason(self) -> str | None:
        """Why the current analysis has no result."""
        return self.current_analysis.reason if self.current_analysis else None

    @property
    def finished_at(self) -> datetime | None:
        """When the current analysis ended."""
        return self.current_analysis.finished_at if self.current_analysis else None


class Series(Timestamped, OrganisationOwned, Base):
    """Slices of a study that belong together: one acquisition, one size, one orientation.

    Attributes:
        position: number in the study, from 0.
        uid: pseudonymous Series Instance UID of a series that came as DICOM.
        plane: ``axial``, ``coronal``, ``sagittal`` or ``oblique``; None if unknown.
        is_stack: its slices are parallel and sorted by position in the head, so that adjacent
            slices are taken into account, whatever the distances.
        is_volume: also evenly spaced and complete, so that other planes can be shown.
        slice_spacing: millimetres between adjacent slices.
        row_direction: direction of increasing column index, a unit vector in DICOM's patient
            coordinate system.
        column_direction: direction of increasing row index.
        missing: number of gaps in the even spacing.
        duplicates: files left out because they repeat a slice.
        slice_order: what the slices are sorted by (:data:`ml.imaging.series.Order`); None in old
            rows.
    """

    __tablename__ = "series"
    __table_args__ = (Index("ix_series_study_id", "study_id"),)

    id: Mapped[Identifier]
    organisation_id: Mapped[uuid.UUID] = owner_without_index()
    study_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
    position: Mapped[int]
    uid: Mapped[str | None] = mapped_column(String(64))
    modality: Mapped[str | None] = mapped_column(String(16))
    plane: Mapped[str | None] = mapped_column(String(16))
    is_stack: Mapped[bool] = mapped_column(default=False)
    is_volume: Mapped[bool] = mapped_column(default=False)
    slice_spacing: Mapped[float | None]
    row_direction: Mapped[list[float] | None]
    column_direction: Mapped[list[float] | None]
    missing: Mapped[int] = mapped_column(default=0)
    duplicates: Mapped[int] = mapped_column(default=0)
    slice_order: Mapped[str | None] = mapped_column(String(16))

    study: Mapped[Study] = relationship(back_populates="series")
    images: Mapped[list["Image"]] = relationship(
        order_by="Image.position", back_populates="series", passive_deletes=True
    )


class Instance(Timestamped, OrganisationOwned, Base):
    """One de-identified DICOM file, stored for the worker and for other viewers.

    All identifiers are pseudonymous. An instance belongs to no study until the study is
    assembled. Its UID is unique in an organisation.

    Attributes:
        study_id: None until the study has been assembled.
        problem: code of :class:`ml.errors.UnreadableImage` if the stored file could not be read
            when its study was assembled; the study has no slice of it.
        pixels_key: SHA-256 of image size and stored pixels, to recognise the same picture under
            other identifiers; None in old rows.
    """

    __tablename__ = "instance"
    __table_args__ = (
        UniqueConstraint("organisation_id", "uid"),
        Index("ix_instance_arrival", "study_id", "created_at"),
        Index("ix_instance_series", "organisation_id", "study_uid", "series_uid"),
        Index("ix_instance_one_series", "organisation_id", "series_uid"),
        Index("ix_instance_newest", "organisation_id", "created_at", "study_uid"),
        Index("ix_instance_last", "organisation_id", "study_uid", "created_at", "id"),
        Index("ix_instance_patient", "organisation_id", "patient_code", "study_uid"),
        Index("ix_instance_date", "organisation_id", "acquired_on", "study_uid"),
        Index("ix_instance_pixels", "organisation_id", "pixels_key"),
        Index("ix_instance_blob", "blob_key"),
    )

    id: Mapped[Identifier]
    organisation_id: Mapped[uuid.UUID] = owner_without_index()
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
    problem: Mapped[str | None] = mapped_column(String(32))

    study: Mapped[Study | None] = relationship()


class Image(Timestamped, OrganisationOwned, Base):
    """One slice. ``blob_key`` is the key of a PNG with only its pixels.

    A slice of a DICOM or NIfTI file is decoded by the worker: until then ``blob_key`` is None,
    and ``source_key`` and ``frame`` identify its source. ``problem`` is the code of
    :class:`ml.errors.UnreadableImage` if the slice could not be decoded or classified.

    Attributes:
        position: number in the study, from 0, across all series.
        source_key: blob of the de-identified file; None for pictures, which are stored as PNG.
        frame: number of the slice in that file, from 0.
        instance_id: the DICOM instance, if the file is one.
        row_spacing, column_spacing: millimetres between the centres of adjacent pixels, down and
            across.
        pixel_aspect: height over width of a pixel, if the file has it but no millimetres.
        origin: centre of the first pixel in DICOM's patient coordinate system, millimetres.
        value_scale, value_offset: scanner's value = pixel * scale + offset.
        window_centre, window_width: the file's window, in the scanner's values.
    """

    __tablename__ = "image"
    __table_args__ = (
        UniqueConstraint("study_id", "position"),
        Index("ix_image_blob", "blob_key"),
        Index("ix_image_source", "source_key"),
    )

    id: Mapped[Identifier]
    organisation_id: Mapped[uuid.UUID] = owner_without_index()
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
    pixel_aspect: Mapped[float | None]
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
    def pixel_size(self) -> tuple[float, float] | None:
        """(height, width) of a pixel in mm, or relative to its shorter side; None if unknown."""
        if self.row_spacing and self.column_spacing:
            return self.row_spacing, self.column_spacing
        if self.pixel_aspect:
            return max(1.0, self.pixel_aspect), max(1.0, 1 / self.pixel_aspect)
        return None

    @property
    def prediction(self) -> "Prediction | None":
        """The prediction of the study's current analysis; None until it is done."""
        analysis = self.study.current_analysis
        if analysis is None or analysis.status is not Status.DONE:
            return None
        return next((one for one in self.predictions if one.analysis_id == analysis.id), None)


_SHADOWS = text("purpose = 'shadow' AND status = 'done'")


class Analysis(Timestamped, OrganisationOwned, Base):
    """One run of a model version over a fixed list of images, for one purpose.

    It holds the worker's lease, the progress, the predictions and the result for the study.
    ``attempt`` counts claims and is the fencing token: a worker may write only while the attempt
    is its own. ``lease_until`` is renewed while it works; after it others may claim the analysis.
    The result of a finished analysis never changes.

    Attributes:
        number: from 1, within study and purpose; the highest is the newest.
        candidate_id: the model that it asks; None for serving, where the deployments decide.
        compared_with_id: for shadow and recall, the analysis for serving beside which it stands.
        image_ids: the images to analyse, in the study's order.
        model_version_id: the model used; None until the end.
        label: the class given as the answer for the study.
        probabilities, in_distribution: those of the first key image.
        prediction_set: classes not ruled out for the study (:mod:`ml.aggregation`).
        in_distribution_share: fraction of images that resemble the training data.
        key_image_ids: images that represent the study, most significant first.
        contradicting_images: id -> label of images that suggest another tumour than the study's
            result: the most significant one of each class.
        mode: whether adjacent slices were taken into account.
    """

    __tablename__ = "analysis"
    __table_args__ = (
        UniqueConstraint("study_id", "purpose", "number"),
        Index("ix_analysis_newest", "organisation_id", "purpose", "created_at", "id"),
        Index("ix_analysis_waiting", "status", "purpose", "created_at"),
        Index("ix_analysis_started_at", "started_at"),
        Index("ix_analysis_states", "organisation_id", "purpose", "status", "created_at"),
        Index(
            "ix_analysis_shadow",
            "organisation_id",
            "finished_at",
            sqlite_where=_SHADOWS,
            postgresql_where=_SHADOWS,
        ),
    )

    id: Mapped[Identifier]
    organisation_id: Mapped[uuid.UUID] = owner_without_index()
    study_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
    purpose: Mapped[Purpose] = mapped_column(
        enum_column(Purpose, "purpose"), default=Purpose.SERVING
    )
    number: Mapped[int] = mapped_column(default=1)
    candidate_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("candidate.id"), index=True)
    compared_with_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("analysis.id", ondelete="CASCADE"), index=True
    )
    image_ids: Mapped[list[str]] = mapped_column(default=list, deferred=True)
    status: Mapped[Status] = mapped_column(
        enum_column(Status, "status"), default=Status.QUEUED, index=True
    )
    attempt: Mapped[int] = mapped_column(default=0)
    images_total: Mapped[int] = mapped_column(default=0)
    images_done: Mapped[int] = mapped_column(default=0)
    sent_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]
    finished_at: Mapped[datetime | None] = mapped_column(index=True)
    model_ms: Mapped[float | None]
    reason: Mapped[str | None] = mapped_column(String(64))
    model_version_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("model_version.id"))
    mode: Mapped[Mode | None] = mapped_column(enum_column(Mode, "mode"))
    label: Mapped[str | None] = mapped_column(String(16), index=True)
    probabilities: Mapped[dict[str, float] | None]
    prediction_set: Mapped[list[str] | None]
    in_distribution: Mapped[bool | None]
    in_distribution_share: Mapped[float | None]
    key_image_ids: Mapped[list[str] | None]
    contradicting_images: Mapped[dict[str, str] | None]

    study: Mapped[Study] = relationship(back_populates="analyses", foreign_keys=study_id)
    model_version: Mapped[ModelVersion | None] = relationship()
    compared_with: Mapped["Analysis | None"] = relationship(remote_side="Analysis.id")
    predictions: Mapped[list["Prediction"]] = relationship(
        back_populates="analysis", cascade="all, delete-orphan", passive_deletes=True
    )


class Prediction(Timestamped, OrganisationOwned, Base):
    """The prediction of one analysis for one image."""

    __tablename__ = "prediction"
    __table_args__ = (
        UniqueConstraint("analysis_id", "image_id"),
        Index("ix_prediction_heatmap", "heatmap_key"),
    )

    id: Mapped[Identifier]
    organisation_id: Mapped[uuid.UUID] = owner_without_index()
    analysis_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("analysis.id", ondelete="CASCADE"))
    image_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("image.id", ondelete="CASCADE"), index=True
    )
    label: Mapped[str] = mapped_column(String(16))
    probabilities: Mapped[dict[str, float]]
    prediction_set: Mapped[list[str]]
    in_distribution: Mapped[bool]
    ood_score: Mapped[float]
    # Values of ml.serving.quality.QualityFlag; empty in rows from before they were recorded.
    quality: Mapped[list[str]] = mapped_column(default=list)
    heatmap_key: Mapped[str | None] = mapped_column(String(64))

    analysis: Mapped[Analysis] = relationship(back_populates="predictions")
    image: Mapped[Image] = relationship(back_populates="predictions")


class IdempotencyKey(Timestamped, OrganisationOwned, Base):
    """A key that an API client chose for one upload, and the study that resulted.

    ``further_study_ids`` has the other studies of an upload that was split.
    """

    __tablename__ = "idempotency_key"
    __table_args__ = (UniqueConstraint("user_id", "key"),)

    id: Mapped[Identifier]
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))
    key: Mapped[str] = mapped_column(String(200))
    fingerprint: Mapped[str] = mapped_column(String(64))
    study_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
    further_study_ids: Mapped[list[str] | None]
