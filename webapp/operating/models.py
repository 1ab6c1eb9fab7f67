"""What the worker processes say of themselves."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, String
from sqlalchemy.orm import Mapped, mapped_column

from webapp.database import Base


class WorkerProcess(Base):
    """One worker, known by its name; it renews its row while it lives (worker/presence.py).

    In the database and not in the broker, which may be of any kind. It belongs to no organisation
    and names no study: ``doing`` holds the names of tasks and the ids of their jobs.

    Attributes:
        name: Celery's, such as ``celery@HOST``; no two workers may have the same.
        version: of the code.
        device: as set, ``auto``, ``cpu`` or ``cuda``.
        queues: which it takes messages from.
        concurrency: tasks that it works on at once.
        tasks_done: since it started.
        doing: ``task``, ``job`` and ``seconds`` of each task at work.
    """

    __tablename__ = "worker_process"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    version: Mapped[str] = mapped_column(String(64))
    device: Mapped[str] = mapped_column(String(16))
    queues: Mapped[list[str]]
    concurrency: Mapped[int]
    tasks_done: Mapped[int] = mapped_column(default=0)
    doing: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
