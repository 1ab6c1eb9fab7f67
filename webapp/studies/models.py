"""Patients, studies, images, analyses and predictions."""

import uuid
from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.accounts.models import User
from webapp.database import Base, Identifier, Timestamped, enum_column, now
from webapp.models_admin.models import ModelVersion
from webapp.tenancy import OrganisationOwned


class Status(StrEnum):
    """State of an analysis; that of a study is that of its current analysis."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"  # a newer one took over before it ended; never a study's state

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self not in {Status.QUEUED, Status.RUNNING}


class Purpose(StrEnum):
    """What an analysis is made for."""

    SERVING = "serving"  # its answer is the study's
    SHADOW = "shadow"  # another model looks at the same images; nobody is shown its answer
    RECALL = "recall"  # an earlier study is answered anew to see what would have changed


class Mode(StrEnum):
    """How the slices of an analysis were looked at."""

    VOLUME = "volume"  # all of them in the light of adjacent ones
    SLICES = "slices"  # each by itself
    MIXED = "mixed"  # some series this way, some that way


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
    """What arrived together. What is said about it, its current analysis owns.

    ``uid`` is the pseudonymous Study Instance UID where the study came as DICOM; an organisation
    holds each such study once. ``acquired_on`` is its date, shifted by the patient's offset.
    ``left_out`` counts files that were not taken in, by the code of their reason.

    Attributes:
        current_analysis_id: the newest analysis for serving. It is of all images that the study
            has: whoever adds or takes away images asks for a new one in the same transaction
            (:func:`webapp.inference.analyses.request_analysis`). None only inside of the
            transaction that makes the study.
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
        """That of the current analysis."""
        return self.current_analysis.status if self.current_analysis else Status.QUEUED

    @property
    def reason(self) -> str | None:
        """Why the current analysis ended without an answer."""
        return self.current_analysis.reason if self.current_analysis else None

    @property
    def finished_at(self) -> datetime | None:
        """When the current analysis ended."""
        return self.current_analysis.finished_at if self.current_analysis else None


class Series(Timestamped, OrganisationOwned, Base):
    """Slices of a study that belong together: one acquisition, one size, one orientation.

    Attributes:
        position: number inside the study, from 0.
        uid: pseudonymous Series Instance UID where it came as DICOM.
        plane: ``axial``, ``coronal``, ``sagittal`` or ``oblique``; None where nothing tells.
        is_stack: its slices are parallel and in order by their place in the head, so that each is
            answered in the light of the adjacent ones, whatever the distances.
        is_volume: they are evenly spaced as well and none is missing, so that other planes can be
            shown.
        slice_spacing: millimetres between neighbouring slices.
        row_direction: where the column index grows to, a unit vector of DICOM's patient system.
        column_direction: where the row index grows to.
        missing: slices that the even spacing asks for and that did not come.
        duplicates: files that were left out since they show the same slice again.
        slice_order: what the order of its slices goes by (:data:`ml.imaging.series.Order`); None
            in rows from before.
    """

    __tablename__ = "series"
    __table_args__ = (Index("ix_series_study_id", "study_id"),)

    id: Mapped[Identifier]
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
    """One DICOM file, de-identified, as it is kept for the worker and for other viewers.

    All identifiers are pseudonymous. Until its series is complete an instance belongs to no
    study. An organisation holds each SOP instance once.

    Attributes:
        study_id: None until the study has been put together.
        problem: code of :class:`ml.errors.UnreadableImage` where the kept file can no longer be
            read when its study is put together; it then has no slice in it.
        pixels_key: SHA-256 of size and stored pixels, by which the same picture is found again
            under other identifiers; None in rows from before.
    """

    __tablename__ = "instance"
    __table_args__ = (
        UniqueConstraint("organisation_id", "uid"),
        Index("ix_instance_arrival", "study_id", "created_at"),
        Index("ix_instance_series", "organisation_id", "study_uid", "series_uid"),
        Index("ix_instance_pixels", "organisation_id", "pixels_key"),
        Index("ix_instance_blob", "blob_key"),
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
    problem: Mapped[str | None] = mapped_column(String(32))

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
        pixel_aspect: height of a pixel over its width, where the file says that and no
            millimetres.
        origin: centre of the first pixel in DICOM's patient coordinate system, millimetres.
        value_scale, value_offset: scanner's value = pixel * scale + offset.
        window_centre, window_width: the file's own suggestion, in the scanner's values.
    """

    __tablename__ = "image"
    __table_args__ = (
        UniqueConstraint("study_id", "position"),
        Index("ix_image_blob", "blob_key"),
        Index("ix_image_source", "source_key"),
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
        """Height and width of a pixel: in millimetres, or of its shorter side; None if unknown."""
        if self.row_spacing and self.column_spacing:
            return self.row_spacing, self.column_spacing
        if self.pixel_aspect:
            return max(1.0, self.pixel_aspect), max(1.0, 1 / self.pixel_aspect)
        return None

    @property
    def prediction(self) -> "Prediction | None":
        """The answer of the study's current analysis, or None until it has ended."""
        analysis = self.study.current_analysis
        if analysis is None or analysis.status is not Status.DONE:
            return None
        return next((one for one in self.predictions if one.analysis_id == analysis.id), None)


class Analysis(Timestamped, OrganisationOwned, Base):
    """One model version's pass over a fixed list of images, for one purpose.

    It owns the lease of the worker, the progress, the predictions and the answer about the study.
    ``attempt`` counts claims and fences them: a worker may write results only while the attempt
    is still its own. ``lease_until`` is renewed while it works; once over, others may claim.
    What an ended analysis says never changes.

    Attributes:
        number: from 1, inside the study and purpose; the highest one is the newest.
        image_ids: the images that it is of, in the study's order.
        model_version_id: the model that answered; None until the end.
        label: what the study is called.
        probabilities, in_distribution: those of the first key image.
        prediction_set: what cannot be ruled out for the study (:mod:`ml.aggregation`).
        in_distribution_share: share of images that look like what the model has learnt.
        key_image_ids: those that stand for the study, the most telling first.
        contradicting_images: id -> label of images that speak for another tumour than the study
            is said to have: the most telling one of each class.
        mode: whether slices were looked at together with adjacent ones.
    """

    __tablename__ = "analysis"
    __table_args__ = (UniqueConstraint("study_id", "purpose", "number"),)

    id: Mapped[Identifier]
    study_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
    purpose: Mapped[Purpose] = mapped_column(
        enum_column(Purpose, "purpose"), default=Purpose.SERVING
    )
    number: Mapped[int] = mapped_column(default=1)
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
    finished_at: Mapped[datetime | None]
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
    predictions: Mapped[list["Prediction"]] = relationship(
        back_populates="analysis", cascade="all, delete-orphan", passive_deletes=True
    )


class Prediction(Timestamped, OrganisationOwned, Base):
    """What one analysis says about one image."""

    __tablename__ = "prediction"
    __table_args__ = (
        UniqueConstraint("analysis_id", "image_id"),
        Index("ix_prediction_heatmap", "heatmap_key"),
    )

    id: Mapped[Identifier]
    analysis_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("analysis.id", ondelete="CASCADE"))
    image_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("image.id", ondelete="CASCADE"), index=True
    )
    label: Mapped[str] = mapped_column(String(16))
    probabilities: Mapped[dict[str, float]]
    prediction_set: Mapped[list[str]]
    in_distribution: Mapped[bool]
    ood_score: Mapped[float]
    # Values of ml.serving.quality.QualityFlag; what was predicted before them has none.
    quality: Mapped[list[str]] = mapped_column(default=list)
    heatmap_key: Mapped[str | None] = mapped_column(String(64))

    analysis: Mapped[Analysis] = relationship(back_populates="predictions")
    image: Mapped[Image] = relationship(back_populates="predictions")


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
