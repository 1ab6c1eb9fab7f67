"""A worker says that it is there, and what it does: a row that it renews (webapp/operating).

A thread of the worker's parent process writes it, so it costs no task anything, and a worker
whose event loop hangs on its broker is still seen.
"""

import logging
import threading
import time
from datetime import datetime
from typing import Any

from celery.signals import (
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutdown,
)
from celery.worker import state as worker_state
from sqlalchemy.exc import SQLAlchemyError

from config import VERSION, Settings
from webapp import tracing
from webapp.brokers import JOB
from webapp.database import db, now
from webapp.operating.operations import Presence, forget_worker, note_presence
from webapp.operating.state import PRESENCE_EVERY
from worker.app import flask_app

_log = logging.getLogger(__name__)


class Sign:
    """The thread that renews a worker's row until it is told to end."""

    def __init__(self, worker: Any) -> None:
        """Of a running worker, Celery's own object."""
        self._worker = worker
        self._started_at = now()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        """Begin; the first sign is written at once."""
        self._thread.start()

    def end(self) -> None:
        """Stop and remove the row."""
        self._over.set()
        self._thread.join(timeout=5)
        with flask_app.app_context():
            try:
                forget_worker(self._worker.hostname)
            except SQLAlchemyError:
                db.session.rollback()

    def _run(self) -> None:
        while True:
            try:
                with flask_app.app_context():
                    note_presence(_presence(self._worker, self._started_at))
            except Exception as error:  # the database is away; the next sign may find it
                _log.warning("no sign of this worker was written: %s", type(error).__name__)
            if self._over.wait(PRESENCE_EVERY):
                return


_signs: list[Sign] = []


@worker_ready.connect
def begin(sender: Any, **_signal: object) -> None:
    """The worker takes messages from now on."""
    sign = Sign(sender.controller)
    _signs.append(sign)
    sign.start()


@worker_process_init.connect
def take_no_connection(**_signal: object) -> None:
    """A child that is forked later must not use the connections of the parent's thread."""
    with flask_app.app_context():
        db.engine.dispose(close=False)


@worker_process_shutdown.connect
def send_spans(**_signal: object) -> None:
    """A child ends: what it has traced goes to the collector, if there is one."""
    with flask_app.app_context():
        tracing.flush()


@worker_shutdown.connect
def end(**_signal: object) -> None:
    """The worker ends as asked. One that is killed leaves its row, and turns silent."""
    while _signs:
        _signs.pop().end()


def _presence(worker: Any, started_at: datetime) -> Presence:
    settings: Settings = flask_app.extensions["settings"]
    return Presence(
        name=worker.hostname[:200],
        started_at=started_at,
        version=VERSION,
        device=settings.device,
        queues=sorted(worker.app.amqp.queues.consume_from),
        concurrency=int(worker.concurrency or 1),
        tasks_done=sum(worker_state.total_count.values()),
        doing=[_doing(request) for request in list(worker_state.active_requests)],
    )


def _doing(request: Any) -> dict[str, Any]:
    since = request.time_start or time.time()
    return {
        "task": request.name,
        "job": request.request_dict.get(JOB),
        "seconds": round(max(0.0, time.time() - since), 1),
    }
