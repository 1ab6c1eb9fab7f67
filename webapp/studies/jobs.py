"""How a job moves from queued to its end. The worker and the sweeper call these, nobody else.

Every function that changes a job names the attempt it believes in (a fencing token). A worker
that lost its lease, because it hung or was taken for dead, can therefore neither report progress
nor finish: its update finds no row.
"""

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.orm import joinedload

from ml.volumes import SliceAnswer, answer_study
from webapp import audit
from webapp.database import db, now
from webapp.models_admin.models import ModelVersion
from webapp.pacs.deliveries import queue_automatic_deliveries
from webapp.studies.models import Image, InferenceJob, Prediction, Status, Study
from webapp.tenancy import acting_for, unscoped

LEASE = timedelta(seconds=20)
MAX_ATTEMPTS = 4
# A message that no worker picked up for this long is sent again; twice is harmless.
RESEND_AFTER = timedelta(seconds=15)
_NO_TUMOR = "no_tumor"


class LeaseLost(Exception):
    """Another worker has taken the job over; what this one found is dropped."""


@dataclass(frozen=True)
class Claim:
    """A job that this worker may work on until the lease ends."""

    job_id: uuid.UUID
    study_id: uuid.UUID
    organisation_id: uuid.UUID
    attempt: int
    images: tuple["ClaimedImage", ...]
    """In the order of the study."""


@dataclass(frozen=True)
class ClaimedImage:
    """What a worker has to know of an image; the fields are those of :class:`Image`."""

    id: uuid.UUID
    series_id: uuid.UUID
    in_volume: bool
    plane: str | None
    blob_key: str | None
    source_key: str | None
    frame: int
    spacing: tuple[float, float] | None


@dataclass(frozen=True)
class Decoded:
    """A slice that the worker has decoded and kept as a PNG; the fields are those of Image."""

    image_id: uuid.UUID
    blob_key: str
    width: int
    height: int
    value_scale: float
    value_offset: float
    window_centre: float | None
    window_width: float | None


@dataclass(frozen=True)
class Answer:
    """What the model says about one image, ready to be kept.

    Attributes:
        tumor_by_places, head_share: help to choose the key images and are not kept.
    """

    image_id: uuid.UUID
    label: str
    probabilities: dict[str, float]
    prediction_set: list[str]
    in_distribution: bool
    ood_score: float
    heatmap_key: str | None
    quality: list[str]
    tumor_by_places: float | None = None
    head_share: float = 1.0


def claim_job(job_id: uuid.UUID) -> Claim | None:
    """Take the job if it is free: queued, or running with a lease that is over.

    One UPDATE decides, so that of two workers exactly one gets it, on either database.

    Returns:
        None if there is nothing to do.
    """
    moment = now()
    with unscoped():
        attempt = db.session.scalar(
            update(InferenceJob)
            .where(
                InferenceJob.id == job_id,
                _is_free(moment),
                InferenceJob.attempt < MAX_ATTEMPTS,
            )
            .values(
                status=Status.RUNNING,
                attempt=InferenceJob.attempt + 1,
                images_done=0,
                started_at=moment,
                lease_until=moment + LEASE,
            )
            .returning(InferenceJob.attempt)
            .execution_options(synchronize_session=False)
        )
        if attempt is None:
            db.session.rollback()
            return None
        job = db.session.get_one(InferenceJob, job_id, populate_existing=True)
        job.study.status = Status.RUNNING
        claim = Claim(
            job_id=job.id,
            study_id=job.study_id,
            organisation_id=job.organisation_id,
            attempt=attempt,
            images=_claimed_images(job.study_id),
        )
        db.session.commit()
    return claim


def record_progress(claim: Claim, *, images_done: int, decoded: Sequence[Decoded] = ()) -> None:
    """Count the images that are through, keep what was decoded, and renew the lease.

    Raises:
        LeaseLost: the job is no longer this worker's; nothing was kept.
    """
    _update_own(claim, images_done=images_done, lease_until=now() + LEASE)
    _keep_decoded(claim, decoded)
    db.session.commit()


def finish_job(
    claim: Claim,
    *,
    answers: Sequence[Answer],
    problems: dict[uuid.UUID, str],
    model: ModelVersion,
    model_ms: float,
    decoded: Sequence[Decoded] = (),
) -> None:
    """Keep all answers and end the job as done, or as rejected where no image could be used.

    Args:
        problems: image id -> code, for images that could not be classified.
        model_ms: time that the model itself took, in milliseconds.

    Raises:
        LeaseLost: the job is no longer this worker's; nothing was kept.
    """
    status = Status.DONE if answers else Status.REJECTED
    reason = None if answers else _common_reason(problems)
    with acting_for(claim.organisation_id):
        # The fence comes first: it locks the row until the commit.
        _update_own(
            claim,
            status=status,
            reason=reason,
            images_done=len(claim.images),
            model_ms=model_ms,
            finished_at=now(),
            lease_until=None,
        )
        study = db.session.get_one(Study, claim.study_id)
        _keep_decoded(claim, decoded)
        _keep_answers(answers, model)
        _keep_problems(claim, problems)
        _conclude(study, status, reason, claim, answers)
        audit.record("classify_study", subject=study, status=status.value, model=model.sha256[:12])
        queue_automatic_deliveries(study)
        db.session.commit()


def fail_job(claim: Claim, *, reason: str) -> None:
    """End the job as failed; the user may try again.

    Raises:
        LeaseLost: the job is no longer this worker's.
    """
    with acting_for(claim.organisation_id):
        _update_own(claim, status=Status.FAILED, reason=reason, finished_at=now(), lease_until=None)
        _fail_study(claim.study_id, reason)
        db.session.commit()


def release_job(claim: Claim, *, wait: timedelta) -> None:
    """Put the job back into the queue, for another attempt after a passing fault.

    Args:
        wait: how long the caller lets its next message wait; the sweeper waits as long.

    Raises:
        LeaseLost: the job is no longer this worker's.
    """
    with acting_for(claim.organisation_id):
        _update_own(claim, status=Status.QUEUED, lease_until=None, sent_at=now() + wait)
        db.session.get_one(Study, claim.study_id).status = Status.QUEUED
        db.session.commit()


def jobs_to_resend() -> list[uuid.UUID]:
    """Find jobs that nobody works on, mark them as sent now, and return their ids.

    These are queued jobs whose message went long ago (the broker may have lost it) and running
    ones whose lease is over (the worker died). Jobs that have used up their attempts are ended.
    """
    moment = now()
    with unscoped():
        _give_up_exhausted(moment)
        ids = list(
            db.session.scalars(
                update(InferenceJob)
                .where(
                    InferenceJob.sent_at < moment - RESEND_AFTER,
                    _is_free(moment),
                )
                .values(sent_at=moment)
                .returning(InferenceJob.id)
                .execution_options(synchronize_session=False)
            )
        )
        db.session.commit()
    return ids


def _is_free(moment: datetime) -> ColumnElement[bool]:
    """Nobody works on the job: it is queued, or its lease is over."""
    over = and_(InferenceJob.status == Status.RUNNING, InferenceJob.lease_until < moment)
    return or_(InferenceJob.status == Status.QUEUED, over)


def _give_up_exhausted(moment: datetime) -> None:
    exhausted = db.session.scalars(
        select(InferenceJob)
        .where(
            InferenceJob.attempt >= MAX_ATTEMPTS,
            _is_free(moment),
        )
        .with_for_update(skip_locked=True)
    )
    for job in exhausted:
        job.status, job.reason, job.finished_at = Status.FAILED, "gave_up", moment
        job.lease_until = None
        with acting_for(job.organisation_id):
            _fail_study(job.study_id, "gave_up")
            db.session.flush()


def _update_own(claim: Claim, **values: object) -> None:
    with acting_for(claim.organisation_id):
        found = db.session.scalar(
            update(InferenceJob)
            .where(
                InferenceJob.id == claim.job_id,
                InferenceJob.attempt == claim.attempt,
                InferenceJob.status == Status.RUNNING,
            )
            .values(**values)
            .returning(InferenceJob.id)
            .execution_options(synchronize_session=False)
        )
    if found is None:
        db.session.rollback()
        raise LeaseLost(str(claim.job_id))


def _claimed_images(study_id: uuid.UUID) -> tuple[ClaimedImage, ...]:
    found = db.session.scalars(
        select(Image)
        .where(Image.study_id == study_id)
        .order_by(Image.position)
        .options(joinedload(Image.series))
        .execution_options(populate_existing=True)
    )
    return tuple(
        ClaimedImage(
            id=image.id,
            series_id=image.series_id,
            in_volume=image.series.is_volume,
            plane=image.series.plane,
            blob_key=image.blob_key,
            source_key=image.source_key,
            frame=image.frame,
            spacing=(image.row_spacing, image.column_spacing)
            if image.row_spacing and image.column_spacing
            else None,
        )
        for image in found
    )


def _keep_decoded(claim: Claim, decoded: Sequence[Decoded]) -> None:
    if not decoded:
        return
    rows = [{"id": one.image_id} | _columns(one) for one in decoded]
    with acting_for(claim.organisation_id):
        db.session.execute(update(Image), rows)


def _columns(decoded: Decoded) -> dict[str, Any]:
    values = asdict(decoded)
    del values["image_id"]
    return values


def _keep_problems(claim: Claim, problems: dict[uuid.UUID, str]) -> None:
    ids = [image.id for image in claim.images]
    db.session.execute(update(Image).where(Image.id.in_(ids)).values(problem=None))
    for image_id, code in problems.items():
        db.session.execute(update(Image).where(Image.id == image_id).values(problem=code))


def _keep_answers(answers: Sequence[Answer], model: ModelVersion) -> None:
    """Add predictions; the same model's earlier row for an image stays as it is."""
    known = set(
        db.session.scalars(
            select(Prediction.image_id).where(
                Prediction.model_version_id == model.id,
                Prediction.image_id.in_([answer.image_id for answer in answers]),
            )
        )
    )
    db.session.add_all(
        Prediction(
            image_id=answer.image_id,
            model_version_id=model.id,
            label=answer.label,
            probabilities=answer.probabilities,
            prediction_set=answer.prediction_set,
            in_distribution=answer.in_distribution,
            ood_score=answer.ood_score,
            quality=answer.quality,
            heatmap_key=answer.heatmap_key,
        )
        for answer in answers
        if answer.image_id not in known
    )


def _conclude(
    study: Study, status: Status, reason: str | None, claim: Claim, answers: Sequence[Answer]
) -> None:
    study.status = status
    study.reason = reason
    study.finished_at = now()
    if not answers:
        return
    images = {image.id: image for image in claim.images}
    series = dict.fromkeys(image.series_id for image in claim.images)
    numbers = {series_id: number for number, series_id in enumerate(series)}
    found = answer_study(
        [
            SliceAnswer(
                series=numbers[images[answer.image_id].series_id],
                in_volume=images[answer.image_id].in_volume,
                label=answer.label,
                probabilities=answer.probabilities,
                prediction_set=answer.prediction_set,
                in_distribution=answer.in_distribution,
                tumor_by_places=answer.tumor_by_places,
                head_share=answer.head_share,
            )
            for answer in answers
        ]
    )
    key = answers[found.key[0]]
    study.label = key.label
    study.probabilities = key.probabilities
    study.prediction_set = [label.value for label in found.prediction_set]
    study.in_distribution = key.in_distribution
    study.in_distribution_share = found.in_distribution_share
    study.key_image_ids = [str(answers[index].image_id) for index in found.key]
    study.dissenting_image_ids = [str(answers[index].image_id) for index in found.contradicting]


def tumor_probability(answer: "Answer | Prediction") -> float:
    """How likely the slice holds a tumour of any class; the key image has the highest."""
    return 1.0 - answer.probabilities[_NO_TUMOR]


def key_images(study: Study, images: Sequence[Image]) -> list[Image]:
    """The images that stand for the study, the most telling first; before the end the first.

    Studies from before key images were kept are represented by their likeliest tumour.
    """
    if chosen := _chosen(study.key_image_ids, images):
        return chosen
    answered = [(found, image) for image in images if (found := image.prediction) is not None]
    if answered:
        return [max(answered, key=lambda pair: tumor_probability(pair[0]))[1]]
    return list(images[:1])


def dissenting_images(study: Study, images: Sequence[Image]) -> list[Image]:
    """The images that speak for another tumour than the study is said to have."""
    return _chosen(study.dissenting_image_ids, images)


def _chosen(ids: Sequence[str] | None, images: Sequence[Image]) -> list[Image]:
    """In the order of ``ids``; those of other images are passed over."""
    known = {str(image.id): image for image in images}
    return [known[key] for key in ids or [] if key in known]


def _common_reason(problems: dict[uuid.UUID, str]) -> str:
    codes = set(problems.values())
    return codes.pop() if len(codes) == 1 else "no_usable_image"


def _fail_study(study_id: uuid.UUID, reason: str) -> None:
    study = db.session.get_one(Study, study_id)
    study.status = Status.FAILED
    study.reason = reason
    study.finished_at = now()
    audit.record("give_up_study", subject=study, reason=reason)
