"""What the installation is doing: one object for the operator's page and for ``/metrics``.

Each fact is read in one place and once for each object. What keeps the portal from working is
:mod:`webapp.health`'s to say, here as in ``/readyz``. Figures are of all organisations together and
name nobody.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from amqp.exceptions import ChannelError
from celery import Celery
from flask import current_app
from sqlalchemy import ColumnElement, Select, case, func, literal, select, text, union_all
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import InstrumentedAttribute

from webapp import health
from webapp.brokers import NO_BROKER
from webapp.database import db, now
from webapp.extensions import current_settings
from webapp.health import Finding
from webapp.learning.models import Retraining, RetrainingStatus, SnapshotRequest, SnapshotStatus
from webapp.models_admin.models import GateRun, GateStatus
from webapp.operating.models import WorkerProcess
from webapp.pacs.models import Delivery, DeliveryStatus
from webapp.queueing import (
    BACKGROUND,
    DELIVERY,
    HOUSEKEEPING,
    INFERENCE,
    TRAINING,
    URGENT,
)
from webapp.storage import disk_of
from webapp.studies.models import Analysis, Priority, Purpose, Status, Study
from webapp.tenancy import unscoped

QUEUES = (URGENT, INFERENCE, DELIVERY, HOUSEKEEPING, BACKGROUND, TRAINING)
PRESENCE_EVERY = 15.0  # seconds between two signs of a worker
GONE_AFTER = timedelta(seconds=4 * PRESENCE_EVERY)
FORGOTTEN_AFTER = timedelta(days=1)
_HOUR = timedelta(hours=1)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class QueueState:
    """One queue.

    Attributes:
        messages: in the broker; None if it does not answer.
        waiting: jobs in the database that no worker has; None if the database does not answer.
        oldest_seconds: since the oldest of them was asked for; 0 if none waits.
        running: jobs that a worker has.
    """

    name: str
    messages: int | None
    waiting: int | None
    oldest_seconds: float | None
    running: int | None


@dataclass(frozen=True)
class WorkerState:
    """One worker process, as its last sign says."""

    name: str
    seen_seconds: float
    is_alive: bool
    started_at: datetime
    version: str
    device: str
    queues: Sequence[str]
    concurrency: int
    tasks_done: int
    doing: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class StorageState:
    """Disk space in bytes; of the whole disk, since what lies on it is never counted.

    Attributes:
        total, used, free: None where images are in S3.
        database: size of the database itself; None if it does not answer.
    """

    total: int | None
    used: int | None
    free: int | None
    database: int | None


class State:
    """All of it; each part is read when it is first asked for. Needs an application context."""

    @cached_property
    def findings(self) -> Sequence[Finding]:
        """What keeps the portal from being ready."""
        return health.findings()

    @cached_property
    def queues(self) -> Sequence[QueueState]:
        """All queues, the urgent one first."""
        messages, jobs = _messages(), _jobs()
        found = []
        for name in QUEUES:
            waiting, oldest, running = jobs.get(name, (0, None, 0)) if jobs else (None,) * 3
            age = max(0.0, (now() - oldest).total_seconds()) if oldest else 0.0
            found.append(
                QueueState(
                    name=name,
                    messages=messages.get(name) if messages is not None else None,
                    waiting=waiting,
                    oldest_seconds=None if jobs is None else age,
                    running=running,
                )
            )
        return found

    @cached_property
    def workers(self) -> Sequence[WorkerState] | None:
        """Those seen within a day, by name; None if the database does not answer."""
        moment = now()
        rows = _rows(
            select(WorkerProcess)
            .where(WorkerProcess.seen_at > moment - FORGOTTEN_AFTER)
            .order_by(WorkerProcess.name)
        )
        return None if rows is None else [_worker(row, moment) for (row,) in rows]

    @cached_property
    def finished(self) -> Mapping[Status, int] | None:
        """Analyses for serving that ended within an hour, by their end."""
        rows = _rows(
            select(Analysis.status, func.count())
            .where(Analysis.finished_at > now() - _HOUR, Analysis.purpose == Purpose.SERVING)
            .group_by(Analysis.status)
        )
        if rows is None:
            return None
        counts = dict.fromkeys((Status.DONE, Status.FAILED, Status.REJECTED), 0)
        return counts | {status: count for status, count in rows if status in counts}

    @cached_property
    def storage(self) -> StorageState:
        """The disk of the images, and the database's size."""
        settings = current_settings()
        if settings.storage_url.startswith("s3:"):
            return StorageState(None, None, None, _database_bytes())
        usage = disk_of(settings.storage_dir)
        return StorageState(usage.total, usage.used, usage.free, _database_bytes())


def _jobs() -> dict[str, tuple[int, datetime | None, int]] | None:
    """By queue: how many wait, since when the oldest does, and how many are at work."""
    kinds = union_all(
        _analyses(),
        _kind(DELIVERY, Delivery.created_at, Delivery.status == DeliveryStatus.QUEUED, None),
        _kind(
            TRAINING,
            GateRun.created_at,
            GateRun.status == GateStatus.QUEUED,
            GateRun.status == GateStatus.RUNNING,
        ),
        _kind(
            TRAINING,
            Retraining.created_at,
            Retraining.status == RetrainingStatus.QUEUED,
            Retraining.status == RetrainingStatus.RUNNING,
        ),
        _kind(
            TRAINING,
            SnapshotRequest.created_at,
            SnapshotRequest.status == SnapshotStatus.QUEUED,
            SnapshotRequest.status == SnapshotStatus.MAKING,
        ),
    ).subquery()
    rows = _rows(
        select(
            kinds.c.queue,
            func.sum(kinds.c.waiting),
            func.min(kinds.c.oldest),
            func.sum(kinds.c.running),
        ).group_by(kinds.c.queue)
    )
    if rows is None:
        return None
    return {queue: (int(waits), oldest, int(runs)) for queue, waits, oldest, runs in rows}


def _analyses() -> Select[Any]:
    queue = case(
        (Analysis.purpose != Purpose.SERVING, BACKGROUND),
        (Study.priority == Priority.URGENT, URGENT),
        else_=INFERENCE,
    )
    return (
        select(
            queue.label("queue"),
            *_counts(
                Analysis.created_at,
                Analysis.status == Status.QUEUED,
                Analysis.status == Status.RUNNING,
            ),
        )
        .join(Study, Study.id == Analysis.study_id)
        .where(Analysis.status.in_((Status.QUEUED, Status.RUNNING)))
        .group_by(queue)
    )


def _kind(
    queue: str,
    since: InstrumentedAttribute[datetime],
    waits: ColumnElement[bool],
    runs: ColumnElement[bool] | None,
) -> Select[Any]:
    under_way = waits if runs is None else waits | runs
    return select(literal(queue).label("queue"), *_counts(since, waits, runs)).where(under_way)


def _counts(
    since: InstrumentedAttribute[datetime],
    waits: ColumnElement[bool],
    runs: ColumnElement[bool] | None,
) -> tuple[ColumnElement[Any], ...]:
    running: ColumnElement[Any] = (
        literal(0) if runs is None else func.coalesce(func.sum(case((runs, 1), else_=0)), 0)
    )
    return (
        func.coalesce(func.sum(case((waits, 1), else_=0)), 0).label("waiting"),
        func.min(case((waits, since))).label("oldest"),
        running.label("running"),
    )


def _rows(statement: Select[*tuple[Any, ...]]) -> Sequence[Any] | None:
    """The rows, of all organisations; None if the database does not answer."""
    try:
        with unscoped():
            return db.session.execute(statement).all()
    except SQLAlchemyError:
        db.session.rollback()
        _log.warning("figures in the database cannot be read")
        return None


def _messages() -> dict[str, int] | None:
    """How many messages each queue has; None if the broker does not answer."""
    celery: Celery = current_app.extensions["celery"]
    found = {}
    try:
        with celery.connection_for_read() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=2)
            for name in QUEUES:
                try:
                    with connection.channel() as opened:
                        channel: Any = opened
                        declared = channel.queue_declare(queue=name, passive=True)
                    found[name] = int(declared.message_count)
                except ChannelError:  # nothing was ever sent to it
                    found[name] = 0
    except NO_BROKER:
        return None
    return found


def _worker(row: WorkerProcess, moment: datetime) -> WorkerState:
    return WorkerState(
        name=row.name,
        seen_seconds=max(0.0, (moment - row.seen_at).total_seconds()),
        is_alive=row.seen_at > moment - GONE_AFTER,
        started_at=row.started_at,
        version=row.version,
        device=row.device,
        queues=row.queues,
        concurrency=row.concurrency,
        tasks_done=row.tasks_done,
        doing=row.doing,
    )


def _database_bytes() -> int | None:
    file = health.database_file()
    if file is not None:
        beside = (file, *(Path(f"{file}{suffix}") for suffix in ("-wal", "-shm")))
        return sum(one.stat().st_size for one in beside if one.exists())
    rows = _rows(select(text("pg_database_size(current_database())")))
    return int(rows[0][0]) if rows else None
