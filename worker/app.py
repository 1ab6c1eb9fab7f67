"""The Celery entry point: ``celery -A worker.app worker`` and ``… beat``."""

import logging
import sys
import time
from contextlib import suppress
from functools import lru_cache

import redis
from celery import Celery, Task
from celery.signals import (
    after_setup_logger,
    after_setup_task_logger,
    after_task_publish,
    task_postrun,
    task_prerun,
)

from config import InvalidSetting, Settings
from webapp import create_app, logs
from webapp.brokers import JOB, SENT, redis_client
from webapp.health import BEAT_SIGN, BUSY_SIGN, WORKER_SIGN
from webapp.queueing import RESEND, queues_of

try:
    flask_app = create_app()
except InvalidSetting as problem:
    sys.exit(f"Sulcus cannot start: {problem}")


# Celery logs two lines per task, also for the sweep that runs every five seconds. The tasks log
# what they did themselves.
for noisy in ("celery.app.trace", "celery.beat", "celery.worker.strategy"):
    logging.getLogger(noisy).setLevel(logging.WARNING)

app: Celery = flask_app.extensions["celery"]


@after_setup_logger.connect
@after_setup_task_logger.connect
def write_discreetly(logger: logging.Logger, **_signal: object) -> None:
    """Redact Celery's own log handlers, which replace ours."""
    settings: Settings = flask_app.extensions["settings"]
    logs.keep_quiet(logger.handlers, log_format=settings.log_format)


@lru_cache(maxsize=1)
def _redis() -> redis.Redis:
    """One client per process that writes heartbeats; Celery's parent process writes none."""
    return redis_client(flask_app.extensions["settings"])


@after_task_publish.connect
def sign_of_beat(sender: str = "", **_signal: object) -> None:
    """Write beat's heartbeat: only beat sends this task or skips it (worker/beat.py)."""
    if sender == RESEND:
        with suppress(redis.RedisError):
            _redis().set(BEAT_SIGN, time.time())


@task_prerun.connect
def sign_of_worker(task: "Task[..., object]", **_signal: object) -> None:
    """Write the worker's heartbeat: it took a message."""
    with suppress(redis.RedisError):
        _redis().mset({WORKER_SIGN: time.time(), BUSY_SIGN: time.time()})
        request = task.request
        queue = (request.delivery_info or {}).get("routing_key")
        if queue and (sent := request.get(SENT)):  # not where a task is called as a function
            queues_of(flask_app).taken(queue, request.get(JOB) or task.name, sent)


@task_postrun.connect
def sign_of_idle_worker(**_signal: object) -> None:
    """Mark the worker as idle: the task has ended."""
    with suppress(redis.RedisError):
        _redis().delete(BUSY_SIGN)
