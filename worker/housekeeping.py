"""Periodic tasks."""

import logging

from webapp.pacs import deliveries
from webapp.queueing import RESEND, send_classification, send_delivery
from webapp.studies import jobs
from webapp.studies.assembly import assemble_quiet_studies
from worker.app import app

_log = logging.getLogger(__name__)


@app.task(name=RESEND)
def resend_lost_jobs() -> None:
    """Make studies of what archives have sent, and send again what got lost on its way."""
    for job_id in assemble_quiet_studies():
        send_classification(job_id)
    for job_id in jobs.jobs_to_resend():
        _log.info("job %s is sent again", job_id)
        send_classification(job_id)
    for delivery_id in deliveries.deliveries_to_resend():
        _log.info("delivery %s is sent", delivery_id)
        send_delivery(delivery_id)
