"""Beat's schedule: at most one message of each periodic task is in the queue."""

import logging
from typing import Any

from celery.beat import PersistentScheduler, ScheduleEntry

from webapp.brokers import NO_BROKER
from webapp.queueing import HOUSEKEEPING, queues_of
from worker.app import flask_app, sign_of_beat

_log = logging.getLogger(__name__)


class Scheduler(PersistentScheduler):
    """Skips a task while a message of the same task waits: a second one would do nothing."""

    def apply_async(self, entry: ScheduleEntry, *args: Any, **options: Any) -> Any:
        """Send the entry's task; if one waits already, only write the heartbeat."""
        task = str(entry.task)
        if _waits(task):
            sign_of_beat(sender=task)
            return None
        return super().apply_async(entry, *args, **options)


def _waits(task: str) -> bool:
    try:
        return task in queues_of(flask_app).names(HOUSEKEEPING)
    except NO_BROKER as error:
        # Sending reports the fault; one message too many does no harm.
        _log.warning("beat cannot look into the queue: %s", error)
        return False
