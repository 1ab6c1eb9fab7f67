"""Classify the images of one study."""

import logging
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from functools import lru_cache

from celery import Task
from celery.signals import worker_process_init
from flask import current_app
from sqlalchemy.exc import DBAPIError

from config import Settings
from ml.errors import InvalidModel, UnreadableImage
from ml.imaging import NO_LIMITS, read_bytes
from ml.imaging.pictures import Pixels
from ml.predictor import Predictor, Result
from webapp.database import db
from webapp.models_admin.models import ModelVersion
from webapp.models_admin.operations import register_model
from webapp.queueing import CLASSIFY
from webapp.storage import BlobStore, MissingBlob
from webapp.studies import jobs
from worker.app import app, flask_app

BATCH = 8

_log = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def predictor() -> Predictor:
    """The model, loaded once in each worker process.

    Raises:
        InvalidModel: weights or card are missing or damaged.
    """
    settings: Settings = flask_app.extensions["settings"]
    return Predictor.load(device=settings.device)


@worker_process_init.connect
def load_model(**_signal: object) -> None:
    """Load and warm the model before the first task, so that no clinician waits for it."""
    # A connection of the parent process must not be used by its children.
    with flask_app.app_context():
        db.engine.dispose(close=False)
    try:
        predictor().warm_up()
    except InvalidModel:
        # Each job then ends with a reason on the page, and the log says what is wrong.
        _log.exception("the model cannot be loaded")


@app.task(name=CLASSIFY, bind=True, max_retries=None)
def classify_study(self: "Task[..., None]", *, job_id: str) -> None:
    """Claim the job, classify, keep the answers. Runs twice without harm."""
    claim = jobs.claim_job(uuid.UUID(job_id))
    if claim is None:
        return
    try:
        _classify(claim)
    except jobs.LeaseLost:
        _log.warning("job %s was taken over by another worker", job_id)
    except (DBAPIError, OSError) as fault:
        db.session.rollback()
        _try_later(self, claim, fault)
    except (InvalidModel, MissingBlob, MemoryError) as fault:
        _log.exception("job %s failed", job_id)
        _fail(claim, _reason(fault))
    except Exception:
        _log.exception("job %s failed", job_id)
        _fail(claim, "internal")


def _reason(fault: InvalidModel | MissingBlob | MemoryError) -> str:
    match fault:
        case InvalidModel():
            return "model_unavailable"
        case MissingBlob():
            return "unreadable"
        case MemoryError():
            return "out_of_memory"


def _classify(claim: jobs.Claim) -> None:
    answers: list[jobs.Answer] = []
    problems: dict[uuid.UUID, str] = {}
    model = _model_version()
    model_seconds = 0.0
    for batch in _batches(claim):
        started = time.perf_counter()
        results = predictor().predict([pixels for _, pixels in batch])
        model_seconds += time.perf_counter() - started
        for (image_id, _), result in zip(batch, results, strict=True):
            if isinstance(result, UnreadableImage):
                problems[image_id] = result.code
            else:
                answers.append(_answer(image_id, result))
        done = len(answers) + len(problems)
        if done < len(claim.images):
            jobs.record_progress(claim, images_done=done)
    model_ms = model_seconds * 1000
    jobs.finish_job(claim, answers=answers, problems=problems, model=model, model_ms=model_ms)
    _log.info("job %s: %d images in %.0f ms", claim.job_id, len(claim.images), model_ms)


def _model_version() -> ModelVersion:
    serving = predictor()
    return register_model(name=serving.name, sha256=serving.sha256, card=serving.card)


def _batches(claim: jobs.Claim) -> Iterator[list[tuple[uuid.UUID, Pixels]]]:
    blobs: BlobStore = current_app.extensions["blobs"]
    for start in range(0, len(claim.images), BATCH):
        yield [
            (image_id, read_bytes(blobs.get(key), NO_LIMITS)[0].pixels)
            for image_id, key in claim.images[start : start + BATCH]
        ]


def _answer(image_id: uuid.UUID, result: Result) -> jobs.Answer:
    blobs: BlobStore = current_app.extensions["blobs"]
    return jobs.Answer(
        image_id=image_id,
        label=result.label.value,
        probabilities=result.probabilities,
        prediction_set=[label.value for label in result.prediction_set],
        in_distribution=result.in_distribution,
        ood_score=result.ood_score,
        heatmap_key=blobs.put(result.overlay_png()),
    )


def _try_later(task: "Task[..., None]", claim: jobs.Claim, fault: Exception) -> None:
    """Back off after a passing fault, until the attempts are used up."""
    if claim.attempt >= jobs.MAX_ATTEMPTS:
        _log.error("job %s failed", claim.job_id, exc_info=fault)
        _fail(claim, "internal")
        return
    wait = 2**claim.attempt
    _log.warning("job %s is tried again in %d s: %s", claim.job_id, wait, fault)
    jobs.release_job(claim, wait=timedelta(seconds=wait))
    raise task.retry(exc=fault, countdown=wait)


def _fail(claim: jobs.Claim, reason: str) -> None:
    db.session.rollback()
    try:
        jobs.fail_job(claim, reason=reason)
    except jobs.LeaseLost:
        _log.warning("job %s was taken over by another worker", claim.job_id)
