"""What an operator does: begin again what failed, and what workers note about themselves."""

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import Select, delete, select, update
from sqlalchemy.exc import IntegrityError, OperationalError

from webapp.accounts.models import User
from webapp.database import db, now
from webapp.errors import Conflict
from webapp.inference.operations import retry_study
from webapp.operating.models import WorkerProcess
from webapp.operating.state import FORGOTTEN_AFTER
from webapp.studies.models import Analysis, Status, Study
from webapp.tenancy import unscoped

MOST_AT_ONCE = 500
"""Studies that are begun again by one request."""


def failed_studies(limit: int) -> Sequence[Study]:
    """Studies of the organisation acted for whose analysis failed, the newest failure first."""
    return db.session.scalars(_failed().limit(limit)).all()


def retry_failed_studies(*, actor: User) -> int:
    """Queue every failed study again, ``MOST_AT_ONCE`` at most; return how many.

    Each is a transaction and an audit entry of its own (:func:`retry_study`).

    Raises:
        Conflict: none has failed.
    """
    keys = list(db.session.scalars(_failed().with_only_columns(Study.id).limit(MOST_AT_ONCE)))
    if not keys:
        raise Conflict(_("No study has failed."))
    return sum(_retried(actor, key) for key in keys)


def _retried(actor: User, study_id: uuid.UUID) -> bool:
    try:
        retry_study(actor=actor, study_id=study_id)
    except Conflict:  # somebody else was faster
        db.session.rollback()
        return False
    return True


def _failed() -> Select[Study]:
    return (
        select(Study)
        .join(Analysis, Analysis.id == Study.current_analysis_id)
        .where(Analysis.status == Status.FAILED)
        .order_by(Analysis.finished_at.desc(), Study.id)
    )


@dataclass(frozen=True)
class Presence:
    """A worker's sign of life; the fields are those of :class:`WorkerProcess`."""

    name: str
    started_at: datetime
    version: str
    device: str
    queues: list[str]
    concurrency: int
    tasks_done: int = 0
    doing: list[dict[str, Any]] = field(default_factory=list)


def note_presence(presence: Presence, *, lasts: timedelta = FORGOTTEN_AFTER) -> None:
    """Renew the row of a worker, and forget those that have not been seen for long.

    A sign that finds the database busy is left out: the next one comes soon.
    """
    values = asdict(presence) | {"seen_at": now()}
    try:
        with unscoped():
            renewed = db.session.execute(
                update(WorkerProcess)
                .where(WorkerProcess.name == presence.name)
                .values(values)
                .returning(WorkerProcess.name)
            ).first()
            if renewed is None:
                db.session.add(WorkerProcess(**values))
                db.session.execute(
                    delete(WorkerProcess).where(WorkerProcess.seen_at < now() - lasts)
                )
            db.session.commit()
    except (IntegrityError, OperationalError):
        db.session.rollback()


def forget_worker(name: str) -> None:
    """Remove the row of a worker that ends."""
    try:
        with unscoped():
            db.session.execute(delete(WorkerProcess).where(WorkerProcess.name == name))
            db.session.commit()
    except OperationalError:
        db.session.rollback()
