"""Beat's schedule: a periodic task is sent once, however long nobody takes it."""

import logging
from typing import Any

from celery.beat import PersistentScheduler, ScheduleEntry

from webapp.queueing import HOUSEKEEPING, NO_BROKER, waiting
from worker.app import app, sign_of_beat

_log = logging.getLogger(__name__)


class Scheduler(PersistentScheduler):
    """Sends a task unless a message of its kind waits: a second one would do nothing more."""

    def apply_async(self, entry: ScheduleEntry, *args: Any, **options: Any) -> Any:
        """Send the entry's task; where one waits already, only leave a sign of life."""
        task = str(entry.task)
        if _waits(task):
            sign_of_beat(sender=task)
            return None
        return super().apply_async(entry, *args, **options)


def _waits(task: str) -> bool:
    try:
        return any(headers["task"] == task for headers in waiting(app, HOUSEKEEPING))
    except NO_BROKER as error:
        # The attempt to send says what is wrong; one message too many does no harm.
        _log.warning("beat cannot look into the queue: %s", error)
        return False
