"""Periodic tasks."""

import logging

from webapp.queueing import RESEND, send_classification
from webapp.studies import jobs
from worker.app import app

_log = logging.getLogger(__name__)


@app.task(name=RESEND)
def resend_lost_jobs() -> None:
    """Send again what the broker lost or a dead worker left behind."""
    for job_id in jobs.jobs_to_resend():
        _log.info("job %s is sent again", job_id)
        send_classification(job_id)
