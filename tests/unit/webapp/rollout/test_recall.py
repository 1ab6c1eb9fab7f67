"""A promoted model answers earlier studies again; who is responsible gets those that changed."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from tests.factories import Account, assess, make_api_token, make_study
from tests.unit.webapp.models_admin.candidates import promote, write_model
from tests.unit.webapp.rollout.studies import Said, answer
from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.audit import AuditEvent
from webapp.corrections.operations import Deletion, DeletionReason, delete_study
from webapp.database import db, now
from webapp.inference.analyses import claim_analysis
from webapp.inference.results import StudyResult, named_classes
from webapp.models_admin import operations
from webapp.rollout import recalling
from webapp.rollout.models import Change, RecallRun, RecallStatus
from webapp.rollout.recall_queries import count_open
from webapp.rollout.recalling import change_between
from webapp.studies.models import Analysis, Study
from webapp.tenancy import acting_for, unscoped

Act = Callable[..., object]
NONE = "no_tumor"


def result(label: str, *possible: str) -> StudyResult:
    return StudyResult(
        analysis_id=uuid.uuid4(), number=1, images=1, finished_at=now(), label=label,
        named=named_classes(label, possible), probability=None, probabilities={},
        prediction_set=possible, in_distribution=True, in_distribution_share=1.0,
        key_images=(), contradicting={}, mode=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (result(NONE, NONE), result("glioma", "glioma"), Change.TUMOUR_FOUND),
        (result("glioma"), result("pituitary"), Change.CLASS_CHANGED),
        (result("glioma"), result(NONE), Change.CLASS_CHANGED),
        (result(NONE, NONE), result(NONE, NONE, "glioma"), Change.LESS_RULED_OUT),
        (result("glioma"), result("glioma", "meningioma"), Change.LESS_RULED_OUT),
        (result("glioma", "meningioma"), result("glioma"), None),
        (result("glioma"), result("glioma", NONE), None),
        (result(NONE, NONE), result(NONE, NONE), None),
    ],
)
def test_what_counts_as_a_change(
    before: StudyResult, after: StudyResult, expected: Change | None
) -> None:
    assert change_between(before, after) is expected


def test_a_slice_that_newly_suggests_a_tumour_counts() -> None:
    contradicted = replace(result("glioma"), named=("glioma", "pituitary"))
    assert change_between(result("glioma"), contradicted) is Change.LESS_RULED_OUT


@pytest.fixture
def steward(make_user: Callable[..., Account]) -> Account:
    return make_user(Role.STEWARD)


@pytest.fixture
def other(make_user: Callable[..., Account]) -> Account:
    return make_user(Role.STEWARD)


@pytest.fixture
def act(app: Flask, steward: Account) -> Act:
    """Let the steward do something about the recall."""

    def do(verb: Callable[..., object], **values: object) -> None:
        with app.app_context(), acting_for(steward.organisation_id):
            run_id = db.session.scalars(select(RecallRun.id)).one()
            verb(actor=find_user_by_address(steward.email), run_id=run_id, **values)

    return do


def plan(app: Flask) -> list[uuid.UUID]:
    with app.app_context():
        return recalling.plan_recalls()


def study_of(app: Flask, analysis_id: uuid.UUID) -> uuid.UUID:
    with app.app_context(), unscoped():
        return db.session.get_one(Analysis, analysis_id).study_id


def status(app: Flask) -> RecallStatus:
    with app.app_context(), unscoped():
        return db.session.scalars(select(RecallRun.status)).one()


def test_those_responsible_get_changed_studies_by_risk_and_acknowledge_them(
    app: Flask,
    make_user: Callable[..., Account],
    sign_in: Callable[[Account], FlaskClient],
    steward: Account,
    other: Account,
    tmp_path: Path,
) -> None:
    uploader, reader, stranger = (make_user() for _each in range(3))
    labels = ("glioma", NONE, "glioma", "glioma")
    same, missed, changed, grown = (make_study(app, uploader, label=one) for one in labels)
    assess(app, reader, missed)
    assert plan(app) == []  # nothing was promoted
    promote(app, steward, other, write_model(tmp_path / "new", "vgg16-next"))
    asked = {study_of(app, one): one for one in plan(app)}
    assert len(asked) == 4
    answer(app, steward, asked[same.study_id], Said("glioma"))
    answer(app, steward, asked[grown.study_id], Said("glioma", ("glioma", "meningioma")))
    answer(app, steward, asked[changed.study_id], Said("pituitary"))
    answer(app, steward, asked[missed.study_id], Said("meningioma"))
    assert plan(app) == []
    assert status(app) is RecallStatus.DONE

    def api(account: Account, path: str = "", **sent: str) -> dict:  # type: ignore[type-arg]
        token = {"Authorization": f"Bearer {make_api_token(app, account)[1]}"}
        client = app.test_client()
        if path:
            return client.post(f"/api/v1/recall{path}", json=sent, headers=token).get_json()  # type: ignore[no-any-return]
        return client.get("/api/v1/recall", headers=token).get_json()  # type: ignore[no-any-return]

    cases = api(uploader)["items"]
    assert [(one["study_id"], one["change"]) for one in cases] == [
        (str(missed.study_id), "tumour_found"),
        (str(changed.study_id), "class_changed"),
        (str(grown.study_id), "less_ruled_out"),
    ]
    assert [one["study_id"] for one in api(reader)["items"]] == [str(missed.study_id)]
    assert api(stranger)["items"] == []
    assert api(stranger, f"/{cases[0]['id']}/acknowledgement")["status"] == 404
    assert api(steward)["total"] == 3
    page = sign_in(uploader).get("/recall").get_data(as_text=True)
    assert '<span class="nav-count">3</span>' in page
    assert "A tumour where none was found" in page
    assert str(missed.image_id) in page
    shown = sign_in(uploader).get(f"/studies/{missed.study_id}").get_data(as_text=True)
    assert "No glioma, meningioma or pituitary tumour found" in shown  # as before
    done = api(reader, f"/{cases[0]['id']}/acknowledgement", note="seen by me")
    assert done["note"] == "seen by me"
    assert api(uploader, f"/{cases[0]['id']}/acknowledgement")["status"] == 409
    assert api(uploader)["total"] == 2
    assert "seen by me" in sign_in(uploader).get("/recall").get_data(as_text=True)
    with app.app_context(), unscoped():
        told = db.session.scalars(
            select(AuditEvent).where(AuditEvent.action == "acknowledge_recall")
        ).one()
        assert told.actor_id == reader.id
        assert "seen" not in str(told.details)
    again = sign_in(uploader).post(f"/recall/{cases[1]['id']}/analysis")
    assert again.location.endswith(f"/studies/{changed.study_id}")
    with app.app_context(), unscoped():
        assert db.session.get_one(Study, changed.study_id).current_analysis_id != uuid.UUID(
            cases[1]["id"]
        )
        assert not db.session.get_one(Study, changed.study_id).status.is_final


def test_newest_come_first_old_ones_on_demand_and_people_may_pause_and_stop(
    app: Flask,
    steward: Account,
    other: Account,
    tmp_path: Path,
    act: Act,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recalling, "AT_ONCE", 1)
    ages = (500, 20, 10)
    studies = [make_study(app, steward) for _age in ages]
    with app.app_context(), unscoped():
        for ids, age in zip(studies, ages, strict=True):
            came = {"created_at": now() - timedelta(days=age)}
            db.session.execute(update(Study).where(Study.id == ids.study_id).values(came))
        db.session.commit()
    promote(app, steward, other, write_model(tmp_path / "new"))
    (first,) = plan(app)
    assert study_of(app, first) == studies[2].study_id
    answer(app, steward, first, Said("glioma"))
    act(recalling.change_recall, status=RecallStatus.PAUSED)
    assert plan(app) == []
    act(recalling.change_recall, status=RecallStatus.RUNNING)
    (second,) = plan(app)
    act(recalling.change_recall, status=RecallStatus.STOPPED)
    with app.app_context():
        assert recalling.plan_recalls() == []
    act(recalling.recall_everything)
    (again,) = plan(app)
    assert study_of(app, again) == study_of(app, second) == studies[1].study_id
    answer(app, steward, again, Said("glioma"))
    (oldest,) = plan(app)
    assert study_of(app, oldest) == studies[0].study_id


def test_a_rollback_withdraws_what_the_model_said(
    app: Flask,
    steward: Account,
    other: Account,
    tmp_path: Path,
    sign_in: Callable[[Account], FlaskClient],
) -> None:
    make_study(app, steward, label=NONE)
    make_study(app, steward)
    promote(app, steward, other, write_model(tmp_path / "new"))
    asked = plan(app)
    answer(app, steward, asked[0], Said("meningioma"))
    with app.app_context(), acting_for(steward.organisation_id):
        operations.roll_back(actor=find_user_by_address(steward.email), reason="worse")
    assert plan(app) == []
    assert status(app) is RecallStatus.WITHDRAWN
    page = sign_in(steward).get("/recall").get_data(as_text=True)
    assert "No study of yours is waiting to be looked at." in page
    with app.app_context():
        assert claim_analysis(asked[1]) is None


def test_a_deleted_study_takes_its_case_with_it(
    app: Flask, steward: Account, other: Account, tmp_path: Path
) -> None:
    ids = make_study(app, steward, label=NONE)
    promote(app, steward, other, write_model(tmp_path / "new"))
    (asked,) = plan(app)
    answer(app, steward, asked, Said("meningioma"))
    with app.app_context(), acting_for(steward.organisation_id):
        user = find_user_by_address(steward.email)
        assert count_open(user) == 1
        delete_study(
            actor=user, study_id=ids.study_id, deletion=Deletion(DeletionReason.UPLOADED_TWICE)
        )
        assert count_open(user) == 0
        assert db.session.get(Analysis, asked) is None
