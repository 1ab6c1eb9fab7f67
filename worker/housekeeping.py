"""Periodic tasks."""

import logging

from webapp.pacs import deliveries
from webapp.queueing import RESEND, SWEEP, send_classification, send_delivery
from webapp.studies import analyses
from webapp.studies.assembly import assemble_quiet_studies
from webapp.studies.removal import sweep_blobs
from worker.app import app

_log = logging.getLogger(__name__)


@app.task(name=RESEND)
def resend_lost_jobs() -> None:
    """Make studies of what archives have sent, and send again what got lost on its way."""
    for analysis_id in assemble_quiet_studies():
        send_classification(analysis_id)
    for analysis_id in analyses.analyses_to_resend():
        _log.info("analysis %s is sent again", analysis_id)
        send_classification(analysis_id)
    for delivery_id in deliveries.deliveries_to_resend():
        _log.info("delivery %s is sent", delivery_id)
        send_delivery(delivery_id)


@app.task(name=SWEEP)
def sweep() -> None:
    """Remove blobs that no row names and that are older than any upload or analysis takes."""
    removed = sweep_blobs()
    if removed:
        _log.info("%d files that nothing names were removed", removed)
