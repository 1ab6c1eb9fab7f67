"""Classify the images of one study."""

import logging
import time
import uuid
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from importlib import import_module
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from celery.signals import worker_init, worker_process_init
from sqlalchemy.exc import DBAPIError

from config import Settings
from ml.errors import InvalidModel, MemoryBusy, UnreadableImage
from ml.imaging import Slice, square_pixels
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
# Bytes of a batch's pixels from which no more than one other is decoded meanwhile. Slices of a
# scanner stay below; eight colour pictures of 4 megapixels at 16 bit are 192 MB.
_LARGE_BATCH = 64 * 2**20
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
    """Load the library once, for all children. Beat reads this module too and needs none of it."""
    import_module("ml.serving.predictor")


@worker_process_init.connect
def load_model(**_signal: object) -> None:
    """Load and warm the model before the first task, so that no clinician waits for it."""
    # A connection of the parent process must not be used by its children.
    with flask_app.app_context():
        db.engine.dispose(close=False)
    try:
        predictor().warm_up()
    except InvalidModel:
        # Each analysis then ends with a reason on the page, and the log says what is wrong.
        _log.exception("the model cannot be loaded")


@app.task(name=CLASSIFY)
def classify_study(*, analysis_id: str) -> None:
    """Claim the analysis, classify, keep the answers. Runs twice without harm."""
    if not current_blobs().has_room():
        # It stays queued; the sweeper sends it again and again until there is room.
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


class _Answered(NamedTuple):
    """What the model says of an image, to be explained in the (height, width) that is kept."""

    image_id: uuid.UUID
    shape: tuple[int, int]
    result: "Result"


class _Run:
    """One pass over the images of an analysis.

    While the model works on a batch, one thread decodes the next and another writes the heatmaps
    of the one before; both leave the interpreter free most of the time.
    """

    def __init__(self, claim: claims.Claim) -> None:
        self.answers: list[claims.NewPrediction] = []
        self.problems: dict[uuid.UUID, str] = {}
        self.decoded: list[claims.Decoded] = []  # since the last report of progress
        self.model_seconds = 0.0
        self._claim = claim
        self._blobs = current_blobs()
        self._decoder = Decoder(self._blobs, current_room())

    def through_all_batches(self) -> None:
        """Decode, classify and explain every image; progress is reported after each batch."""
        total = len(self._claim.images)
        waiting = deque(batched(self._claim.images, BATCH))
        ahead: deque[Future[list[Opened]]] = deque()
        with (
            self._decoder,
            ThreadPoolExecutor(1) as decoding,
            ThreadPoolExecutor(1) as writing,
        ):

            def decode_next() -> None:
                if waiting:
                    ahead.append(decoding.submit(self._decoder.decode, waiting.popleft()))

            # Two ahead, so that a slow file is noticed while there is still work.
            decode_next()
            decode_next()
            done = 0
            written: Future[list[claims.NewPrediction]] | None = None
            while ahead:
                opened = self._wait_for(ahead.popleft())
                done += len(opened)
                if is_large := _bytes_of(opened) > _LARGE_BATCH:
                    self._collect(written)  # its heatmaps are large, too
                    written = None
                else:
                    decode_next()
                results = self._predict(opened)
                del opened  # before the next pixels come
                if is_large:
                    decode_next()
                self._collect(written)
                written = writing.submit(self._explained, results)
                if done < total:
                    self._report(images_done=done)
            self._collect(written)
        self._consider_adjacent_slices()

    def _consider_adjacent_slices(self) -> None:
        """Let the slices of each stack be answered in the light of those around them."""
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

    def _predict(self, opened: list[Opened]) -> list[_Answered]:
        """What the model says of those that can be classified; pixels are not kept."""
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
                found.append(_Answered(one.image.id, one.shape, result))
        return found

    def _explained(self, answered: list[_Answered]) -> list[claims.NewPrediction]:
        from ml.serving.explain import overlay_png

        with self._blobs.batch() as kept:
            return [
                claims.NewPrediction(
                    image_id=one.image_id,
                    **one.result.plain(),
                    quality=[flag.value for flag in one.result.quality],
                    heatmap_key=kept.put(overlay_png(one.result.heat, one.shape)),
                    tumor_by_localisation=one.result.tumor_by_localisation,
                    head_share=one.result.head_share,
                )
                for one in answered
            ]

    def _collect(self, written: "Future[list[claims.NewPrediction]] | None") -> None:
        if written is not None:
            self.answers += written.result()

    def _wait_for(self, future: "Future[list[Opened]]") -> list[Opened]:
        """The decoded batch; the lease is renewed while a large file takes its time."""
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


def _bytes_of(opened: Sequence[Opened]) -> int:
    """Of the pixels that the model is to see."""
    return sum(one.slice.pixels.nbytes for one in opened if isinstance(one.slice, Slice))


def _stack_of(
    answer: claims.NewPrediction, stacks: dict[uuid.UUID, claims.ClaimedImage]
) -> uuid.UUID | None:
    image = stacks.get(answer.image_id)
    return image.series_id if image else None


def _try_later(claim: claims.Claim, fault: Exception) -> None:
    """Back off after a passing fault, until the attempts are used up; the sweeper sends it.

    A full disk uses up no attempt: it lasts until somebody makes room.
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
