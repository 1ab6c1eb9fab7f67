"""Classify the images of one study."""

import logging
import time
import uuid
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from importlib import import_module
from itertools import groupby
from typing import TYPE_CHECKING

from celery.signals import worker_init, worker_process_init
from sqlalchemy.exc import DBAPIError

from config import Settings
from ml.errors import InvalidModel, MemoryBusy, UnreadableImage
from ml.imaging import square_pixels
from webapp.database import db, is_full
from webapp.extensions import current_blobs, current_room
from webapp.inference import analyses, claims
from webapp.models_admin.models import ModelVersion
from webapp.models_admin.operations import register_model
from webapp.queueing import CLASSIFY
from webapp.storage import MissingBlob, NoRoom
from worker.app import app, flask_app
from worker.decoding import Decoder, Opened, batched

if TYPE_CHECKING:
    from ml.serving.predictor import Predictor, Result

BATCH = 8
FULL_DISK_WAIT = timedelta(seconds=30)

_log = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def predictor() -> "Predictor":
    """The model, loaded once in each worker process.

    Raises:
        InvalidModel: weights or card are missing or damaged.
    """
    from ml.serving.predictor import Predictor

    settings: Settings = flask_app.extensions["settings"]
    return Predictor.load(device=settings.device)


@worker_init.connect
def load_torch(**_signal: object) -> None:
    """Import torch once, in the parent of all children. Beat also imports this module."""
    import_module("ml.serving.predictor")


@worker_process_init.connect
def load_model(**_signal: object) -> None:
    """Load and warm up the model before the first task, so that no clinician waits for it."""
    # A connection of the parent process must not be used by its children.
    with flask_app.app_context():
        db.engine.dispose(close=False)
    try:
        predictor().warm_up()
    except InvalidModel:
        # Each analysis then fails with a reason on the page; the log has the details.
        _log.exception("the model cannot be loaded")


@app.task(name=CLASSIFY)
def classify_study(*, analysis_id: str) -> None:
    """Claim the analysis, classify its images and store the answers. Idempotent."""
    if not current_blobs().has_room():
        # It stays queued; the sweep sends it again until there is space.
        _log.error("analysis %s waits: the disk is full, or nearly so", analysis_id)
        return
    claim = analyses.claim_analysis(uuid.UUID(analysis_id))
    if claim is None:
        return
    try:
        _classify(claim)
    except claims.LeaseLost:
        _log.warning("analysis %s was taken over by another worker", analysis_id)
    except (DBAPIError, OSError, MemoryBusy) as fault:
        db.session.rollback()
        _try_later(claim, fault)
    except (InvalidModel, MissingBlob, MemoryError) as fault:
        _log.exception("analysis %s failed", analysis_id)
        _fail(claim, _reason(fault))
    except Exception:
        _log.exception("analysis %s failed", analysis_id)
        _fail(claim, "internal")


def _reason(fault: InvalidModel | MissingBlob | MemoryError) -> str:
    match fault:
        case InvalidModel():
            return "model_unavailable"
        case MissingBlob():
            return "unreadable"
        case MemoryError():
            return "out_of_memory"


def _classify(claim: claims.Claim) -> None:
    run = _Run(claim)
    model = _model_version()
    # Slices and heatmaps are kept before rows name them.
    with current_blobs().in_use():
        run.through_all_batches()
        analyses.finish_analysis(
            claim,
            answers=run.answers,
            problems=run.problems,
            model=model,
            model_ms=run.model_seconds * 1000,
            points=predictor().operating_points,
            decoded=run.decoded,
        )
    _log.info(
        "analysis %s: %d images, %.0f ms in the model",
        claim.analysis_id,
        len(claim.images),
        run.model_seconds * 1000,
    )


def _model_version() -> ModelVersion:
    serving = predictor()
    return register_model(name=serving.name, sha256=serving.sha256, card=serving.card)


class _Run:
    """One pass over the images of an analysis.

    While the model runs on one batch, one thread decodes the next batch and another writes the
    heatmaps of the previous one; both release the GIL most of the time.
    """

    def __init__(self, claim: claims.Claim) -> None:
        self.answers: list[claims.NewPrediction] = []
        self.problems: dict[uuid.UUID, str] = {}
        self.decoded: list[claims.Decoded] = []  # since the last progress report
        self.model_seconds = 0.0
        self._claim = claim
        self._blobs = current_blobs()
        self._decoder = Decoder(self._blobs, current_room())

    def through_all_batches(self) -> None:
        """Decode, classify and explain every image; report progress after each batch."""
        batches = list(batched(self._claim.images, BATCH))
        with (
            self._decoder,
            ThreadPoolExecutor(1) as decoding,
            ThreadPoolExecutor(1) as writing,
        ):
            # Two batches ahead, so that a slow file shows while the model still has work.
            ahead = deque(decoding.submit(self._decoder.decode, one) for one in batches[:2])
            written: Future[list[claims.NewPrediction]] | None = None
            for number in range(len(batches)):
                opened = self._wait_for(ahead.popleft())
                if number + 2 < len(batches):
                    ahead.append(decoding.submit(self._decoder.decode, batches[number + 2]))
                results = self._predict(opened)
                self._collect(written)
                written = writing.submit(self._explained, results)
                if number + 1 < len(batches):
                    self._report(images_done=(number + 1) * BATCH)
            self._collect(written)
        self._consider_adjacent_slices()

    def _consider_adjacent_slices(self) -> None:
        """Revise the answers of each stack with those of the adjacent slices."""
        stacks = {image.id: image for image in self._claim.images if image.in_stack}
        answers = []
        for stack, group in groupby(self.answers, key=lambda one: _stack_of(one, stacks)):
            found = list(group)
            if stack is not None:
                places = [stacks[one.image_id].place for one in found]
                opinions = predictor().in_volume(found, places)
                found = [
                    replace(one, **opinion.plain())
                    for one, opinion in zip(found, opinions, strict=True)
                ]
            answers += found
        self.answers = answers

    def _predict(self, opened: list[Opened]) -> list[tuple[Opened, "Result"]]:
        usable = []
        for one in opened:
            if one.decoded:
                self.decoded.append(one.decoded)
            if isinstance(one.slice, UnreadableImage):
                self.problems[one.image.id] = one.slice.code
            else:
                usable.append((one, one.slice))
        started = time.perf_counter()
        results = predictor().predict(
            [square_pixels(found) for _one, found in usable],
            [found.spacing for _one, found in usable],
        )
        self.model_seconds += time.perf_counter() - started
        found = []
        for (one, _pixels), result in zip(usable, results, strict=True):
            if isinstance(result, UnreadableImage):
                self.problems[one.image.id] = result.code
            else:
                found.append((one, result))
        return found

    def _explained(self, results: list[tuple[Opened, "Result"]]) -> list[claims.NewPrediction]:
        from ml.serving.explain import overlay_png

        with self._blobs.batch() as kept:
            return [
                claims.NewPrediction(
                    image_id=one.image.id,
                    **result.plain(),
                    quality=[flag.value for flag in result.quality],
                    heatmap_key=kept.put(overlay_png(result.heat, one.shape)),
                    tumor_by_places=result.tumor_by_places,
                    head_share=result.head_share,
                )
                for one, result in results
            ]

    def _collect(self, written: "Future[list[claims.NewPrediction]] | None") -> None:
        if written is not None:
            self.answers += written.result()

    def _wait_for(self, future: "Future[list[Opened]]") -> list[Opened]:
        """The decoded batch; renews the lease while a large file is decoded."""
        while True:
            try:
                return future.result(timeout=analyses.LEASE.total_seconds() / 4)
            except TimeoutError:
                if future.done():
                    raise
                self._report(images_done=len(self.answers) + len(self.problems))

    def _report(self, *, images_done: int) -> None:
        analyses.record_progress(self._claim, images_done=images_done, decoded=self.decoded)
        self.decoded = []


def _stack_of(
    answer: claims.NewPrediction, stacks: dict[uuid.UUID, claims.ClaimedImage]
) -> uuid.UUID | None:
    image = stacks.get(answer.image_id)
    return image.series_id if image else None


def _try_later(claim: claims.Claim, fault: Exception) -> None:
    """Release the analysis with a back-off after a transient fault, up to ``MAX_ATTEMPTS``.

    The sweep sends it again. A full disk uses up no attempt: it lasts until somebody frees space.
    """
    full = isinstance(fault, NoRoom) or is_full(fault)
    if claim.attempt >= analyses.MAX_ATTEMPTS and not full:
        _log.error("analysis %s failed", claim.analysis_id, exc_info=fault)
        _fail(claim, "internal")
        return
    wait = FULL_DISK_WAIT if full else timedelta(seconds=2**claim.attempt)
    _log.warning(
        "analysis %s is tried again in %d s: %s", claim.analysis_id, wait.total_seconds(), fault
    )
    analyses.release_analysis(claim, wait=wait, counts=not full)


def _fail(claim: claims.Claim, reason: str) -> None:
    db.session.rollback()
    try:
        analyses.fail_analysis(claim, reason=reason)
    except claims.LeaseLost:
        _log.warning("analysis %s was taken over by another worker", claim.analysis_id)
