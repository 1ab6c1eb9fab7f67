"""Make a model anew from a snapshot, and judge candidates: work of minutes, beside all other."""

import logging
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml.errors import Cancelled, SulcusMLError
from ml.model_files import BUNDLED, find_model_files
from webapp.database import db
from webapp.errors import PortalError
from webapp.extensions import current_settings
from webapp.learning import retraining
from webapp.learning.export import write_folder
from webapp.learning.models import RetrainingStatus
from webapp.learning.queries import find_snapshot, snapshot_to_judge_by
from webapp.learning.retraining import RetrainingClaim
from webapp.leases import LeaseLost
from webapp.models_admin import gate_jobs
from webapp.models_admin.gate_jobs import GateClaim
from webapp.models_admin.serving import ServingFiles, refuse_files, serving_models
from webapp.queueing import GATES, RETRAIN
from webapp.storage import MissingBlob
from webapp.tenancy import acting_for
from worker.app import app
from worker.holding import held
from worker.models import materialised

_FOLDER = "retrainings"

_log = logging.getLogger(__name__)


@app.task(name=GATES)
def run_gates(*, run_id: str) -> None:
    """Judge a candidate beside the model that serves. Idempotent."""
    claim = gate_jobs.claim_gates(uuid.UUID(run_id))
    if claim is None:
        return
    try:
        with held(lambda: gate_jobs.hold_gates(claim), lease=gate_jobs.LEASE):
            report = _judged(claim)
        gate_jobs.finish_gates(claim, report)
        _log.info("gates %s: %s", run_id, report["verdict"])
    except LeaseLost:
        _log.warning("gates %s were taken over by another worker", run_id)
    except (SulcusMLError, MissingBlob, PortalError) as fault:
        _log.exception("gates %s ended without a verdict", run_id)
        _break(claim, str(fault) or "A stored file is missing.")
    except Exception:
        _log.exception("gates %s ended without a verdict", run_id)
        _break(claim, "The gates failed; the cause has been recorded in the log.")


def _judged(claim: GateClaim) -> Mapping[str, Any]:
    from ml.release.gates import run_gates as judge

    with (
        acting_for(claim.organisation_id),
        tempfile.TemporaryDirectory(dir=current_settings().home) as place,
    ):
        snapshot = snapshot_to_judge_by(claim.snapshot)
        if snapshot is None:
            raise SulcusMLError("There is no snapshot to judge the candidate by.")
        folder = Path(place) / "snapshot"
        write_folder(snapshot, folder)
        candidate = materialised(claim.files) / claim.card_name
        incumbent = serving_card()
        db.session.rollback()  # nothing stays open while models are compared
        return judge(candidate, incumbent, folder, device=current_settings().device)


@app.task(name=RETRAIN)
def retrain(*, retraining_id: str) -> None:
    """Make the serving model anew with a snapshot, and register the candidate. Idempotent."""
    claim = retraining.claim_retraining(uuid.UUID(retraining_id))
    if claim is None:
        return
    try:
        with held(lambda: retraining.hold_retraining(claim), lease=retraining.LEASE):
            card = _retrained(claim)
        retraining.finish_retraining(claim, find_model_files(card))
        _forget(claim)
    except LeaseLost:
        _log.warning("retraining %s was taken over by another worker", retraining_id)
    except Cancelled:
        _end(claim, RetrainingStatus.CANCELLED)
    except (SulcusMLError, MissingBlob, PortalError) as fault:
        _log.exception("retraining %s failed", retraining_id)
        _end(claim, RetrainingStatus.FAILED, str(fault) or "A stored file is missing.")
    except Exception:
        _log.exception("retraining %s failed", retraining_id)
        reason = "The retraining failed; the cause has been recorded in the log."
        _end(claim, RetrainingStatus.FAILED, reason)


def _retrained(claim: RetrainingClaim) -> Path:
    from ml.dataset.reference import read_reference
    from ml.release.change_plan import read_plan_of_change
    from ml.release.material import Order
    from ml.release.progress import Progress
    from ml.release.retraining import retrain as make

    folder = _folder(claim)
    with acting_for(claim.organisation_id):
        snapshot = folder / "snapshot"
        if not snapshot.exists():
            write_folder(find_snapshot(claim.snapshot_id), snapshot)
        card = serving_card()
    retraining.note_start(claim, started_from=find_model_files(card).name)
    wishes: list[bool] = []  # whether it is to be cancelled, as it was last read

    def tell(step: str, done: int, total: int, figures: Mapping[str, Any]) -> None:
        wishes[:] = [
            retraining.record_step(claim, step=step, done=done, total=total, figures=figures)
        ]

    order = Order(
        snapshot=snapshot,
        card=card,
        folder=folder / "made",
        mode=claim.mode,
        label_issues=read_plan_of_change().plan.data.label_issues,
        held_out=read_reference().held_out,
    )
    return make(order, Progress(on_progress=tell, cancelled=lambda: any(wishes)))


def serving_card() -> Path:
    """The card of the model that serves the organisation acted for, with its files beside it."""
    for found in serving_models():
        if isinstance(found, ServingFiles):
            try:
                return materialised(found.files) / found.card_name
            except (SulcusMLError, MissingBlob) as fault:
                refuse_files(found, str(fault) or "a file of the model is missing")
    return current_settings().model or BUNDLED


def _folder(claim: RetrainingClaim) -> Path:
    """Where its stages are kept: a worker that takes it over goes on from there."""
    folder = current_settings().home / _FOLDER / str(claim.job_id)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _forget(claim: RetrainingClaim) -> None:
    shutil.rmtree(_folder(claim), ignore_errors=True)


def _break(claim: GateClaim, reason: str) -> None:
    db.session.rollback()
    try:
        gate_jobs.break_gates(claim, reason=reason)
    except LeaseLost:
        _log.warning("gates %s were taken over by another worker", claim.job_id)


def _end(claim: RetrainingClaim, status: RetrainingStatus, reason: str | None = None) -> None:
    db.session.rollback()
    try:
        retraining.end_retraining(claim, status, reason=reason)
    except LeaseLost:
        _log.warning("retraining %s was taken over by another worker", claim.job_id)
        return
    _forget(claim)
