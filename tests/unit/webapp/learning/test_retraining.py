"""Retrainings are asked for by stewards, run one at a time, and can be cancelled."""

import secrets
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update

from ml.labels import LABELS
from ml.model_files import find_model_files
from tests.factories import Account
from tests.unit.webapp.models_admin.candidates import write_model
from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.database import db, now
from webapp.errors import Conflict, NotAllowed
from webapp.learning import retraining
from webapp.learning.models import (
    Retraining,
    RetrainingMode,
    RetrainingStatus,
    Snapshot,
    SnapshotSlice,
)
from webapp.learning.queries import find_retraining
from webapp.leases import LeaseLost
from webapp.models_admin.queries import candidates, find_candidate
from webapp.tenancy import acting_for, unscoped

_COUNTS = ("slices", "groups", "labels", "holdout_slices", "holdout_groups")


@pytest.fixture
def steward(make_user: Callable[..., Account]) -> Account:
    return make_user(Role.STEWARD)


def snapshot_of(app: Flask, account: Account, **more: int) -> uuid.UUID:
    """A snapshot's rows: as much as the plan asks for, and two patients of each class."""
    with app.app_context(), acting_for(account.organisation_id):
        counts = dict(zip(_COUNTS, (80, 20, {}, 20, 5), strict=True)) | more
        row = Snapshot(
            name=f"snapshot {uuid.uuid4().hex}",
            plan_version=1,
            plan_sha256="0" * 64,
            counts=counts,
            left_out={},
            manifest_sha256="0" * 64,
            images_sha256="0" * 64,
            manifest_key="0" * 64,
            card_key="0" * 64,
        )
        db.session.add(row)
        db.session.flush()
        db.session.add_all(
            SnapshotSlice(
                snapshot_id=row.id,
                image_id=uuid.uuid4(),
                blob_key=secrets.token_hex(32),
                label=label.value,
                patient_group=f"{label.value}-{number}",
                part="training",
                fold=5,
                rule="quorum",
            )
            for label in LABELS
            for number in range(2)
        )
        db.session.commit()
        return row.id


def asked_for(
    app: Flask,
    account: Account,
    snapshot_id: uuid.UUID,
    mode: RetrainingMode = RetrainingMode.HEAD,
) -> uuid.UUID:
    with app.app_context(), acting_for(account.organisation_id):
        actor = find_user_by_address(account.email)
        return retraining.request_retraining(actor=actor, snapshot_id=snapshot_id, mode=mode).id


def row_of(app: Flask, account: Account, retraining_id: uuid.UUID) -> Retraining:
    with app.app_context(), acting_for(account.organisation_id):
        row = find_retraining(retraining_id)
        db.session.refresh(row)
        db.session.expunge(row)
        return row


@pytest.mark.parametrize("role", [Role.CLINICIAN, Role.REVIEWER])
def test_only_stewards_ask_for_one(
    app: Flask, steward: Account, make_user: Callable[..., Account], role: Role
) -> None:
    snapshot_id, other = snapshot_of(app, steward), make_user(role)
    with pytest.raises(NotAllowed):
        asked_for(app, other, snapshot_id)


def test_one_runs_at_a_time_in_the_whole_installation(
    app: Flask, steward: Account, make_user: Callable[..., Account]
) -> None:
    foreign = make_user(Role.STEWARD, organisation="Hospital B")
    first = asked_for(app, steward, snapshot_of(app, steward))
    second = asked_for(app, foreign, snapshot_of(app, foreign))
    with app.app_context():
        claim = retraining.claim_retraining(first)
        assert claim is not None
        assert retraining.claim_retraining(first) is None
        assert retraining.claim_retraining(second) is None
        retraining.end_retraining(claim, RetrainingStatus.FAILED, reason="a reason")
        assert retraining.claim_retraining(second) is not None
    assert row_of(app, steward, first).reason == "a reason"


def test_a_worker_that_died_is_followed_by_another_and_fenced(app: Flask, steward: Account) -> None:
    made = asked_for(app, steward, snapshot_of(app, steward))
    with app.app_context():
        late = retraining.claim_retraining(made)
        assert late is not None
        with unscoped():
            db.session.execute(
                update(Retraining).values(
                    lease_until=now() - timedelta(1), sent_at=now() - timedelta(1)
                )
            )
            db.session.commit()
        assert retraining.retrainings_to_resend() == [made]
        claim = retraining.claim_retraining(made)
        assert claim is not None
        with pytest.raises(LeaseLost):
            retraining.record_step(late, step="epochs", done=1, total=2, figures={})
        assert not retraining.record_step(claim, step="epochs", done=1, total=2, figures={"n": 1})
    row = row_of(app, steward, made)
    assert (row.step, row.done, row.total, row.figures) == ("epochs", 1, 2, {"n": 1})


def test_one_that_waits_is_cancelled_at_once_and_one_that_runs_at_its_next_step(
    app: Flask, steward: Account
) -> None:
    snapshot_id = snapshot_of(app, steward)
    waiting, running = (asked_for(app, steward, snapshot_id) for _each in range(2))
    with app.app_context(), acting_for(steward.organisation_id):
        actor = find_user_by_address(steward.email)
        retraining.cancel_retraining(actor=actor, retraining_id=waiting)
        assert retraining.claim_retraining(waiting) is None
        claim = retraining.claim_retraining(running)
        assert claim is not None
        retraining.cancel_retraining(actor=actor, retraining_id=running)
        assert retraining.record_step(claim, step="epochs", done=1, total=2, figures={})
        retraining.end_retraining(claim, RetrainingStatus.CANCELLED)
        with pytest.raises(Conflict):
            retraining.cancel_retraining(actor=actor, retraining_id=running)
    for each in (waiting, running):
        assert row_of(app, steward, each).status is RetrainingStatus.CANCELLED


def test_what_comes_of_it_is_a_candidate_whose_gates_wait(
    app: Flask, steward: Account, tmp_path: Path, sign_in: Callable[[Account], FlaskClient]
) -> None:
    made = asked_for(app, steward, snapshot_of(app, steward))
    with app.app_context():
        claim = retraining.claim_retraining(made)
        assert claim is not None
        retraining.finish_retraining(claim, find_model_files(write_model(tmp_path / "new")))
    row = row_of(app, steward, made)
    assert row.status is RetrainingStatus.DONE
    with app.app_context(), acting_for(steward.organisation_id):
        assert row.candidate_id is not None
        run = find_candidate(row.candidate_id).last_run
        assert run is not None
        assert run.status.value == "queued"
    page = sign_in(steward).get(f"/learning/retrainings/{made}").get_data(as_text=True)
    assert f"/models/{row.candidate_id}" in page


def test_a_worker_that_lost_its_lease_registers_nothing(
    app: Flask, steward: Account, tmp_path: Path
) -> None:
    made = asked_for(app, steward, snapshot_of(app, steward))
    files = find_model_files(write_model(tmp_path / "new"))
    with app.app_context():
        late = retraining.claim_retraining(made)
        assert late is not None
        with unscoped():
            db.session.execute(update(Retraining).values(lease_until=now() - timedelta(1)))
            db.session.commit()
        claim = retraining.claim_retraining(made)
        assert claim is not None
        with pytest.raises(LeaseLost):
            retraining.finish_retraining(late, files)
        with acting_for(steward.organisation_id):
            assert candidates() == []
        # The one that has it registers the very same weights.
        retraining.finish_retraining(claim, files)
    assert row_of(app, steward, made).status is RetrainingStatus.DONE


def test_a_snapshot_that_holds_too_little_is_not_learnt_from(
    app: Flask, steward: Account, sign_in: Callable[[Account], FlaskClient]
) -> None:
    few = snapshot_of(app, steward, slices=40, holdout_groups=1)
    with pytest.raises(Conflict, match="Slices to learn from: 20; the plan asks for 50"):
        asked_for(app, steward, few)
    page = sign_in(steward).get(f"/learning/snapshots/{few}").get_data(as_text=True)
    assert "Patients held out: 1; the plan asks for 5 at least." in page
    assert "Start retraining" not in page


def test_more_than_the_head_needs_the_base_collection(
    app: Flask, steward: Account, sign_in: Callable[[Account], FlaskClient], tmp_path: Path
) -> None:
    snapshot_id, browser = snapshot_of(app, steward), sign_in(steward)
    page = browser.get(f"/learning/snapshots/{snapshot_id}").get_data(as_text=True)
    assert "SULCUS_BASE_MANIFEST does not name one." in page
    with pytest.raises(Conflict, match="SULCUS_BASE_MANIFEST"):
        asked_for(app, steward, snapshot_id, RetrainingMode.FULL)
    settings = app.extensions["settings"]
    named = settings.model_copy(update={"base_manifest": tmp_path / "manifest.csv"})
    app.extensions["settings"] = named
    address = f"/learning/snapshots/{snapshot_id}/retrainings"
    sent = browser.post(address, data={"mode": "full"})
    row = row_of(app, steward, uuid.UUID(sent.location.rpartition("/")[2]))
    assert row.mode is RetrainingMode.FULL
    assert browser.post(address, data={"mode": "all"}).location.endswith(str(snapshot_id))


def test_its_page_shows_losses_and_refreshes_itself_until_it_ends(
    app: Flask, steward: Account, sign_in: Callable[[Account], FlaskClient]
) -> None:
    made, browser = asked_for(app, steward, snapshot_of(app, steward)), sign_in(steward)
    figures = {
        "losses": {
            "10.0": {"snapshot": 0.5, "base": 0.2},
            "unchanged": {"snapshot": 0.4, "base": 0.3},
            "1.0": {"snapshot": 0.9, "base": None},
        },
        "epochs": [{"loss": 0.7, "held_out_accuracy": 0.9}],
    }
    with app.app_context():
        claim = retraining.claim_retraining(made)
        assert claim is not None
        retraining.record_step(claim, step="labels", done=1, total=1, figures=figures)
    state = f"/learning/retrainings/{made}/state"
    page = browser.get(state).get_data(as_text=True)
    assert "data-poll" in page
    assert page.index("0.9000") < page.index("0.5000") < page.rindex("taken") < page.index("0.4000")
    with app.app_context():
        retraining.end_retraining(claim, RetrainingStatus.FAILED, reason="a reason")
    assert "data-poll" not in browser.get(state).get_data(as_text=True)
