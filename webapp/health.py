"""Readiness of the portal. Each reason for not being ready has a code and a sentence.

Beat and worker write heartbeats to Redis: the time of the last message sent or taken.
A ping does not replace them: a worker may answer it and still take no messages.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

import redis
from flask import Flask, current_app
from flask_babel import gettext as _
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


@dataclass(frozen=True)
class Finding:
    """Something that keeps the portal from being ready.

    Attributes:
        seconds: for how long, where that is known.
    """

    trouble: Trouble
    seconds: float = 0.0

    @property
    def sentence(self) -> str:
        """What is wrong and what follows from it, in the language of the request."""
        return _SENTENCES[self.trouble](max(1, round(self.seconds / 60)))


# Each is called with the minutes that it has lasted.
_SENTENCES: Mapping[Trouble, Callable[[int], str]] = {
    Trouble.DATABASE: lambda _minutes: _(
        "The database does not answer: no page can be shown until it does. Nothing is lost."
    ),
    Trouble.BROKER: lambda _minutes: _(
        "The queue's server does not answer: uploads are kept, and analysed once it is back."
    ),
    Trouble.BEAT: lambda minutes: _(
        "Beat has been silent for %(minutes)d min: what was lost is not sent again, and series "
        "from archives are not put together.",
        minutes=minutes,
    ),
    Trouble.WORKER: lambda minutes: _(
        "No worker has taken anything for %(minutes)d min: studies wait, none is lost.",
        minutes=minutes,
    ),
    Trouble.QUEUE: lambda minutes: _(
        "A study has waited for %(minutes)d min and no worker takes any: the worker hangs, or "
        "listens to another queue.",
        minutes=minutes,
    ),
    Trouble.STORAGE: lambda _minutes: _(
        "The disk of the images is full, or nearly so: uploads are refused and analyses wait "
        "until there is room."
    ),
    Trouble.REDIS: lambda _minutes: _(
        "Redis does not answer: studies are analysed, but what was lost is not sent again."
    ),
    Trouble.STORAGE_AWAY: lambda _minutes: _(
        "The store of images does not answer: uploads are refused and analyses wait until it does."
    ),
    Trouble.STORAGE_REFUSED: lambda _minutes: _(
        "The store of images refuses the credentials: uploads are refused and analyses wait."
    ),
    Trouble.STORAGE_MISSING: lambda _minutes: _(
        "The bucket of images does not exist: uploads are refused and analyses wait."
    ),
    Trouble.DATABASE_DISK: lambda _minutes: _(
        "The disk of the database is full, or nearly so: soon nothing more can be written."
    ),
}


def findings() -> list[Finding]:
    """Every reason why the portal is not ready; empty if it is."""
    return [*_of_stores(), *_of_database(), *_of_broker(), *_of_signs()]


def troubles() -> list[Trouble]:
    """The codes of :func:`findings`."""
    return [one.trouble for one in findings()]


def _of_stores() -> Iterator[Finding]:
    settings = current_settings()
    if problem := current_blobs().problem():
        yield Finding(Trouble(problem))
    file = database_file()
    if file and free_bytes(file.parent) <= settings.least_free_bytes:
        yield Finding(Trouble.DATABASE_DISK)


def database_file() -> Path | None:
    """The file of an SQLite database; None with a server."""
    url = make_url(current_settings().database_url)
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def _of_database() -> Iterator[Finding]:
    try:
        db.session.execute(text("SELECT 1"))
        if (waited := _queue_stalled()) is not None:
            yield Finding(Trouble.QUEUE, waited)
    except SQLAlchemyError:
        db.session.rollback()
        yield Finding(Trouble.DATABASE)


def _of_broker() -> Iterator[Finding]:
    try:
        check_broker(current_app.extensions["celery"])
    except NO_BROKER:
        yield Finding(Trouble.BROKER)


def _of_signs() -> Iterator[Finding]:
    settings = current_settings()
    patience = settings.stalled_minutes * 60.0
    try:
        with redis_client(settings) as client:
            beat, worker, busy = client.mget(BEAT_SIGN, WORKER_SIGN, BUSY_SIGN)
    except redis.RedisError:
        if settings.uses_rabbitmq or settings.redis_url != settings.redis_broker_url:
            yield Finding(Trouble.REDIS)
        return
    if _age(beat) > patience:
        yield Finding(Trouble.BEAT, _age(beat))
    is_busy = busy is not None and time.time() - float(busy) < _LONGEST_TASK
    if _age(worker) > patience and not is_busy and not _some_lease_runs():
        yield Finding(Trouble.WORKER, _age(worker))


def _age(sign: bytes | None) -> float:
    """Seconds since a heartbeat, or since this process started if there is none."""
    moment = float(sign) if sign else float(current_app.extensions["started_at"])
    return time.time() - moment


def _queue_stalled() -> float | None:
    """Seconds that a job has waited, if ``stalled_minutes`` or more and none was taken in them."""
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
            return None
        taken = db.session.scalar(select(func.max(Analysis.started_at)))
    stalled = (taken is None or taken < moment) and not _some_lease_runs()
    return (now() - waiting).total_seconds() if stalled else None


def _some_lease_runs() -> bool:
    try:
        with unscoped():
            works = exists().where(Analysis.status == Status.RUNNING, Analysis.lease_until > now())
            return bool(db.session.scalar(select(works)))
    except SQLAlchemyError:
        db.session.rollback()
        return False
