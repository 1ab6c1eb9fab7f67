"""Classify the images of one study."""

import logging
import time
import uuid
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from celery.signals import worker_init, worker_process_init
from sqlalchemy.exc import DBAPIError

from ml.errors import InvalidModel, MemoryBusy, UnreadableImage
from ml.imaging import Slice, square_pixels
from webapp.database import db, is_full
from webapp.extensions import current_blobs, current_room
from webapp.inference import analyses, claims
from webapp.leases import LeaseLost
from webapp.models_admin.operations import register_model
from webapp.models_admin.serving import Arrival
from webapp.queueing import CLASSIFY
from webapp.storage import MissingBlob, NoRoom
from webapp.tenancy import acting_for
from webapp.tracing import traced
from worker.app import app, flask_app
from worker.decoding import Decoder, Opened, batched
from worker.giving_way import GaveWay, Way
from worker.models import Models

if TYPE_CHECKING:
    from ml.serving.predictor import Predictor, Result

BATCH = 8
# Bytes of a batch's pixels from which no more than one other is decoded meanwhile. Slices of a
# scanner stay below; eight colour pictures of 4 megapixels at 16 bit are 192 MB.
_LARGE_BATCH = 64 * 2**20
FULL_DISK_WAIT = timedelta(seconds=30)

_log = logging.getLogger(__name__)


_models = Models()


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
        with flask_app.app_context():
            _models.first().warm_up()
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
    except LeaseLost:
        _log.warning("analysis %s was taken over by another worker", analysis_id)
    except GaveWay:
        _log.info("analysis %s gives way to another one", analysis_id)
        _release(claim, wait=timedelta(0), counts=False)
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
    with acting_for(claim.organisation_id):
        predictor = (
            _models.serving(Arrival(claim.study_id, claim.study_since))
            if claim.candidate_id is None
            else _models.candidate(claim.candidate_id)
        )
    if predictor is None:
        _show_alone(claim)
        return
    # One model from the first slice to the last, whatever is promoted meanwhile.
    run = _Run(claim, predictor)
    model = register_model(name=predictor.name, sha256=predictor.sha256, card=predictor.card)
    # Slices and heatmaps are kept before rows name them.
    with current_blobs().in_use():
        run.through_all_batches()
        analyses.finish_analysis(
            claim,
            answers=run.answers,
            problems=run.problems,
            model=model,
            model_ms=run.model_seconds * 1000,
            points=predictor.operating_points,
            decoded=run.decoded,
        )
    _log.info(
        "analysis %s: %d images, %.0f ms in the model",
        claim.job_id,
        len(claim.images),
        run.model_seconds * 1000,
    )


def _show_alone(claim: claims.Claim) -> None:
    """Decode the images, so that they can be looked at, and end without an answer."""
    problems: dict[uuid.UUID, str] = {}
    with current_blobs().in_use(), Decoder(current_blobs(), current_room()) as decoder:
        done, decoded = 0, []
        for batch in batched(claim.images, BATCH):
            for one in decoder.decode(batch):
                if one.decoded:
                    decoded.append(one.decoded)
                if isinstance(one.slice, UnreadableImage):
                    problems[one.image.id] = one.slice.code
            done += len(batch)
            analyses.record_progress(claim, images_done=done, decoded=decoded)
            decoded = []
        analyses.finish_without_model(claim, problems=problems)


class _Answered(NamedTuple):
    """What the model says of an image, to be explained in the (height, width) that is kept."""

    image_id: uuid.UUID
    shape: tuple[int, int]
    result: "Result"


class _Run:
    """One pass over the images of an analysis.

    While the model runs on one batch, one thread decodes the next batch and another writes the
    heatmaps of the previous one; both release the GIL most of the time.
    """

    def __init__(self, claim: claims.Claim, predictor: "Predictor") -> None:
        self.answers: list[claims.NewPrediction] = []
        self.problems: dict[uuid.UUID, str] = {}
        self.decoded: list[claims.Decoded] = []  # since the last progress report
        self.model_seconds = 0.0
        self._claim = claim
        self._predictor = predictor
        self._way = Way(claim)
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
                    self._way.give_if_needed(images_done=done)
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
                opinions = self._predictor.in_volume(found, places)
                found = [
                    replace(one, **opinion.plain())
                    for one, opinion in zip(found, opinions, strict=True)
                ]
            answers += found
        self.answers = answers

    @traced("model")
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
        results = self._predictor.predict(
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

        is_explained = self._claim.is_serving  # nobody looks at the others' heatmaps
        with self._blobs.batch() as kept:
            return [
                claims.NewPrediction(
                    image_id=one.image_id,
                    **one.result.plain(),
                    quality=[flag.value for flag in one.result.quality],
                    heatmap_key=(
                        kept.put(overlay_png(one.result.heat, one.shape)) if is_explained else None
                    ),
                    tumor_by_localisation=one.result.tumor_by_localisation,
                    head_share=one.result.head_share,
                    image_statistics=one.result.image_statistics,
                    features=one.result.features,
                )
                for one in answered
            ]

    def _collect(self, written: "Future[list[claims.NewPrediction]] | None") -> None:
        if written is not None:
            self.answers += written.result()

    @traced("wait for decoding")
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


def _bytes_of(opened: Sequence[Opened]) -> int:
    """Of the pixels that the model is to see."""
    return sum(one.slice.pixels.nbytes for one in opened if isinstance(one.slice, Slice))


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
        _log.error("analysis %s failed", claim.job_id, exc_info=fault)
        _fail(claim, "internal")
        return
    wait = FULL_DISK_WAIT if full else timedelta(seconds=2**claim.attempt)
    _log.warning(
        "analysis %s is tried again in %d s: %s", claim.job_id, wait.total_seconds(), fault
    )
    _release(claim, wait=wait, counts=not full)


def _release(claim: claims.Claim, *, wait: timedelta, counts: bool) -> None:
    try:
        analyses.release_analysis(claim, wait=wait, counts=counts)
    except LeaseLost:
        _log.warning("analysis %s was taken over by another worker", claim.job_id)


def _fail(claim: claims.Claim, reason: str) -> None:
    db.session.rollback()
    try:
        analyses.fail_analysis(claim, reason=reason)
    except LeaseLost:
        _log.warning("analysis %s was taken over by another worker", claim.job_id)
