"""Periodic tasks."""

import logging
import uuid
from collections.abc import Callable, Iterable

from webapp.corrections.removal import remove_unfinished, sweep_blobs
from webapp.database import db
from webapp.inference import analyses
from webapp.intake.assembly import assemble_quiet_studies
from webapp.pacs import deliveries
from webapp.queueing import (
    DELIVERY,
    INFERENCE,
    PURGE,
    RESEND,
    SWEEP,
    send_classification,
    send_delivery,
    without_message,
)
from webapp.review.operations import purge_drafts
from worker.app import app

_log = logging.getLogger(__name__)


@app.task(name=RESEND)
def resend_lost_jobs() -> None:
    """Make studies of received images, and resend jobs whose message was lost.

    The parts are independent: a fault in one does not stop the others.
    """
    _each("study", assemble_quiet_studies, send_classification)
    _each(
        "analysis",
        lambda: without_message(INFERENCE, analyses.analyses_to_resend()),
        send_classification,
    )
    _each(
        "delivery",
        lambda: without_message(DELIVERY, deliveries.deliveries_to_resend()),
        send_delivery,
    )


def _each(
    kind: str, find: Callable[[], Iterable[uuid.UUID]], send: Callable[[uuid.UUID], bool]
) -> None:
    try:
        for found in find():
            _log.info("%s %s is sent", kind, found)
            send(found)
    except Exception:
        db.session.rollback()
        _log.exception("the sweep for what waits of kind %s failed", kind)


@app.task(name=SWEEP)
def sweep() -> None:
    """Remove blobs that no row refers to and that are older than any upload or analysis takes."""
    removed = sweep_blobs()
    if removed:
        _log.info("%d files that nothing names were removed", removed)


@app.task(name=PURGE)
def purge_old_drafts() -> None:
    """Delete old assessment drafts and unfinished files."""
    # Hourly here, because a restart of beat delays the daily sweep.
    if count := remove_unfinished():
        _log.info("%d unfinished files were removed", count)
    if count := purge_drafts():
        _log.info("%d drafts were forgotten", count)
