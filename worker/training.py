"""Make snapshots, make a model anew from one, judge candidates: minutes of work beside the rest."""

import logging
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml.errors import Cancelled, InvalidConfiguration, SulcusMLError
from ml.model_files import find_model_files
from webapp.database import db
from webapp.errors import PortalError
from webapp.extensions import current_settings
from webapp.learning import retraining, snapshot_jobs
from webapp.learning.export import write_folder
from webapp.learning.models import RetrainingMode, RetrainingStatus
from webapp.learning.queries import find_snapshot, snapshot_to_judge_by
from webapp.learning.retraining import RetrainingClaim
from webapp.leases import Lease, LeaseLost
from webapp.models_admin import gate_jobs
from webapp.models_admin.gate_jobs import GateClaim
from webapp.plans.holding import plan_that_holds
from webapp.queueing import GATES, RETRAIN, SNAPSHOT
from webapp.storage import MissingBlob, NoRoom, StorageAway
from webapp.tenancy import acting_for
from worker.app import app
from worker.holding import held
from worker.models import materialised, serving_card

if TYPE_CHECKING:
    from ml.dataset import Entry

_FOLDER = "retrainings"

_log = logging.getLogger(__name__)


@app.task(name=GATES)
def run_gates(*, run_id: str) -> None:
    """Judge a candidate beside the model that serves. Idempotent."""
    claim = gate_jobs.claim_gates(uuid.UUID(run_id))
    if claim is None:
        return

    def work() -> None:
        with held(lambda: gate_jobs.hold_gates(claim), lease=gate_jobs.LEASE):
            report = _judged(claim)
        gate_jobs.finish_gates(claim, report)
        _log.info("gates %s: %s", run_id, report["verdict"])

    _to_its_end("gates", claim, work, lambda reason: gate_jobs.break_gates(claim, reason=reason))


def _judged(claim: GateClaim) -> Mapping[str, Any]:
    from ml.release.gates import run_gates as judge

    with (
        acting_for(claim.organisation_id),
        tempfile.TemporaryDirectory(dir=current_settings().home) as place,
    ):
        plan = Path(place) / "plan.toml"
        plan.write_bytes(plan_that_holds().text.encode())
        snapshot = snapshot_to_judge_by(claim.snapshot)
        if snapshot is None:
            raise SulcusMLError("There is no snapshot to judge the candidate by.")
        folder = Path(place) / "snapshot"
        write_folder(snapshot, folder)
        candidate = materialised(claim.files) / claim.card_name
        incumbent = serving_card()
        db.session.rollback()  # nothing stays open while models are compared
        device = current_settings().device
        return judge(candidate, incumbent, folder, plan=plan, device=device)


@app.task(name=SNAPSHOT)
def make_snapshot(*, request_id: str) -> None:
    """Freeze what readers agreed about. Idempotent."""
    claim = snapshot_jobs.claim_snapshot(uuid.UUID(request_id))
    if claim is None:
        return

    def work() -> None:
        with held(lambda: snapshot_jobs.hold_snapshot(claim), lease=snapshot_jobs.LEASE):
            snapshot_jobs.make_snapshot(claim)
        _log.info("snapshot %s is made", request_id)

    _to_its_end(
        "snapshot", claim, work, lambda reason: snapshot_jobs.fail_snapshot(claim, reason=reason)
    )


@app.task(name=RETRAIN)
def retrain(*, retraining_id: str) -> None:
    """Make the serving model anew with a snapshot, and register the candidate. Idempotent."""
    claim = retraining.claim_retraining(uuid.UUID(retraining_id))
    if claim is None:
        return

    def work() -> None:
        try:
            with held(lambda: retraining.hold_retraining(claim), lease=retraining.LEASE):
                card = _retrained(claim)
            retraining.finish_retraining(claim, find_model_files(card))
        except Cancelled:
            db.session.rollback()
            retraining.end_retraining(claim, RetrainingStatus.CANCELLED)
        _forget(claim)

    def fail(reason: str) -> None:
        retraining.end_retraining(claim, RetrainingStatus.FAILED, reason=reason)
        _forget(claim)

    _to_its_end("retraining", claim, work, fail)


def _to_its_end(
    kind: str, claim: Lease, work: Callable[[], None], fail: Callable[[str], None]
) -> None:
    """Do a job, and say why where it fails; a worker that has lost it writes nothing."""
    try:
        try:
            work()
        except LeaseLost:
            raise
        except (NoRoom, StorageAway) as fault:
            # When its lease is over it is sent again; a restart keeps what was made so far.
            db.session.rollback()
            _log.warning("%s %s is tried again: %s", kind, claim.job_id, fault)
        except Exception as fault:
            _log.exception("%s %s failed", kind, claim.job_id)
            db.session.rollback()
            fail(_reason(kind, fault))
    except LeaseLost:
        _log.warning("%s %s was taken over by another worker", kind, claim.job_id)


def _reason(kind: str, fault: Exception) -> str:
    """What the page says of a fault: only our own errors tell nothing that must not be shown."""
    if isinstance(fault, MissingBlob):
        return "A stored file is missing."
    if isinstance(fault, SulcusMLError | PortalError):
        return str(fault)
    return f"The {kind} failed; the cause has been recorded in the log."


def _retrained(claim: RetrainingClaim) -> Path:
    from ml.dataset.reference import read_reference
    from ml.release.material import Order
    from ml.release.progress import Progress
    from ml.release.retraining import retrain as make

    folder = _folder(claim)
    with acting_for(claim.organisation_id):
        snapshot = folder / "snapshot"
        if not snapshot.exists():
            write_folder(find_snapshot(claim.snapshot_id), snapshot)
        card = serving_card()
        rules = plan_that_holds().plan
    if claim.mode not in rules.modes:
        raise InvalidConfiguration(f"The plan of change does not allow the mode {claim.mode}.")
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
        base=_base() if claim.mode == RetrainingMode.FULL else None,
        label_issues=rules.data.label_issues,
        held_out=read_reference().held_out,
    )
    return make(order, Progress(on_progress=tell, cancelled=lambda: any(wishes)))


def _base() -> "list[Entry]":
    """The collection that SULCUS_BASE_MANIFEST names, with the outlines beside it.

    Raises:
        InvalidConfiguration: it is not there, or a package of ``requirements/train.txt`` is not.
        InvalidManifest: it cannot be read.
    """
    from ml.cli.manifest_options import read_without_excluded
    from ml.dataset import read_outlines, with_outlines

    manifest = current_settings().base_manifest
    if manifest is None or not manifest.is_file():
        raise InvalidConfiguration("SULCUS_BASE_MANIFEST names no file on the trainer's machine.")
    if find_spec("nncf") is None:
        raise InvalidConfiguration(
            "The package nncf, which makes 8-bit integers of all layers, is not installed on the "
            "trainer's machine."
        )
    entries, _excluded = read_without_excluded(manifest, None)
    outlines = manifest.with_name("outlines.json")
    return with_outlines(entries, read_outlines(outlines)) if outlines.is_file() else entries


def _folder(claim: RetrainingClaim) -> Path:
    """Where its stages are kept: a worker that takes it over goes on from there."""
    folder = current_settings().home / _FOLDER / str(claim.job_id)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _forget(claim: RetrainingClaim) -> None:
    shutil.rmtree(_folder(claim), ignore_errors=True)
