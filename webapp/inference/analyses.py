"""How an analysis moves from queued to its end.

Whoever changes a study's images asks for a new analysis; the worker and the sweeper call the
rest. Every function that changes an analysis names the attempt it believes in (a fencing token),
and an analysis for serving can only be changed while it is its study's current one. A worker that
lost its lease, because it hung or was taken for dead, and one whose images are no longer all that
the study has, can therefore neither report progress nor finish: their update finds no row.
"""

import logging
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from blinker import signal
from flask_babel import gettext as _
from sqlalchemy import ColumnElement, exists, func, or_, select, update
from sqlalchemy.orm import aliased, joinedload, undefer

from ml.operating_points import USUAL, OperatingPoints
from webapp import audit
from webapp.database import db, now
from webapp.errors import Conflict
from webapp.inference.claims import Claim, ClaimedImage, Decoded, NewPrediction
from webapp.inference.keeping import (
    common_reason,
    conclusion,
    keep_decoded,
    keep_predictions,
    keep_problems,
)
from webapp.inference.observations import keep_observations
from webapp.inference.telling import keep_telling_slices
from webapp.leases import Jobs, LeaseLost, due_after, waits_or_is_over
from webapp.models_admin.models import ModelVersion
from webapp.studies.models import (
    Analysis,
    Image,
    Priority,
    Purpose,
    Series,
    Status,
    Study,
)
from webapp.tenancy import acting_for, unscoped
from webapp.tracing import traced

LEASE = timedelta(seconds=20)
MAX_ATTEMPTS = 4
study_finished = signal("study-finished")
"""Sent with a study whose analysis has just ended, in the transaction that ends it and in the
scope of its organisation. Other packages connect their follow-up work to it."""
comparison_finished = signal("comparison-finished")
"""Sent with an analysis for shadow or recall that is done, in the transaction that ends it."""
_UNDER_WAY = (Status.QUEUED, Status.RUNNING)

_log = logging.getLogger(__name__)


def request_analysis(study: Study) -> Analysis:
    """Request an analysis of all images of the study, in the caller's transaction.

    An unfinished analysis of the study is superseded; its worker notices at the fence.

    Args:
        study: in the session, with its final images. Its ``current_analysis`` is the one that
            the caller has seen.

    Raises:
        IntegrityError: a concurrent request was faster; roll back and look again.
        Conflict: there is a newer analysis than the caller has seen.
    """
    db.session.flush()
    seen = study.current_analysis
    analysis = Analysis(
        study_id=study.id,
        number=seen.number + 1 if seen else 1,
        image_ids=_image_ids(study.id),
    )
    analysis.images_total = len(analysis.image_ids)
    if not analysis.image_ids:  # nothing of it can be read
        analysis.status, analysis.reason = Status.REJECTED, "unreadable"
        analysis.finished_at = now()
    db.session.add(analysis)
    db.session.flush()
    db.session.execute(
        update(Analysis)
        .where(
            # Of whatever purpose: what is compared has to be of the same images.
            Analysis.study_id == study.id,
            Analysis.id != analysis.id,
            Analysis.status.in_(_UNDER_WAY),
        )
        .values(status=Status.SUPERSEDED, lease_until=None, finished_at=now())
        .execution_options(synchronize_session="fetch")
    )
    _take_over(analysis)
    db.session.expire(study, ["current_analysis_id", "current_analysis", "analyses"])
    return analysis


def request_comparison(study: Study, *, purpose: Purpose, candidate_id: uuid.UUID) -> Analysis:
    """Request an analysis by a candidate beside the study's current one, in the transaction.

    Its result is never the study's. The caller sends it after the commit.

    Args:
        study: its current analysis is done.
    """
    seen = study.current_analysis
    if seen is None or seen.status is not Status.DONE:
        raise ValueError("only a study with a result can be compared")
    last = select(func.max(Analysis.number)).where(
        Analysis.study_id == study.id, Analysis.purpose == purpose
    )
    analysis = Analysis(
        study_id=study.id,
        purpose=purpose,
        number=(db.session.scalar(last) or 0) + 1,
        candidate_id=candidate_id,
        compared_with_id=seen.id,
        image_ids=list(seen.image_ids),
        images_total=seen.images_total,
    )
    db.session.add(analysis)
    db.session.flush()
    return analysis


def _take_over(analysis: Analysis) -> None:
    """Make it the study's current one, in one statement that checks that there is no newer one."""
    newer = aliased(Analysis)
    is_newest = ~exists().where(
        newer.study_id == analysis.study_id,
        newer.purpose == Purpose.SERVING,
        newer.number > analysis.number,
    )
    current = db.session.scalar(
        update(Study)
        .where(Study.id == analysis.study_id, is_newest)
        .values(current_analysis_id=analysis.id)
        .returning(Study.id)
        .execution_options(synchronize_session=False)
    )
    if current is None:
        raise Conflict(_("This study was being changed at the same time. Please try again."))


def _image_ids(study_id: uuid.UUID) -> list[str]:
    found = select(Image.id).where(Image.study_id == study_id).order_by(Image.position)
    return [str(one) for one in db.session.scalars(found)]


def claim_analysis(analysis_id: uuid.UUID) -> Claim | None:
    """Take the analysis if it is free: queued, or running with a lease that is over.

    Returns:
        None if there is nothing to do.
    """
    found = claim_analyses([analysis_id])
    return found[0] if found else None


def claim_analyses(analysis_ids: Sequence[uuid.UUID]) -> list[Claim]:
    """Take those that are free, as :func:`claim_analysis`, in one transaction."""
    return _jobs.claim_many(
        analysis_ids, _claims, options=[undefer(Analysis.image_ids), joinedload(Analysis.study)]
    )


def waiting_analyses(
    *, limit: int, urgent: bool = False, largest: int | None = None
) -> list[uuid.UUID]:
    """Analyses for serving that no worker has begun, the oldest first.

    What was begun before is not among them: it may be what its worker died of.

    Args:
        urgent: only those of urgent studies.
        largest: only those of at most so many images.
    """
    wanted = (
        select(Analysis.id)
        .join(Study, Study.current_analysis_id == Analysis.id)
        .where(
            Analysis.status == Status.QUEUED,
            Analysis.purpose == Purpose.SERVING,
            Analysis.started_at.is_(None),
        )
        .order_by(Analysis.created_at, Analysis.id)
        .limit(limit)
    )
    if urgent:
        wanted = wanted.where(Study.priority == Priority.URGENT)
    if largest is not None:
        wanted = wanted.where(Analysis.images_total <= largest)
    with unscoped():
        found = list(db.session.scalars(wanted))
        db.session.rollback()  # SQLite could not write from an older state
    return found


def record_progress(claim: Claim, *, images_done: int, decoded: Sequence[Decoded] = ()) -> None:
    """Count the images that are through, keep what was decoded, and renew the lease.

    Raises:
        LeaseLost: the analysis is no longer this worker's; nothing was kept.
    """
    _jobs.update(claim, images_done=images_done, lease_until=now() + LEASE)
    if claim.is_serving:
        keep_decoded(claim, decoded)
    db.session.commit()


@dataclass(frozen=True)
class Ended:
    """An analysis that is through, as :func:`finish_analyses` keeps it.

    Attributes:
        problems: image id -> code, for images that could not be classified.
        model_ms: time that the model itself took, in milliseconds.
        points: by which the model answers.
        decoded: since the last report.
    """

    claim: Claim
    answers: Sequence[NewPrediction]
    problems: Mapping[uuid.UUID, str]
    model: ModelVersion
    model_ms: float
    points: OperatingPoints = USUAL
    decoded: Sequence[Decoded] = ()


def finish_analysis(claim: Claim, **values: Any) -> None:
    """As :func:`finish_analyses`, of one; ``values`` are the other fields of :class:`Ended`.

    Raises:
        LeaseLost: the analysis is no longer this worker's; nothing was kept.
    """
    if finish_analyses([Ended(claim, **values)]):
        raise LeaseLost(str(claim.job_id))


@traced("keep the answer")
def finish_analyses(ended: Sequence[Ended]) -> set[uuid.UUID]:
    """Keep all answers and end each as done, or as rejected where no image could be used.

    There is one transaction for each organisation.

    Returns:
        Those that are no longer this worker's: nothing was kept of them.
    """
    lost: set[uuid.UUID] = set()
    by_owner: dict[uuid.UUID, list[Ended]] = defaultdict(list)
    for one in ended:
        by_owner[one.claim.organisation_id].append(one)
    for organisation_id, those in by_owner.items():
        with acting_for(organisation_id):
            lost |= {one.claim.job_id for one in those if not _finish(one)}
            db.session.commit()
    return lost


def _finish(ended: Ended) -> bool:
    """Keep it in the caller's transaction; False if it is no longer this worker's."""
    claim, answers = ended.claim, ended.answers
    status = Status.DONE if answers else Status.REJECTED
    # The fence comes first: it locks the row until the commit.
    if not _jobs.changes(
        claim,
        status=status,
        reason=None if answers else common_reason(ended.problems),
        model_version_id=ended.model.id,
        images_done=len(claim.images),
        model_ms=ended.model_ms,
        finished_at=now(),
        lease_until=None,
        **(conclusion(claim, answers, ended.points) if answers else {}),
    ):
        return False
    if not claim.is_serving:
        _finish_comparison(claim, answers)
        return True
    # Reload: its current analysis has just ended.
    study = db.session.get_one(Study, claim.study_id, populate_existing=True)
    keep_decoded(claim, ended.decoded)
    keep_predictions(claim, answers)
    if study.current_analysis_id == claim.job_id:  # it serves
        keep_observations(claim, answers)
        keep_telling_slices(study, answers)
    keep_problems(claim, ended.problems)
    audit.record(
        "classify_study", subject=study, status=status.value, model=ended.model.sha256[:12]
    )
    study_finished.send(study)
    return True


def _finish_comparison(claim: Claim, answers: Sequence[NewPrediction]) -> None:
    """Keep what another model says; study and images stay as they are."""
    keep_predictions(claim, answers)
    analysis = db.session.get_one(Analysis, claim.job_id, populate_existing=True)
    if answers:
        comparison_finished.send(analysis)
    audit.record(
        "compare_study",
        subject=analysis,
        purpose=claim.purpose.value,
        candidate=str(claim.candidate_id),
        status=analysis.status.value,
    )


def finish_without_model(claim: Claim, *, problems: dict[uuid.UUID, str]) -> None:
    """End the analysis without an answer: the organisation has switched its model off.

    Args:
        problems: image id -> code, for images that cannot be shown.

    Raises:
        LeaseLost: the analysis is no longer this worker's; nothing was kept.
    """
    with acting_for(claim.organisation_id):
        _jobs.update(
            claim,
            status=Status.REJECTED,
            reason="model_off",
            images_done=len(claim.images),
            finished_at=now(),
            lease_until=None,
        )
        keep_problems(claim, problems)
        study = db.session.get_one(Study, claim.study_id, populate_existing=True)
        audit.record("show_study", subject=study, reason="model_off")
        study_finished.send(study)
        db.session.commit()


def fail_analysis(claim: Claim, *, reason: str) -> None:
    """End the analysis as failed; the user may try again.

    Raises:
        LeaseLost: the analysis is no longer this worker's.
    """
    with acting_for(claim.organisation_id):
        _jobs.update(
            claim, status=Status.FAILED, reason=reason, finished_at=now(), lease_until=None
        )
        _record_end(db.session.get_one(Analysis, claim.job_id, populate_existing=True), reason)
        db.session.commit()


def release_analysis(claim: Claim, *, wait: timedelta, counts: bool = True) -> None:
    """Put the analysis back into the queue, for another attempt after a passing fault.

    Args:
        wait: how long the sweeper waits at least before it sends the next message.
        counts: whether the attempt is one of :data:`MAX_ATTEMPTS`. Where not, the next claim has
            its number; the caller must be through with its own.

    Raises:
        LeaseLost: the analysis is no longer this worker's.
    """
    with acting_for(claim.organisation_id):
        attempt = claim.attempt if counts else claim.attempt - 1
        _jobs.update(
            claim, status=Status.QUEUED, lease_until=None, sent_at=due_after(wait), attempt=attempt
        )
        db.session.commit()


def analyses_to_resend() -> list[uuid.UUID]:
    """Find jobs that nobody works on, mark them as sent now, and return their ids.

    These are queued jobs whose message went long ago (the broker may have lost it) and running
    ones whose lease is over (the worker died). Jobs that have used up their attempts are ended.
    """
    return _jobs.to_resend()


def _is_free(moment: datetime) -> ColumnElement[bool]:
    """Whether nobody works on the analysis: it is queued, or its lease has expired."""
    return waits_or_is_over(
        moment,
        Analysis.status == Status.QUEUED,
        Analysis.status == Status.RUNNING,
        Analysis.lease_until,
    )


def _is_wanted() -> ColumnElement[bool]:
    """Whether the analysis is its study's current one, or not for serving."""
    is_current = exists().where(
        Study.id == Analysis.study_id, Study.current_analysis_id == Analysis.id
    )
    return or_(Analysis.purpose != Purpose.SERVING, is_current)


def _claims(rows: Sequence[Analysis]) -> list[Claim]:
    images: dict[uuid.UUID, list[Image]] = defaultdict(list)
    for image in db.session.scalars(
        select(Image)
        .where(Image.study_id.in_({row.study_id for row in rows}))
        .order_by(Image.position)
        .options(joinedload(Image.series))
        .execution_options(populate_existing=True)
    ):
        images[image.study_id].append(image)
    return [_claim(row, images[row.study_id]) for row in rows]


def _claim(analysis: Analysis, images: Sequence[Image]) -> Claim:
    wanted = set(analysis.image_ids)
    return Claim(
        job_id=analysis.id,
        organisation_id=analysis.organisation_id,
        attempt=analysis.attempt,
        study_id=analysis.study_id,
        study_since=analysis.study.created_at,
        purpose=analysis.purpose,
        candidate_id=analysis.candidate_id,
        is_urgent=(
            analysis.purpose is Purpose.SERVING and analysis.study.priority is Priority.URGENT
        ),
        asked_at=analysis.created_at,
        images=tuple(_claimed(image) for image in images if str(image.id) in wanted),
    )


def _claimed(image: Image) -> ClaimedImage:
    return ClaimedImage(
        id=image.id,
        series_id=image.series_id,
        in_stack=image.series.is_stack,
        place=_place(image),
        plane=image.series.plane,
        blob_key=image.blob_key,
        source_key=image.source_key,
        frame=image.frame,
        spacing=image.pixel_size,
    )


def _place(image: Image) -> float | None:
    """Position in millimetres along the normal of its stack; None if unknown."""
    series: Series = image.series
    if image.origin is None or not series.row_direction or not series.column_direction:
        return None
    normal = np.cross(series.row_direction, series.column_direction)
    return float(np.dot(normal, image.origin))


def _record_end(analysis: Analysis, reason: str) -> None:
    if analysis.purpose is not Purpose.SERVING:
        audit.record("give_up_comparison", subject=analysis, reason=reason)
        return
    study = db.session.get_one(Study, analysis.study_id)
    audit.record("give_up_study", subject=study, reason=reason)


_jobs: Jobs[Analysis] = Jobs(
    model=Analysis,
    attempt=Analysis.attempt,
    sent_at=Analysis.sent_at,
    max_attempts=MAX_ATTEMPTS,
    free=_is_free,
    held=Analysis.status == Status.RUNNING,
    wanted=_is_wanted(),
    taken=lambda moment: {
        "status": Status.RUNNING,
        "images_done": 0,
        "started_at": moment,
        "lease_until": moment + LEASE,
    },
    given_up=lambda moment: {
        "status": Status.FAILED,
        "reason": "gave_up",
        "finished_at": moment,
        "lease_until": None,
    },
    record_end=lambda analysis: _record_end(analysis, "gave_up"),
)
