"""Snapshots as jobs, and what is told of patients who are withdrawn later."""

import hashlib
import json
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update

from tests.factories import make_account, make_api_token
from tests.unit.webapp.learning.test_snapshots import SignIn, Ward
from tests.unit.webapp.models_admin.candidates import promote, write_model
from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.database import db, now
from webapp.errors import Conflict, NotAllowed
from webapp.learning import snapshot_jobs
from webapp.learning.models import SnapshotRequest, SnapshotStatus
from webapp.learning.queries import find_snapshot_or_request, list_snapshots
from webapp.leases import LeaseLost
from webapp.models_admin.operations import roll_back
from webapp.tenancy import unscoped


@pytest.fixture
def ward(app: Flask) -> Ward:
    return Ward(app)


def asked_for(ward: Ward, name: str = "first") -> uuid.UUID:
    with ward.inside():
        actor = find_user_by_address(ward.steward.email)
        return snapshot_jobs.request_snapshot(actor=actor, name=name).id


def test_a_name_is_taken_while_its_snapshot_is_made(ward: Ward) -> None:
    asked_for(ward)
    with pytest.raises(Conflict):
        asked_for(ward, " first ")
    with ward.inside(), pytest.raises(NotAllowed):
        snapshot_jobs.request_snapshot(
            actor=find_user_by_address(ward.reviewer.email), name="other"
        )


def test_a_worker_that_lost_it_keeps_nothing_and_another_makes_it(ward: Ward) -> None:
    ward.agree(ward.study())
    made = asked_for(ward)
    with ward.app.app_context():
        late = snapshot_jobs.claim_snapshot(made)
        assert late is not None
        assert snapshot_jobs.claim_snapshot(made) is None
        with unscoped():
            over = {"lease_until": now() - timedelta(1), "sent_at": now() - timedelta(1)}
            db.session.execute(update(SnapshotRequest).values(over))
            db.session.commit()
        assert snapshot_jobs.snapshots_to_resend() == [made]
        claim = snapshot_jobs.claim_snapshot(made)
        assert claim is not None
        with pytest.raises(LeaseLost):
            snapshot_jobs.make_snapshot(late)
    with ward.inside():
        assert list_snapshots() == []
        snapshot_jobs.make_snapshot(claim)
        assert [one.id for one in list_snapshots()] == [made]
        assert list_snapshots()[0].created_by_id == ward.steward.id


def test_why_there_is_none_is_said(ward: Ward, sign_in: SignIn) -> None:
    made = asked_for(ward)
    with ward.app.app_context():
        claim = snapshot_jobs.claim_snapshot(made)
        assert claim is not None
        with pytest.raises(Conflict) as fault:
            snapshot_jobs.make_snapshot(claim)
        snapshot_jobs.fail_snapshot(claim, reason=str(fault.value))
    with ward.inside():
        row = find_snapshot_or_request(made)
        assert isinstance(row, SnapshotRequest)
        assert row.status is SnapshotStatus.FAILED
    browser = sign_in(ward.steward)
    for address in ("/learning/snapshots", f"/learning/snapshots/{made}"):
        assert "Readers have not agreed on any slice yet." in browser.get(address).text


def test_a_withdrawal_names_models_that_learnt_from_the_patient_and_when_they_served(
    ward: Ward, client: FlaskClient, sign_in: SignIn, tmp_path: Path
) -> None:
    ward.agree(ward.study("P-GONE"))
    snapshot_id = ward.snapshot()
    other = make_account(ward.app, Role.STEWARD)
    first = learnt_model(tmp_path / "one", snapshot={"id": str(snapshot_id)})
    second = learnt_model(tmp_path / "two", retrained_from={"weights_sha256": weights_of(first)})
    unrelated = learnt_model(tmp_path / "three")
    made = [promote(ward.app, ward.steward, other, card) for card in (first, second, unrelated)]
    with ward.inside():
        for _each in range(2):
            roll_back(actor=find_user_by_address(other.email), reason="worse")
    ward.withdraw("P-GONE")
    headers = {"Authorization": f"Bearer {make_api_token(ward.app, ward.admin)[1]}"}
    found = client.get("/api/v1/withdrawals", headers=headers).json
    assert found is not None
    (trace,) = found["items"]
    assert trace["patient_code"] == "P-GONE"
    assert trace["snapshots"] == [{"id": str(snapshot_id), "name": "first"}]
    assert [one["id"] for one in trace["models"]] == [str(made[0]), str(made[1])]
    served = [one["served"] for one in trace["models"]]
    assert [len(times) for times in served] == [2, 2]  # promoted, and taken back to
    assert served[0][1]["until"] is None
    assert served[1][1]["until"] == served[0][1]["since"]
    page = sign_in(ward.admin).get("/learning/withdrawals").text
    assert "until now" in page
    assert client.get("/api/v1/withdrawals").status_code == 401


def learnt_model(folder: Path, **facts: object) -> Path:
    """A model whose card tells where it comes from."""
    path = write_model(folder, folder.name)
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    return path


def weights_of(card: Path) -> str:
    return hashlib.sha256((card.parent / "net.safetensors").read_bytes()).hexdigest()
