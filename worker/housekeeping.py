"""Periodic tasks."""

import logging

from webapp.pacs import deliveries
from webapp.queueing import PURGE, RESEND, send_classification, send_delivery
from webapp.review.operations import purge_drafts
from webapp.studies import analyses
from webapp.studies.assembly import assemble_quiet_studies
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


@app.task(name=PURGE)
def purge_old_drafts() -> None:
    """Forget assessments that somebody began long ago and never saved."""
    if count := purge_drafts():
        _log.info("%d drafts were forgotten", count)
