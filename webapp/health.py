"""Readiness of the portal. Each reason for not being ready has a code.

Beat and worker write heartbeats to Redis: the time of the last message sent or taken.
A ping does not replace them: a worker may answer it and still take no messages.
"""

import time
from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

import redis
from flask import Flask, current_app
from sqlalchemy import exists, func, make_url, select, text
from sqlalchemy.exc import SQLAlchemyError

from webapp.brokers import NO_BROKER, check_broker, redis_client
from webapp.database import db, now
from webapp.extensions import current_blobs, current_settings
from webapp.storage import Problem, free_bytes
from webapp.studies.models import Analysis, Purpose, Status
from webapp.tenancy import unscoped

BEAT_SIGN = "sulcus:sign:beat"
WORKER_SIGN = "sulcus:sign:worker"
BUSY_SIGN = "sulcus:sign:busy"
# Limit of a delivery or a sweep; an analysis renews its lease meanwhile.
_LONGEST_TASK = 15 * 60.0  # seconds


class Trouble(StrEnum):
    """Why the portal is not ready."""

    DATABASE = "database_unavailable"
    BROKER = "broker_unavailable"
    REDIS = "redis_unavailable"
    BEAT = "beat_silent"
    WORKER = "worker_silent"
    QUEUE = "queue_stalled"
    STORAGE = Problem.FULL
    STORAGE_AWAY = Problem.AWAY
    STORAGE_REFUSED = Problem.REFUSED
    STORAGE_MISSING = Problem.MISSING
    DATABASE_DISK = "database_disk_full"


def init_app(app: Flask) -> None:
    """Record the start time: heartbeats may be missing for some minutes after it."""
    app.extensions["started_at"] = time.time()


def troubles() -> list[Trouble]:
    """Every reason why the portal is not ready; empty if it is."""
    return [*_of_stores(), *_of_database(), *_of_broker(), *_of_signs()]


def _of_stores() -> Iterator[Trouble]:
    settings = current_settings()
    if problem := current_blobs().problem():
        yield Trouble(problem)
    url = make_url(settings.database_url)
    file = url.database if url.get_backend_name() == "sqlite" else None
    if file and free_bytes(Path(file).parent) <= settings.least_free_bytes:
        yield Trouble.DATABASE_DISK


def _of_database() -> Iterator[Trouble]:
    try:
        db.session.execute(text("SELECT 1"))
        if _queue_stalled():
            yield Trouble.QUEUE
    except SQLAlchemyError:
        db.session.rollback()
        yield Trouble.DATABASE


def _of_broker() -> Iterator[Trouble]:
    try:
        check_broker(current_app.extensions["celery"])
    except NO_BROKER:
        yield Trouble.BROKER


def _of_signs() -> Iterator[Trouble]:
    settings = current_settings()
    patience = settings.stalled_minutes * 60.0
    try:
        with redis_client(settings) as client:
            beat, worker, busy = client.mget(BEAT_SIGN, WORKER_SIGN, BUSY_SIGN)
    except redis.RedisError:
        if settings.uses_rabbitmq or settings.redis_url != settings.redis_broker_url:
            yield Trouble.REDIS
        return
    if _age(beat) > patience:
        yield Trouble.BEAT
    is_busy = busy is not None and time.time() - float(busy) < _LONGEST_TASK
    if _age(worker) > patience and not is_busy and not _some_lease_runs():
        yield Trouble.WORKER


def _age(sign: bytes | None) -> float:
    """Seconds since a heartbeat, or since this process started if there is none."""
    moment = float(sign) if sign else float(current_app.extensions["started_at"])
    return time.time() - moment


def _queue_stalled() -> bool:
    """Whether a job has waited for ``stalled_minutes`` and no job was taken in that time."""
    moment = now() - timedelta(minutes=current_settings().stalled_minutes)
    with unscoped():
        waiting = db.session.scalar(
            select(func.min(Analysis.created_at)).where(
                # What waits for an idle moment may wait for long.
                Analysis.status == Status.QUEUED,
                Analysis.purpose == Purpose.SERVING,
            )
        )
        if waiting is None or waiting > moment:
            return False
        taken = db.session.scalar(select(func.max(Analysis.started_at)))
    return (taken is None or taken < moment) and not _some_lease_runs()


def _some_lease_runs() -> bool:
    try:
        with unscoped():
            works = exists().where(Analysis.status == Status.RUNNING, Analysis.lease_until > now())
            return bool(db.session.scalar(select(works)))
    except SQLAlchemyError:
        db.session.rollback()
        return False
