"""Periodic tasks."""

import logging
import uuid
from collections.abc import Callable, Sequence

from webapp.corrections.removal import remove_unfinished, sweep_blobs
from webapp.database import db, renew_statistics
from webapp.inference import analyses
from webapp.inference.sending import analyses_without_message, send_analyses
from webapp.intake.assembly import assemble_quiet_studies
from webapp.learning.retraining import retrainings_to_resend
from webapp.learning.snapshot_jobs import snapshots_to_resend
from webapp.models_admin.gate_jobs import gates_to_resend
from webapp.pacs import deliveries
from webapp.queueing import (
    DELIVERY,
    PURGE,
    RESEND,
    ROLL_OUT,
    SWEEP,
    TEND,
    TRAINING,
    send_delivery,
    send_gates,
    send_retraining,
    send_snapshot,
    without_message,
)
from webapp.review.operations import purge_drafts
from webapp.rollout.recalling import plan_recalls
from webapp.rollout.shadowing import plan_shadows
from webapp.rollout.trials import check_trials
from webapp.studies.listing import index_texts, merge_tallies
from worker.app import app

_log = logging.getLogger(__name__)


@app.task(name=RESEND)
def resend_lost_jobs() -> None:
    """Make studies of received images, and resend jobs whose message was lost.

    The parts are independent: a fault in one does not stop the others.
    """
    _each("study", assemble_quiet_studies, send_analyses)
    _each(
        "analysis",
        lambda: analyses_without_message(analyses.analyses_to_resend()),
        send_analyses,
    )
    _each(
        "delivery",
        lambda: without_message(DELIVERY, deliveries.deliveries_to_resend()),
        _one_by_one(send_delivery),
    )
    _each(
        "run of the gates",
        lambda: without_message(TRAINING, gates_to_resend()),
        _one_by_one(send_gates),
    )
    _each(
        "retraining",
        lambda: without_message(TRAINING, retrainings_to_resend()),
        _one_by_one(send_retraining),
    )
    _each(
        "snapshot",
        lambda: without_message(TRAINING, snapshots_to_resend()),
        _one_by_one(send_snapshot),
    )


@app.task(name=ROLL_OUT)
def roll_out() -> None:
    """Ask other models about studies, when no study waits, and end trials that went badly."""
    _each("shadow", plan_shadows, send_analyses)
    _each("recalled analysis", plan_recalls, send_analyses)
    _each("end of a trial", check_trials, lambda _ended: None)


def _each(
    kind: str,
    find: Callable[[], Sequence[uuid.UUID]],
    send: Callable[[Sequence[uuid.UUID]], object],
) -> None:
    try:
        found = find()
        for one in found:
            _log.info("%s %s is sent", kind, one)
        send(found)
    except Exception:
        db.session.rollback()
        _log.exception("the sweep for what waits of kind %s failed", kind)


def _one_by_one(send: Callable[[uuid.UUID], object]) -> Callable[[Sequence[uuid.UUID]], None]:
    def send_all(found: Sequence[uuid.UUID]) -> None:
        for job_id in found:
            send(job_id)

    return send_all


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


@app.task(name=TEND)
def tend_database() -> None:
    """Keep lists quick: add up numbers of studies, and tell the planner what has grown."""
    if count := merge_tallies():
        _log.info("%d parts of numbers of studies were added up", count)
    with db.engine.connect() as connection:
        if tables := renew_statistics(connection):
            _log.info("statistics of %s are new", ", ".join(tables))
    if index_texts():
        _log.info("the search of texts has its index")
