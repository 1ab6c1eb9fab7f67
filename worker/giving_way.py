"""A long routine analysis gives way to an urgent one that waits for a worker.

It goes back into the queue and starts anew later: of what it did, the decoded slices stay.
"""

import json
import logging
import time
from datetime import timedelta

from webapp.database import now
from webapp.extensions import current_settings
from webapp.health import broker_client
from webapp.inference.claims import Claim
from webapp.queueing import JOB, NO_BROKER, URGENT

# An analysis that was asked for longer ago goes through, however many urgent ones come.
PATIENCE = timedelta(minutes=15)
# What would be over sooner is not worth starting anew.
WORTH_IT = timedelta(seconds=10)
# One running analysis gives way to an urgent one; the workers beside it go on.
_SIGN = "sulcus:sign:way:"
_SIGN_LASTS = timedelta(minutes=1)

_log = logging.getLogger(__name__)


class GaveWay(Exception):
    """An urgent analysis is to be taken first."""


class Way:
    """Looks, between the batches of one analysis, whether an urgent one waits."""

    def __init__(self, claim: Claim) -> None:
        self._may_give_way = not claim.is_urgent and now() - claim.asked_at < PATIENCE
        self._total = len(claim.images)
        self._started = time.monotonic()

    def give_if_needed(self, *, images_done: int) -> None:
        """Look into the queue, if enough is left to do; all that was found has to be kept before.

        Raises:
            GaveWay: the analysis is to be released.
        """
        a_slice = (time.monotonic() - self._started) / images_done
        left = timedelta(seconds=a_slice * (self._total - images_done))
        if self._may_give_way and left >= WORTH_IT and self._is_asked_to():
            raise GaveWay

    def _is_asked_to(self) -> bool:
        try:
            with broker_client(current_settings()) as broker:
                message = broker.lindex(URGENT, -1)  # the next one to be taken
                if message is None:
                    return False
                job = json.loads(message)["headers"].get(JOB)
                return bool(broker.set(f"{_SIGN}{job}", 1, nx=True, ex=_SIGN_LASTS))
        except NO_BROKER as error:
            _log.warning("whether an urgent study waits is not known: %s", error)
            self._may_give_way = False  # no batch more waits for a broker that stalls
            return False
