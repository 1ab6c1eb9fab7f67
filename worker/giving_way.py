"""What runs in idle moments (shadow, recall) gives way to every study that waits.

It goes back into the queue and starts anew later: of what it did, the decoded slices stay. Studies
themselves never give way: urgent ones join what is under way (:mod:`worker.rounds`).
"""

import time
from datetime import timedelta

from webapp.inference.analyses import waiting_analyses
from webapp.inference.claims import Claim

# What would be over sooner is not worth starting anew.
WORTH_IT = timedelta(seconds=2)


class GaveWay(Exception):
    """Another analysis is to be taken first."""


class Way:
    """Looks, between the batches of one analysis, whether a study waits that comes before it."""

    def __init__(self, claim: Claim) -> None:
        self._gives_way = not claim.is_serving
        self._total = len(claim.images)
        self._started = time.monotonic()

    def give_if_needed(self, *, images_done: int) -> None:
        """Look for a study, if enough is left to do; all that was found has to be kept before.

        Raises:
            GaveWay: the analysis is to be released.
        """
        if not self._gives_way:
            return
        a_slice = (time.monotonic() - self._started) / images_done
        left = timedelta(seconds=a_slice * (self._total - images_done))
        if left >= WORTH_IT and waiting_analyses(limit=1):
            raise GaveWay
