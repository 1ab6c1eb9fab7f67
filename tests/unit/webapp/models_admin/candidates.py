"""Candidates as tests need them: files with a card, and runs of the gates with a verdict."""

import hashlib
import json
import secrets
import uuid
from pathlib import Path

from flask import Flask

from ml.model_files import find_model_files
from tests.factories import Account
from webapp.accounts.queries import find_user_by_address
from webapp.database import db, now, retried
from webapp.models_admin import operations
from webapp.models_admin.models import GateStatus
from webapp.models_admin.queries import find_candidate
from webapp.plans.holding import holding
from webapp.signing import sign
from webapp.tenancy import acting_for


def write_model(folder: Path, name: str = "vgg16-new") -> Path:
    """Files that look like a model's; return the card."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = secrets.token_bytes(100)
    (folder / "net.safetensors").write_bytes(weights)
    digest = hashlib.sha256(weights).hexdigest()
    card = {"name": name, "weights": {"files": ["net.safetensors"], "sha256": digest}}
    path = folder / "net.json"
    path.write_text(json.dumps(card))
    return path


def register(app: Flask, steward: Account, card: Path) -> uuid.UUID:
    """A candidate whose gates wait."""
    with app.app_context():
        actor = find_user_by_address(steward.email)
        return operations.register_candidate(actor=actor, files=find_model_files(card)).id


def end_gates(app: Flask, steward: Account, candidate_id: uuid.UUID, verdict: str) -> None:
    """Let the newest run end, the way the worker does; others may be writing meanwhile."""
    with app.app_context(), acting_for(steward.organisation_id):
        retried(lambda: _end_newest_run(candidate_id, verdict))


def _end_newest_run(candidate_id: uuid.UUID, verdict: str) -> None:
    candidate = find_candidate(candidate_id)
    run = candidate.last_run
    assert run is not None
    run.report = {
        "verdict": verdict,
        "plan": {"version": 1, "sha256": holding().held.sha256},
        "candidate": {"weights_sha256": candidate.model_version.sha256},
        "gates": [
            {
                "name": "non_inferiority",
                "figure": 0.004,
                "interval": [-0.002, 0.01],
                "threshold": -0.01,
                "verdict": verdict,
                "reason": "0.4 points better",
            }
        ],
    }
    run.signature = sign(run.report)
    run.status = GateStatus.PASSED if verdict == "pass" else GateStatus.FAILED
    run.finished_at = now()
    db.session.commit()


def promote(
    app: Flask, proposer: Account, confirmer: Account, card: Path, *, reason: str = "better"
) -> uuid.UUID:
    """A model that serves the organisation of both."""
    candidate_id = register(app, proposer, card)
    end_gates(app, proposer, candidate_id, "pass")
    with app.app_context(), acting_for(proposer.organisation_id):
        operations.propose_model(
            actor=find_user_by_address(proposer.email), candidate_id=candidate_id, reason=reason
        )
        operations.confirm_model(
            actor=find_user_by_address(confirmer.email), candidate_id=candidate_id
        )
    return candidate_id
