"""Classify studies: the task, and what becomes of an analysis that cannot be finished."""

import logging
import uuid
from collections import deque
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING

import cv2
from celery.signals import worker_init, worker_process_init
from sqlalchemy.exc import DBAPIError

from ml.errors import InvalidModel, MemoryBusy, UnreadableImage
from webapp.database import db, is_full
from webapp.extensions import current_blobs, current_room
from webapp.inference import analyses
from webapp.inference.claims import Claim, Decoded
from webapp.leases import LeaseLost
from webapp.models_admin.serving import Arrival
from webapp.queueing import CLASSIFY
from webapp.storage import MissingBlob, NoRoom, StorageAway
from webapp.tenancy import acting_for
from worker.app import app, flask_app
from worker.decoding import Decoder, batched
from worker.giving_way import GaveWay
from worker.models import Models
from worker.rounds import BATCH, Round

if TYPE_CHECKING:
    from ml.serving.predictor import Predictor

FULL_DISK_WAIT = timedelta(seconds=30)
STORAGE_WAIT = timedelta(seconds=5)

_log = logging.getLogger(__name__)

_models = Models()
# Analyses that this process has ended: most messages are about one that joined another's round.
_through: deque[uuid.UUID] = deque(maxlen=1000)


@worker_init.connect
def load_torch(**_signal: object) -> None:
    """Import torch once, in the parent of all children. Beat also imports this module."""
    import_module("ml.serving.predictor")


@worker_process_init.connect
def load_model(**_signal: object) -> None:
    """Load and warm up the model before the first task, so that no clinician waits for it."""
    cv2.setNumThreads(1)  # the model has the cores
    # A connection of the parent process must not be used by its children.
    with flask_app.app_context():
        db.engine.dispose(close=False)
    try:
        with flask_app.app_context():
            _models.first().warm_up()
    except InvalidModel:
        # Each analysis then fails with a reason on the page; the log has the details.
        _log.exception("the model cannot be loaded")


@app.task(name=CLASSIFY)
def classify_study(*, analysis_id: str) -> None:
    """Claim the analysis, classify its images and store the answers. Idempotent.

    Others that wait may go through with it (:mod:`worker.rounds`).
    """
    identifier = uuid.UUID(analysis_id)
    if identifier in _through:
        return
    if not current_blobs().has_room():
        # It stays queued; the sweep sends it again until there is space.
        _log.error("analysis %s waits: the disk is full, or nearly so", analysis_id)
        return
    claim = analyses.claim_analysis(identifier)
    if claim is None:
        return
    together = Round(_predictor_of, _end_by)
    try:
        together.through(claim)
    except GaveWay:
        _log.info("analysis %s gives way to another one", analysis_id)
        _release(claim, wait=timedelta(0), counts=False)
    except Exception as fault:
        _end_all_by(together.unfinished, fault)
    _through.extend(together.done)
    for one in together.without_model:
        try:
            _show_alone(one)
        except Exception as fault:
            _end_by(one, fault)


def _predictor_of(claim: Claim) -> "Predictor | None":
    with acting_for(claim.organisation_id):
        if claim.candidate_id is not None:
            return _models.candidate(claim.candidate_id)
        return _models.serving(Arrival(claim.study_id, claim.study_since))


def _show_alone(claim: Claim) -> None:
    """Decode the images, so that they can be looked at, and end without an answer."""
    problems: dict[uuid.UUID, str] = {}
    with current_blobs().in_use(), Decoder(current_blobs(), current_room()) as decoder:
        done = 0
        for batch in batched(claim.images, BATCH):
            decoded: list[Decoded] = []
            for one in decoder.decode(batch):
                if one.decoded:
                    decoded.append(one.decoded)
                if isinstance(one.slice, UnreadableImage):
                    problems[one.image.id] = one.slice.code
            done += len(batch)
            analyses.record_progress(claim, images_done=done, decoded=decoded)
        analyses.finish_without_model(claim, problems=problems)


def _end_all_by(claims: list[Claim], fault: Exception) -> None:
    """End what a fault stopped. Of several nobody knows whose it is: each is tried again alone."""
    db.session.rollback()
    if len(claims) == 1:
        _end_by(claims[0], fault)
        return
    _log.warning("%d analyses are tried again one by one", len(claims), exc_info=fault)
    outside = _outside_wait(fault)
    for claim in claims:
        _release(claim, wait=outside or timedelta(0), counts=outside is None)


def _end_by(claim: Claim, fault: Exception) -> None:
    """Try again later what may pass; end as failed what does not."""
    db.session.rollback()
    match fault:
        case LeaseLost():
            _tell_lost(claim)
        case DBAPIError() | OSError() | MemoryBusy():
            _try_later(claim, fault)
        case InvalidModel():
            _fail(claim, "model_unavailable", fault)
        case MissingBlob():
            _fail(claim, "unreadable", fault)
        case MemoryError():
            _fail(claim, "out_of_memory", fault)
        case _:
            _fail(claim, "internal", fault)


def _try_later(claim: Claim, fault: Exception) -> None:
    """Release the analysis with a back-off after a transient fault, up to ``MAX_ATTEMPTS``.

    The sweep sends it again. A full disk or a store that is away uses up no attempt: it lasts
    until somebody does something about it.
    """
    outside = _outside_wait(fault)
    if claim.attempt >= analyses.MAX_ATTEMPTS and outside is None:
        _fail(claim, "internal", fault)
        return
    wait = outside or timedelta(seconds=2**claim.attempt)
    _log.warning(
        "analysis %s is tried again in %d s: %s", claim.job_id, wait.total_seconds(), fault
    )
    _release(claim, wait=wait, counts=outside is None)


def _outside_wait(fault: Exception) -> timedelta | None:
    """How long to wait for a disk or a store; None if the fault lies elsewhere."""
    if isinstance(fault, StorageAway):
        return STORAGE_WAIT
    return FULL_DISK_WAIT if isinstance(fault, NoRoom) or is_full(fault) else None


def _release(claim: Claim, *, wait: timedelta, counts: bool) -> None:
    try:
        analyses.release_analysis(claim, wait=wait, counts=counts)
    except LeaseLost:
        _tell_lost(claim)


def _fail(claim: Claim, reason: str, fault: Exception) -> None:
    _log.error("analysis %s failed", claim.job_id, exc_info=fault)
    try:
        analyses.fail_analysis(claim, reason=reason)
    except LeaseLost:
        _tell_lost(claim)


def _tell_lost(claim: Claim) -> None:
    _log.warning("analysis %s was taken over by another worker", claim.job_id)
