"""Analyses that go through the model together: slices of several studies share a batch.

A round starts with the analysis that a message names. Small ones that wait join it, and whatever
is under way, an urgent one joins before the next batch. While the model answers one batch, one
thread decodes the next and another one writes the heatmaps of the batch before; the round's own
thread keeps leases and results in the database meanwhile. See docs/decisions/0054.
"""

import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

from ml.errors import InvalidModel, MemoryBusy, UnreadableImage
from ml.imaging import Slice, square_pixels
from webapp.extensions import current_blobs, current_room
from webapp.inference import analyses
from webapp.inference.claims import Claim, ClaimedImage, Decoded, NewPrediction
from webapp.leases import LeaseLost
from webapp.models_admin.models import ModelVersion
from webapp.models_admin.operations import register_model
from webapp.queueing import URGENT_IN_A_ROW
from webapp.storage import Keeper, MissingBlob
from webapp.tracing import traced
from worker.decoding import Decoder, Opened
from worker.giving_way import Way

if TYPE_CHECKING:
    from ml.serving.predictor import Predictor, Result

BATCH = 8
AHEAD = 2  # batches decoded before the model needs them, so that a slow file is noticed in time
# Seconds in which small analyses may join; after them deliveries and housekeeping have their turn.
OPEN = 2.0
# Bytes of a batch's pixels from which no more than one other is decoded meanwhile. Slices of a
# scanner stay below; eight colour pictures of 4 megapixels at 16 bit are 192 MB.
_LARGE_BATCH = 64 * 2**20
_RENEWED = analyses.LEASE.total_seconds() / 4

Found = TypeVar("Found")

_log = logging.getLogger(__name__)


class Run:
    """One analysis on its way.

    Attributes:
        waiting: images that no batch has taken yet.
        under_way: how many a batch has taken that are not through.
        is_over: its end is kept, or it is no longer this worker's; what still comes is dropped.
    """

    def __init__(self, claim: Claim, predictor: "Predictor") -> None:
        self.claim, self.predictor = claim, predictor
        self.waiting = deque(claim.images)
        self.under_way = 0
        self.is_over = False
        self.answers: list[NewPrediction] = []
        self.problems: dict[uuid.UUID, str] = {}
        self.model_seconds = 0.0
        self._way = Way(claim)
        self._decoded: list[Decoded] = []  # since the last report
        self._reported, self._told = time.monotonic(), 0

    @property
    def images_done(self) -> int:
        """How many are through."""
        return len(self.claim.images) - len(self.waiting) - self.under_way

    def take(self, part: "_Part") -> None:
        """Note what came of some of its images."""
        self.answers += part.predictions
        self.problems |= part.problems
        self.model_seconds += part.model_seconds
        self._decoded += [one.decoded for one in part.opened if one.decoded]

    def report(self) -> None:
        """Keep the progress and renew the lease.

        Raises:
            GaveWay: another analysis is to be taken first.
            LeaseLost: it is no longer this worker's.
        """
        decoded, self._decoded = self._decoded, []
        analyses.record_progress(self.claim, images_done=self.images_done, decoded=decoded)
        self._reported, self._told = time.monotonic(), self.images_done
        if self.images_done:
            self._way.give_if_needed(images_done=self.images_done)

    @property
    def has_to_report(self) -> bool:
        """Whether there is progress to tell, or the lease grows old."""
        is_old = time.monotonic() - self._reported > _RENEWED
        return is_old or self.images_done > self._told

    def ended(self, model: ModelVersion) -> analyses.Ended:
        """What came of it, once all images are through."""
        return analyses.Ended(
            claim=self.claim,
            answers=list(self._beside_adjacent_slices()),
            problems=self.problems,
            model=model,
            model_ms=self.model_seconds * 1000,
            points=self.predictor.operating_points,
            decoded=self._decoded,
        )

    def _beside_adjacent_slices(self) -> Iterator[NewPrediction]:
        """The answers; those of each stack are revised with those of the adjacent slices."""
        stacks = {image.id: image for image in self.claim.images if image.in_stack}
        for stack, group in groupby(self.answers, key=lambda one: _stack_of(one, stacks)):
            found = list(group)
            if stack is None:
                yield from found
                continue
            places = [stacks[one.image_id].place for one in found]
            opinions = self.predictor.in_volume(found, places)
            for one, opinion in zip(found, opinions, strict=True):
                yield replace(one, **opinion.plain())


@dataclass(eq=False)
class _Part:
    """Images of one analysis in a batch, and what becomes of them.

    Attributes:
        fault: why they could not be opened; the whole analysis ends by it.
        answers: what the model says, to be explained in the (height, width) that is kept.
    """

    run: Run
    images: Sequence[ClaimedImage]
    opened: list[Opened] = field(default_factory=list)
    fault: Exception | None = None
    answers: "list[tuple[uuid.UUID, tuple[int, int], Result]]" = field(default_factory=list)
    problems: dict[uuid.UUID, str] = field(default_factory=dict)
    model_seconds: float = 0.0
    predictions: list[NewPrediction] = field(default_factory=list)

    def open(self, decoder: Decoder, kept: Keeper) -> None:
        try:
            self.opened = decoder.open(self.images, kept)
        except (MissingBlob, MemoryBusy, MemoryError, OSError) as fault:
            self.fault = fault

    def usable(self) -> Iterator[tuple[Opened, Slice]]:
        for one in self.opened:
            if isinstance(one.slice, UnreadableImage):
                self.problems[one.image.id] = one.slice.code
            else:
                yield one, one.slice

    def heard(self, one: Opened, result: "Result | UnreadableImage") -> None:
        if isinstance(result, UnreadableImage):
            self.problems[one.image.id] = result.code
        else:
            self.answers.append((one.image.id, one.shape, result))

    def drop_pixels(self) -> None:
        self.opened = [replace(one, slice=_GONE) for one in self.opened]

    def explain(self, kept: Keeper) -> None:
        from ml.serving.explain import overlay_png

        is_explained = self.run.claim.is_serving  # nobody looks at the others' heatmaps
        self.predictions = [
            NewPrediction(
                image_id=image_id,
                **result.plain(),
                quality=[flag.value for flag in result.quality],
                heatmap_key=kept.put(overlay_png(result.heat, shape)) if is_explained else None,
                tumor_by_localisation=result.tumor_by_localisation,
                head_share=result.head_share,
                image_statistics=result.image_statistics,
                features=result.features,
            )
            for image_id, shape, result in self.answers
        ]


_GONE = UnreadableImage("gone", "The model has seen it.")


class Round:
    """Takes analyses through the model until all that joined are through.

    Attributes:
        done: those whose results are kept.
        without_model: those of organisations that have switched their models off.
    """

    def __init__(
        self,
        predictor_of: "Callable[[Claim], Predictor | None]",
        give_up: Callable[[Claim, Exception], None],
    ) -> None:
        """Start empty.

        Args:
            predictor_of: the model that is to answer; None where models are switched off.
            give_up: called with an analysis that a fault of its own has ended.
        """
        self.done: list[uuid.UUID] = []
        self.without_model: list[Claim] = []
        self._predictor_of, self._give_up = predictor_of, give_up
        self._runs: list[Run] = []
        self._urgent_in_a_row = 0
        self._blobs = current_blobs()
        self._decoder = Decoder(self._blobs, current_room())
        self._ahead: deque[Future[list[_Part]]] = deque()
        self._in_model: Future[list[_Part]] | None = None
        self._in_writing: Future[list[_Part]] | None = None
        self._versions: dict[str, ModelVersion] = {}

    @property
    def unfinished(self) -> list[Claim]:
        """Those that this worker still holds."""
        return [run.claim for run in self._runs if not run.is_over]

    def through(self, claim: Claim) -> None:
        """Take this analysis through, and those that join it.

        Raises:
            GaveWay: it is to be released; nothing joined it.
            Exception: whatever went wrong with a whole batch; see :attr:`unfinished`.
        """
        self._join([claim])
        with (
            self._blobs.in_use(),  # slices and heatmaps are kept before rows name them
            self._decoder,
            ThreadPoolExecutor(1) as decoding,
            ThreadPoolExecutor(1) as model,
            ThreadPoolExecutor(1) as writing,
        ):
            self._decode_by, self._model, self._write_by = decoding, model, writing
            self._go(claim, closes=time.monotonic() + OPEN)

    def _go(self, leader: Claim, *, closes: float) -> None:
        while True:
            self._decode_ahead()
            if not (self._ahead or self._in_model or self._in_writing):
                return
            self._step()
            if leader.is_serving:
                # Where a worker died, the next one takes its analyses one by one: the one that
                # killed it must not use up the attempts of others.
                is_open = leader.attempt == 1 and time.monotonic() < closes
                self._let_others_join(is_open=is_open)

    def _decode_ahead(self, most: int = AHEAD) -> None:
        while len(self._ahead) < most and (parts := self._next_parts()):
            self._ahead.append(self._decode_by.submit(self._decode, parts))

    def _step(self) -> None:
        """Hand each stage what the one before it has done."""
        entering = None
        if self._ahead:
            parts = self._wait_for(self._ahead.popleft())
            is_large = _bytes_of(parts) > _LARGE_BATCH
            if is_large:  # its heatmaps are large, too
                self._hand_on(None)
                self._hand_on(None)
            else:
                self._decode_ahead()
            # In its own context, so that traces tell which task it belongs to.
            entering = self._model.submit(copy_context().run, _predict, parts)
            del parts  # before the next pixels come
            if is_large:
                self._hand_on(entering)
                entering = None
        self._hand_on(entering)

    def _hand_on(self, entering: "Future[list[_Part]] | None") -> None:
        answered = self._wait_for(self._in_model) if self._in_model else None
        self._in_model = entering
        written = self._wait_for(self._in_writing) if self._in_writing else None
        self._in_writing = self._write_by.submit(self._explain, answered) if answered else None
        if written:
            self._collect(written)

    def _next_parts(self) -> list[_Part]:
        """Images for one batch, of one model: urgent ones first, but not for good.

        Of one analysis alone where an answer would depend on what else is in the batch: the
        same study has the same answers each time, to the last bit.
        """
        urgent = [run for run in self._runs if run.waiting and run.claim.is_urgent]
        others = [run for run in self._runs if run.waiting and not run.claim.is_urgent]
        urgent_first = bool(urgent) and (self._urgent_in_a_row < URGENT_IN_A_ROW or not others)
        self._urgent_in_a_row = self._urgent_in_a_row + 1 if urgent_first else 0
        parts: list[_Part] = []
        left = BATCH
        for run in urgent + others if urgent_first else others + urgent:
            if not left:
                break
            if parts and not _go_together(parts[0].run.predictor, run.predictor):
                continue
            images = [run.waiting.popleft() for _number in range(min(left, len(run.waiting)))]
            run.under_way += len(images)
            left -= len(images)
            parts.append(_Part(run, images))
        return parts

    def _decode(self, parts: list[_Part]) -> list[_Part]:
        with self._blobs.batch() as kept:
            for part in parts:
                part.open(self._decoder, kept)
        return parts

    def _explain(self, parts: list[_Part]) -> list[_Part]:
        with self._blobs.batch() as kept:
            for part in parts:
                part.explain(kept)
        return parts

    def _collect(self, parts: list[_Part]) -> None:
        """Keep what came of a batch."""
        for part in parts:
            part.run.under_way -= len(part.images)
            if part.run.is_over:
                continue
            if part.fault is None:
                part.run.take(part)
            else:
                self._drop(part.run)
                self._give_up(part.run.claim, part.fault)
        held = [run for run in self._runs if not run.is_over]
        self._finish([run for run in held if not run.waiting and not run.under_way])
        for run in held:
            if not run.is_over and run.has_to_report:
                self._report(run)
        self._runs = [run for run in self._runs if not run.is_over]

    def _finish(self, runs: Sequence[Run]) -> None:
        if not runs:
            return
        lost = analyses.finish_analyses([run.ended(self._version(run.predictor)) for run in runs])
        for run in runs:
            self._drop(run)
            if run.claim.job_id in lost:
                _tell_lost(run.claim)
                continue
            self.done.append(run.claim.job_id)
            _log.info(
                "analysis %s: %d images, %.0f ms in the model",
                run.claim.job_id,
                len(run.claim.images),
                run.model_seconds * 1000,
            )

    def _version(self, predictor: "Predictor") -> ModelVersion:
        found = self._versions.get(predictor.sha256)
        if found is None:
            found = self._versions[predictor.sha256] = register_model(
                name=predictor.name, sha256=predictor.sha256, card=predictor.card
            )
        return found

    def _report(self, run: Run) -> None:
        try:
            run.report()
        except LeaseLost:
            self._drop(run)
            _tell_lost(run.claim)

    def _drop(self, run: Run) -> None:
        run.is_over = True
        run.waiting.clear()

    def _let_others_join(self, *, is_open: bool) -> None:
        waiting = {
            is_urgent: sum(
                len(run.waiting) for run in self._runs if run.claim.is_urgent is is_urgent
            )
            for is_urgent in (True, False)
        }
        if waiting[True] < BATCH:
            self._join_ids(analyses.waiting_analyses(urgent=True, limit=BATCH))
        room = AHEAD * BATCH - sum(waiting.values())
        if is_open and room > 0:
            self._join_ids(analyses.waiting_analyses(largest=BATCH, limit=room))

    def _join_ids(self, waiting: Sequence[uuid.UUID]) -> None:
        if waiting:
            self._join(analyses.claim_analyses(waiting))

    def _join(self, claimed: Sequence[Claim]) -> None:
        for claim in claimed:
            try:
                predictor = self._predictor_of(claim)
            except (InvalidModel, MissingBlob, MemoryError, OSError) as fault:
                self._give_up(claim, fault)
                continue
            if predictor is None:
                self.without_model.append(claim)
            else:
                # One model from the first slice to the last, whatever is promoted meanwhile.
                self._runs.append(Run(claim, predictor))
        if len(self._runs) > 1:
            for one in {run.predictor for run in self._runs}:
                if one.batches_are_alike is None:
                    self._model.submit(one.try_batches)  # alone with the model, once

    @traced("wait for the next stage")
    def _wait_for(self, future: "Future[Found]") -> "Found":
        """The result; leases are renewed while a large file or a slow model takes its time."""
        while True:
            try:
                return future.result(timeout=_RENEWED)
            except TimeoutError:
                if future.done():
                    raise
                for run in self._runs:
                    if not run.is_over:
                        self._report(run)


def _go_together(one: "Predictor", other: "Predictor") -> bool:
    return one is other and bool(one.batches_are_alike)


@traced("model")
def _predict(parts: list[_Part]) -> list[_Part]:
    """What the model says of those that can be classified; pixels are not kept."""
    usable = [(part, one, found) for part in parts for one, found in part.usable()]
    started = time.perf_counter()
    results = parts[0].run.predictor.predict(
        [square_pixels(found) for _part, _one, found in usable],
        [found.spacing for _part, _one, found in usable],
    )
    a_slice = (time.perf_counter() - started) / max(1, len(usable))
    for (part, one, _pixels), result in zip(usable, results, strict=True):
        part.heard(one, result)
        part.model_seconds += a_slice
    del usable
    for part in parts:
        part.drop_pixels()
    return parts


def _bytes_of(parts: Sequence[_Part]) -> int:
    """Of the pixels that the model is to see."""
    return sum(
        one.slice.pixels.nbytes
        for part in parts
        for one in part.opened
        if isinstance(one.slice, Slice)
    )


def _stack_of(answer: NewPrediction, stacks: dict[uuid.UUID, ClaimedImage]) -> uuid.UUID | None:
    image = stacks.get(answer.image_id)
    return image.series_id if image else None


def _tell_lost(claim: Claim) -> None:
    _log.warning("analysis %s was taken over by another worker", claim.job_id)
