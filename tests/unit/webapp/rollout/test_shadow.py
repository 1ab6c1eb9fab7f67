"""A candidate answers beside the serving model, and nobody sees it where studies are shown."""

import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from tests.factories import Account, make_api_token, make_study
from tests.unit.webapp.models_admin.candidates import end_gates, promote, register, write_model
from tests.unit.webapp.rollout.studies import Said, answer, begin_shadow
from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.database import db
from webapp.errors import Conflict, NotAllowed
from webapp.inference import analyses
from webapp.inference.analyses import request_analysis
from webapp.models_admin import operations
from webapp.models_admin.queries import find_candidate
from webapp.rollout import shadowing
from webapp.rollout.comparison import compare
from webapp.rollout.models import ShadowRun, ShadowStatus
from webapp.studies.models import Analysis, Purpose, Status, Study
from webapp.tenancy import acting_for, unscoped


@pytest.fixture
def steward(make_user: Callable[..., Account]) -> Account:
    return make_user(Role.STEWARD)


@pytest.fixture
def candidate_id(app: Flask, steward: Account, tmp_path: Path) -> uuid.UUID:
    made = register(app, steward, write_model(tmp_path / "new", "vgg16-next"))
    end_gates(app, steward, made, "pass")
    return made


def plan(app: Flask) -> list[uuid.UUID]:
    with app.app_context():
        return shadowing.plan_shadows(settled_after=timedelta(0))


def the_run(app: Flask) -> ShadowRun:
    with app.app_context(), unscoped():
        return db.session.scalars(select(ShadowRun)).one()


def seen(client: FlaskClient, address: str) -> str:
    """A page or answer, without what differs with each request."""
    return re.sub(
        r'nonce="[^"]*"|csrf_token" value="[^"]*"', "", client.get(address).get_data(as_text=True)
    )


def test_a_study_with_a_shadow_is_shown_as_before_byte_for_byte(
    app: Flask,
    sign_in: Callable[[Account], FlaskClient],
    steward: Account,
    candidate_id: uuid.UUID,
) -> None:
    begin_shadow(app, steward, candidate_id)
    ids = make_study(app, steward)
    browser, study = sign_in(steward), f"/studies/{ids.study_id}"
    token = {"Authorization": f"Bearer {make_api_token(app, steward)[1]}"}
    pages = ["/", "/history", "/history.csv", "/admin/jobs", study, f"{study}/stack"]
    pages += [f"{study}/images", f"{study}/result", f"{study}/assessment"]
    programs = [f"/api/v1{study}", "/api/v1/studies", f"/api/v1{study}/fhir", "/api/v1/feedback"]

    def everything() -> list[object]:
        shown: list[object] = [seen(browser, page) for page in pages]
        return shown + [app.test_client().get(one, headers=token).data for one in programs]

    before = everything()
    (shadow,) = plan(app)
    assert everything() == before  # while it waits
    answer(app, steward, shadow, Said("pituitary", ("pituitary", "glioma"), familiar=False))
    assert everything() == before
    with app.app_context(), unscoped():
        kept = db.session.get_one(Analysis, shadow)
        assert (kept.status, kept.purpose, kept.label) == (
            Status.DONE, Purpose.SHADOW, "pituitary"
        )  # fmt: skip
        assert kept.compared_with_id == ids.analysis_id
        refused = sign_in(steward).post(
            f"{study}/assessments",
            data={
                "analysis_id": str(shadow), "image_id": str(ids.image_id),
                "verdict": "agree", "scope": "slice",
            },
        )  # fmt: skip
        assert refused.status_code >= 400


def test_it_takes_its_share_of_new_studies_up_to_its_limit(
    app: Flask, steward: Account, candidate_id: uuid.UUID
) -> None:
    make_study(app, steward)  # came before
    begin_shadow(app, steward, candidate_id, most=2)
    for _number in range(3):
        make_study(app, steward)
    assert len(plan(app)) == 2
    assert plan(app) == []
    run = the_run(app)
    assert (run.status, run.taken) == (ShadowStatus.FINISHED, 2)


def test_few_wait_at_a_time_and_stopping_drops_them(
    app: Flask, steward: Account, candidate_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadowing, "AT_ONCE", 1)
    begin_shadow(app, steward, candidate_id)
    for _number in range(2):
        make_study(app, steward)
    (first,) = plan(app)
    assert plan(app) == []
    answer(app, steward, first, Said("glioma"))
    (second,) = plan(app)
    with app.app_context(), acting_for(steward.organisation_id):
        shadowing.stop_shadow(actor=find_user_by_address(steward.email), candidate_id=candidate_id)
    with app.app_context():
        assert analyses.claim_analysis(second) is None
    assert plan(app) == []


def test_a_study_that_changes_drops_its_shadow(
    app: Flask, steward: Account, candidate_id: uuid.UUID
) -> None:
    begin_shadow(app, steward, candidate_id)
    ids = make_study(app, steward)
    (shadow,) = plan(app)
    with app.app_context(), acting_for(steward.organisation_id):
        request_analysis(db.session.get_one(Study, ids.study_id))
        db.session.commit()
    with app.app_context():
        assert analyses.claim_analysis(shadow) is None


def test_a_dead_shadow_leaves_the_study_alone(
    app: Flask, steward: Account, candidate_id: uuid.UUID
) -> None:
    begin_shadow(app, steward, candidate_id)
    ids = make_study(app, steward)
    (shadow,) = plan(app)
    with app.app_context():
        claim = analyses.claim_analysis(shadow)
        assert claim is not None
        analyses.fail_analysis(claim, reason="model_unavailable")
        with acting_for(steward.organisation_id):
            assert db.session.get_one(Study, ids.study_id).status is Status.DONE
            assert compare(find_candidate(candidate_id)).failed == 1


def test_it_ends_when_its_candidate_comes_to_serve(
    app: Flask, make_user: Callable[..., Account], steward: Account, candidate_id: uuid.UUID
) -> None:
    begin_shadow(app, steward, candidate_id)
    with app.app_context(), acting_for(steward.organisation_id):
        operations.propose_model(
            actor=find_user_by_address(steward.email), candidate_id=candidate_id, reason="better"
        )
    other = make_user(Role.STEWARD)
    with app.app_context(), acting_for(steward.organisation_id):
        operations.confirm_model(actor=find_user_by_address(other.email), candidate_id=candidate_id)
    assert plan(app) == []
    assert the_run(app).status is ShadowStatus.FINISHED


def test_who_may_start_one_and_when(
    app: Flask,
    make_user: Callable[..., Account],
    steward: Account,
    candidate_id: uuid.UUID,
    tmp_path: Path,
) -> None:
    with pytest.raises(NotAllowed):
        begin_shadow(app, make_user(Role.REVIEWER), candidate_id)
    untested = register(app, steward, write_model(tmp_path / "other"))
    with pytest.raises(Conflict, match="not passed"):
        begin_shadow(app, steward, untested)
    begin_shadow(app, steward, candidate_id)
    with pytest.raises(Conflict, match="already running"):
        begin_shadow(app, steward, candidate_id)
    serving = promote(app, steward, make_user(Role.STEWARD), write_model(tmp_path / "serving"))
    with pytest.raises(Conflict, match="already serving"):
        begin_shadow(app, steward, serving)


def test_page_and_api_compare_both(
    app: Flask,
    sign_in: Callable[[Account], FlaskClient],
    steward: Account,
    candidate_id: uuid.UUID,
) -> None:
    browser, address = sign_in(steward), f"/models/{candidate_id}/shadow"
    assert "Nothing has been compared yet." in seen(browser, address)
    assert browser.post(address, data={"share": "0", "most": "x"}).status_code == 422
    assert browser.post(address, data={"share": "100", "most": "5"}).status_code == 302
    same = make_study(app, steward)
    make_study(app, steward, label="no_tumor", further=["no_tumor"])
    first, second = plan(app)
    answer(app, steward, first, Said("glioma"))
    answer(
        app, steward, second,
        Said("meningioma", ("meningioma", "glioma")), Said("no_tumor", familiar=False),
    )  # fmt: skip
    page = seen(browser, address)
    assert "No tumour → Meningioma" in page
    assert str(same.image_id) not in page
    token = {"Authorization": f"Bearer {make_api_token(app, steward)[1]}"}
    found = app.test_client().get(f"/api/v1{address}", headers=token).get_json()
    compared = found["comparison"]
    assert (compared["studies"]["number"], compared["studies"]["agreeing"]) == (2, 1)
    assert compared["studies"]["interval"] == pytest.approx([0.0945, 0.9055], abs=1e-4)
    assert (compared["slices"]["number"], compared["slices"]["agreeing"]) == (3, 2)
    assert compared["before"]["mean_set_size"] == 1
    assert compared["after"]["mean_set_size"] == pytest.approx(4 / 3)
    assert compared["after"]["several"] == pytest.approx(1 / 3)
    assert compared["after"]["unfamiliar"] == pytest.approx(1 / 3)
    assert compared["after"]["ms_per_slice"] == 2.0
    assert compared["incumbents"] == ["test"]
    assert [run["taken"] for run in found["runs"]] == [2]
    stopped = app.test_client().post(f"/api/v1{address}/stop", headers=token)
    assert stopped.get_json()["status"] == "stopped"
