"""Figures of a worker for Prometheus: tasks, their ends and their times.

Tasks run in child processes, which sum their figures in files (``PROMETHEUS_MULTIPROC_DIR``). The
parent answers Prometheus on a port of its own, SULCUS_METRICS_PORT.
"""

import os
import time
from pathlib import Path
from typing import Any

from celery.signals import task_postrun, task_prerun, worker_init, worker_process_init, worker_ready
from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector

from config import Settings
from worker.app import flask_app

_TASKS = Counter("sulcus_tasks", "Tasks that ended", ["task", "state"])
_SECONDS = Histogram(
    "sulcus_task_seconds",
    "Time that a task took",
    ["task"],
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3600),
)
_PREFIX = "sulcus."
_STATES = frozenset({"SUCCESS", "FAILURE", "RETRY", "REVOKED", "REJECTED", "IGNORED"})
_begun: dict[str, float] = {}


@worker_init.connect
def begin_anew(**_signal: object) -> None:
    """Forget the figures of processes that have ended, before any child is there.

    Others may write to the same folder.
    """
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if _port() and folder:
        for path in Path(folder).glob("*.db"):
            number = path.stem.rpartition("_")[2]
            if number.isdecimal() and not _lives(int(number)):
                path.unlink(missing_ok=True)


@worker_ready.connect
def answer_prometheus(**_signal: object) -> None:
    """Listen, if a port is set."""
    if port := _port():
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        settings: Settings = flask_app.extensions["settings"]
        start_http_server(port, addr=settings.metrics_bind, registry=registry)


@worker_process_init.connect
def begin_at_zero(**_signal: object) -> None:
    """Errors count from 0 on: Prometheus cannot see a first one rise otherwise."""
    for name in flask_app.extensions["celery"].tasks:
        if name.startswith(_PREFIX):
            for state in ("SUCCESS", "FAILURE"):
                _TASKS.labels(name, state)


@task_prerun.connect
def note_begin(task_id: str, **_signal: object) -> None:
    """A task begins in this process."""
    _begun[task_id] = time.perf_counter()


@task_postrun.connect
def note_end(task_id: str, task: Any, state: str | None = None, **_signal: object) -> None:
    """A task has ended in this process."""
    begun = _begun.pop(task_id, None)
    name = task.name if task.name.startswith(_PREFIX) else "other"
    _TASKS.labels(name, state if state in _STATES else "other").inc()
    if begun is not None:
        _SECONDS.labels(name).observe(time.perf_counter() - begun)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _port() -> int:
    settings: Settings = flask_app.extensions["settings"]
    return settings.metrics_port
