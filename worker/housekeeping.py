"""Periodic tasks."""

import logging
import uuid
from collections.abc import Callable, Iterable

from webapp.database import db
from webapp.pacs import deliveries
from webapp.queueing import RESEND, send_classification, send_delivery
from webapp.studies import analyses
from webapp.studies.assembly import assemble_quiet_studies
from worker.app import app

_log = logging.getLogger(__name__)


@app.task(name=RESEND)
def resend_lost_jobs() -> None:
    """Make studies of what archives have sent, and send again what got lost on its way.

    Each part by itself: what goes wrong in one must not keep the others from their work.
    """
    _sweep("study", assemble_quiet_studies, send_classification)
    _sweep("analysis", analyses.analyses_to_resend, send_classification)
    _sweep("delivery", deliveries.deliveries_to_resend, send_delivery)


def _sweep(
    kind: str, find: Callable[[], Iterable[uuid.UUID]], send: Callable[[uuid.UUID], bool]
) -> None:
    try:
        for found in find():
            _log.info("%s %s is sent", kind, found)
            send(found)
    except Exception:
        db.session.rollback()
        _log.exception("the sweep for what waits of kind %s failed", kind)
