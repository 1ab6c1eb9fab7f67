"""A long routine analysis gives way to an urgent one that waits for a worker.

What runs in idle moments (shadow, recall) gives way to every study that waits. Whoever gives way
goes back into the queue and starts anew later: of what it did, the decoded slices stay.
"""

import logging
import time
from datetime import timedelta

from flask import current_app

from webapp.brokers import NO_BROKER, redis_client
from webapp.database import now
from webapp.extensions import current_settings
from webapp.inference.claims import Claim
from webapp.queueing import INFERENCE, URGENT, queues_of

# An analysis that was asked for longer ago goes through, however many urgent ones come.
PATIENCE = timedelta(minutes=15)
# What would be over sooner is not worth starting anew.
WORTH_IT = timedelta(seconds=10)
WORTH_IT_WHEN_IDLE = timedelta(seconds=2)  # for what only runs while no study waits
# One running analysis gives way to an urgent one; the workers beside it go on.
_SIGN = "sulcus:sign:way:"
_SIGN_LASTS = timedelta(minutes=1)

_log = logging.getLogger(__name__)


class GaveWay(Exception):
    """Another analysis is to be taken first."""


class Way:
    """Looks, between the batches of one analysis, whether one waits that comes before it."""

    def __init__(self, claim: Claim) -> None:
        self._before: tuple[str, ...]
        if claim.is_serving:
            self._may_give_way = not claim.is_urgent and now() - claim.asked_at < PATIENCE
            self._worth_it, self._before = WORTH_IT, (URGENT,)
        else:
            self._may_give_way = True
            self._worth_it, self._before = WORTH_IT_WHEN_IDLE, (URGENT, INFERENCE)
        self._total = len(claim.images)
        self._started = time.monotonic()

    def give_if_needed(self, *, images_done: int) -> None:
        """Look into the queue, if enough is left to do; all that was found has to be kept before.

        Raises:
            GaveWay: the analysis is to be released.
        """
        a_slice = (time.monotonic() - self._started) / images_done
        left = timedelta(seconds=a_slice * (self._total - images_done))
        if self._may_give_way and left >= self._worth_it and self._is_asked_to():
            raise GaveWay

    def _is_asked_to(self) -> bool:
        try:
            # The next one to be taken of each queue.
            waiting = map(queues_of(current_app).first, self._before)
            with redis_client(current_settings()) as client:
                return any(
                    client.set(f"{_SIGN}{job}", 1, nx=True, ex=_SIGN_LASTS)
                    for job in waiting
                    if job is not None
                )
        except NO_BROKER as error:
            _log.warning("whether another study waits is not known: %s", error)
            self._may_give_way = False  # no batch more waits for a broker that stalls
            return False
