"""The content of a report, read once from a finished study for PDF, DICOM and FHIR."""

import hashlib
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from flask_babel import gettext as _
from sqlalchemy import func, select
from sqlalchemy.orm import contains_eager, joinedload, lazyload

from webapp.accounts.models import User
from webapp.database import db
from webapp.errors import Conflict
from webapp.inference.results import StudyResult, model_of, result_of
from webapp.review.models import Assessment
from webapp.review.queries import visible_to
from webapp.studies.models import Image, Instance, Prediction, Series, Study
from webapp.studies.queries import images_of
from webapp.viewer.orientation import patient_orientation
from webapp.viewer.series import are_slices
from webapp.viewer.windowing import Suggestion, suggestion_of
from webapp.wording import GUESSED_ORDERS, order_note

NOTICE = "Research software. Not a certified medical device; not for diagnosis."
"""In English for DICOM and FHIR; pages and PDF show it in the user's language."""
SCOPE = "The model recognises glioma, meningioma and pituitary tumour, and no other disease."
"""As :data:`NOTICE`."""


@dataclass(frozen=True)
class ReportedAnswer:
    """The model's answer for one slice or for the whole study.

    Attributes:
        probabilities: class -> calibrated probability; they sum to 1.
        prediction_set: classes that are not ruled out.
    """

    label: str
    probabilities: Mapping[str, float]
    prediction_set: tuple[str, ...]
    in_distribution: bool

    @property
    def tumor_probability(self) -> float:
        """Probability of a tumour of any class."""
        return 1.0 - self.probabilities["no_tumor"]


@dataclass(frozen=True)
class DicomSource:
    """The DICOM instance from which a slice comes; all identifiers are pseudonymous.

    Attributes:
        frame: number of the frame, from 1; None if the instance has only one.
    """

    uid: str
    class_uid: str
    series_uid: str
    blob_key: str
    frame: int | None


@dataclass(frozen=True)
class ReportedSlice:
    """One of the slices that represent the study.

    Attributes:
        number: its position in the study, from 1.
        blob_key: PNG of its pixels.
        heatmap_key: PNG with transparency, of the same size.
        row_spacing, column_spacing: millimetres between rows and between columns.
        orientation: letters of DICOM's Patient Orientation (PS3.3 C.7.6.1.1.1), such as
            ``("L", "P")``, if the file has the orientation.
        window: the grey values that the file suggests to display.
        pixel_aspect: height over width of a pixel, if the spacing in millimetres is unknown.
    """

    id: uuid.UUID
    number: int
    answer: ReportedAnswer
    blob_key: str
    heatmap_key: str | None
    width: int
    height: int
    row_spacing: float | None
    column_spacing: float | None
    orientation: tuple[str, str] | None
    source: DicomSource | None
    window: Suggestion | None = None
    pixel_aspect: float | None = None


@dataclass(frozen=True)
class ChartPoint:
    """One point of the strip chart; ``tumor_probability`` is None if there is no prediction."""

    number: int
    tumor_probability: float | None


@dataclass(frozen=True)
class Reading:
    """A reader's current assessment.

    Attributes:
        number: of the slice, from 1; None for the whole study.
        finding: the reader's finding, if it is none of the model's classes.
    """

    number: int | None
    reader: str
    verdict: str
    label: str | None
    confidence: str | None
    comment: str
    at: datetime
    finding: str = ""


@dataclass(frozen=True)
class SeriesFacts:
    """One series of the study in a report."""

    uid: str
    modality: str
    instances: int


@dataclass(frozen=True)
class ReportContent:
    """All content of a report. It has no patient names: the portal stores none.

    Attributes:
        uid: Study Instance UID; made from ``study_id`` for a study without DICOM files.
        is_dicom: whether the study came as DICOM.
        patient_code: the pseudonym shown in the portal.
        dicom_patient_id: the pseudonym in the study's DICOM files.
        result: the study's result, as on every page.
        key_slices: most significant first, with the ``contradicting`` ones at the end.
        contradicting: those that suggest another tumour than the study's result.
        slices: all slices in order, one point each.
        readings: assessments that the requesting reader may see.
        hidden_readings: number of those hidden until that reader has assessed the study.
        is_of_slices: whether the images are slices of a series, not single pictures.
        guessed_orders: the distinct ways in which the order of a series' slices was guessed.
    """

    study_id: uuid.UUID
    uid: str
    is_dicom: bool
    patient_code: str
    dicom_patient_id: str
    description: str
    acquired_on: date | None
    created_at: datetime
    finished_at: datetime
    uploaded_by: str
    organisation: str
    model_name: str
    model_sha256: str
    result: StudyResult
    key_slices: tuple[ReportedSlice, ...]
    contradicting: tuple[ReportedSlice, ...]
    slices: tuple[ChartPoint, ...]
    series: tuple[SeriesFacts, ...]
    readings: tuple[Reading, ...]
    hidden_readings: int = 0
    is_of_slices: bool = False
    guessed_orders: tuple[str, ...] = ()

    @property
    def order_notes(self) -> list[str]:
        """How the order of slices was guessed, in the user's language."""
        return [str(GUESSED_ORDERS[one]) for one in self.guessed_orders]

    @property
    def answer(self) -> ReportedAnswer:
        """The study's result as a :class:`ReportedAnswer`."""
        return ReportedAnswer(
            label=self.result.label,
            probabilities=self.result.probabilities,
            prediction_set=self.result.prediction_set,
            in_distribution=self.result.in_distribution,
        )

    @property
    def in_distribution_share(self) -> float | None:
        """Fraction of the slices that resemble the training data."""
        return self.result.in_distribution_share

    @property
    def model_version(self) -> str:
        """A prefix of the weights' hash, long enough to distinguish models."""
        return self.model_sha256[:12]

    @property
    def answer_digest(self) -> str:
        """A hash of the answer; it changes if a new analysis gives another answer."""
        parts: list[object] = [
            self.study_id,
            self.model_sha256,
            len(self.slices),
            self.result.label,
        ]
        for key in self.key_slices:
            parts += [key.id, sorted(key.answer.probabilities.items()), key.answer.prediction_set]
        parts.append(self.answer.prediction_set)
        return hashlib.sha256(repr(parts).encode()).hexdigest()


def gather(study: Study, *, reader: User | None = None) -> ReportContent:
    """Read everything that a report of ``study`` needs.

    Args:
        reader: who requests it; None for a report to an archive, without assessments.

    Raises:
        Conflict: the study has no result.
    """
    result, model = result_of(study), model_of(study)
    if result is None or model is None:
        raise Conflict(_("A report is available once the study has been analysed."))
    images = images_of(study)
    series = _series_of(images)
    keys = _key_slices(_chosen(result.key_images, images), series)
    contradicting = _key_slices(_chosen(tuple(result.contradicting), images), series)
    if not keys:
        raise Conflict(_("The stored image can no longer be read."))
    readings, hidden = _readings(study, reader) if reader else ((), 0)
    return ReportContent(
        study_id=study.id,
        uid=study.uid or uid_of(study.id),
        is_dicom=study.uid is not None,
        patient_code=study.patient.code,
        dicom_patient_id=_dicom_patient_id(study, images),
        description=study.description,
        acquired_on=study.acquired_on,
        created_at=study.created_at,
        finished_at=result.finished_at,
        uploaded_by=study.uploaded_by.name,
        organisation=study.uploaded_by.organisation.name,
        model_name=model.name,
        model_sha256=model.sha256,
        result=result,
        key_slices=keys + contradicting,
        contradicting=contradicting,
        slices=tuple(_slice_answer(image) for image in images),
        series=_series(series.values(), images),
        readings=readings,
        hidden_readings=hidden,
        is_of_slices=are_slices(series.values()),
        guessed_orders=_guessed_orders(series, images),
    )


def uid_of(key: uuid.UUID) -> str:
    """A DICOM UID from a UUID (PS3.5 B.2)."""
    return f"2.25.{key.int}"


def _chosen(ids: Sequence[uuid.UUID], images: Sequence[Image]) -> list[Image]:
    """The images with these ids, in the order of ``ids``."""
    known = {image.id: image for image in images}
    return [known[one] for one in ids if one in known]


def _key_slices(
    chosen: Sequence[Image], series: Mapping[uuid.UUID, Series]
) -> tuple[ReportedSlice, ...]:
    instances = _instances(chosen)
    found = (
        _key_slice(image, series[image.series_id], instances.get(image.instance_id))
        for image in chosen
    )
    return tuple(key for key in found if key is not None)


def _key_slice(image: Image, series: Series, instance: Instance | None) -> ReportedSlice | None:
    prediction = image.prediction
    if prediction is None or image.blob_key is None:
        return None
    return ReportedSlice(
        id=image.id,
        number=image.position + 1,
        answer=_answer(prediction),
        blob_key=image.blob_key,
        heatmap_key=prediction.heatmap_key,
        width=image.width,
        height=image.height,
        row_spacing=image.row_spacing,
        column_spacing=image.column_spacing,
        orientation=patient_orientation(series),
        source=_source(instance, image) if instance else None,
        window=suggestion_of(image),
        pixel_aspect=image.pixel_aspect,
    )


def _answer(prediction: Prediction) -> ReportedAnswer:
    return ReportedAnswer(
        label=prediction.label,
        probabilities=dict(prediction.probabilities),
        prediction_set=tuple(prediction.prediction_set),
        in_distribution=prediction.in_distribution,
    )


def _source(instance: Instance, image: Image) -> DicomSource:
    return DicomSource(
        uid=instance.uid,
        class_uid=instance.sop_class_uid,
        series_uid=instance.series_uid,
        blob_key=instance.blob_key,
        frame=image.frame + 1 if instance.frames > 1 else None,
    )


def _instances(images: Sequence[Image]) -> dict[uuid.UUID | None, Instance]:
    ids = [image.instance_id for image in images if image.instance_id]
    found = db.session.scalars(select(Instance).where(Instance.id.in_(ids))) if ids else ()
    return {instance.id: instance for instance in found}


def _series_of(images: Sequence[Image]) -> dict[uuid.UUID, Series]:
    ids = {image.series_id for image in images}
    return {row.id: row for row in db.session.scalars(select(Series).where(Series.id.in_(ids)))}


def _dicom_patient_id(study: Study, images: Sequence[Image]) -> str:
    """The pseudonym in the DICOM files: other systems do not know the code chosen at upload."""
    if study.uid is None:
        return study.patient.code
    code = db.session.scalar(
        select(Instance.patient_code)
        .where(Instance.id.in_([image.instance_id for image in images if image.instance_id]))
        .limit(1)
    )
    return code or study.patient.code


def _slice_answer(image: Image) -> ChartPoint:
    prediction = image.prediction
    tumor = 1.0 - prediction.probabilities["no_tumor"] if prediction else None
    return ChartPoint(image.position + 1, tumor)


def _series(found: Iterable[Series], images: Sequence[Image]) -> tuple[SeriesFacts, ...]:
    rows = sorted(found, key=lambda series: series.position)
    return tuple(
        SeriesFacts(
            uid=series.uid or uid_of(series.id),
            modality=series.modality or "MR",
            instances=len(
                {image.instance_id or image.id for image in images if image.series_id == series.id}
            ),
        )
        for series in rows
    )


def _guessed_orders(series: Mapping[uuid.UUID, Series], images: Sequence[Image]) -> tuple[str, ...]:
    counts = Counter(image.series_id for image in images)
    guessed = {
        one.slice_order: None
        for key, one in series.items()
        if one.slice_order and order_note(one.slice_order, counts[key])
    }
    return tuple(guessed)


def _readings(study: Study, reader: User) -> tuple[tuple[Reading, ...], int]:
    """Assessments that ``reader`` may see, whole study first, and the number of the others."""
    found = db.session.execute(
        select(Assessment, visible_to(reader))
        .outerjoin(Assessment.image)
        .where(Assessment.study_id == study.id, Assessment.superseded_at.is_(None))
        .order_by(func.coalesce(Image.position, -1), Assessment.created_at)
        .options(
            contains_eager(Assessment.image).load_only(Image.position),
            joinedload(Assessment.reader).options(lazyload(User.organisation)),
        )
    ).all()
    shown = tuple(_reading(one) for one, is_visible in found if is_visible)
    return shown, len(found) - len(shown)


def _reading(one: Assessment) -> Reading:
    return Reading(
        number=one.image.position + 1 if one.image else None,
        reader=one.reader.name,
        verdict=one.verdict.value,
        label=one.label,
        finding=one.finding,
        confidence=one.confidence.value if one.confidence else None,
        comment=one.comment,
        at=one.created_at,
    )
