"""A candidate answers a share of new studies, until people promote it or a rule ends it."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from tests.factories import Account, StudyIds, assess, make_api_token, make_study
from tests.unit.webapp.models_admin.candidates import end_gates, register, write_model
from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.audit import AuditEvent
from webapp.database import db, now
from webapp.errors import Conflict, InvalidInput
from webapp.models_admin import operations
from webapp.models_admin.models import Deployment, DeploymentKind
from webapp.models_admin.queries import find_candidate
from webapp.models_admin.serving import Arrival, FirstModel, ServingFiles, overview, serving_models
from webapp.models_admin.shares import is_in_share
from webapp.review.models import Verdict
from webapp.rollout.statistics import fisher_greater, wilson
from webapp.rollout.trials import Figures, Side, check_trials, reason_to_end
from webapp.studies.models import Analysis
from webapp.tenancy import acting_for, unscoped

GOOD = Figures(trial=Side(100, 0, 40, 4), incumbent=Side(400, 0, 160, 16))


class TestRule:
    def test_a_trial_that_does_as_well_goes_on(self) -> None:
        assert reason_to_end(GOOD) is None
        assert reason_to_end(Figures(Side(), Side())) is None

    @pytest.mark.parametrize(
        ("trial", "expected"),
        [
            (Side(100, 0, 40, 14), "14 of 40"),
            (Side(100, 0, 40, 8), None),  # twice as often, and that may be chance
            (Side(100, 0, 19, 19), None),  # too few
            (Side(100, 1, 40, 4), None),  # one failure proves nothing
            (Side(100, 2, 40, 4), "2 of 102"),
            (Side(300, 2, 40, 4), None),
        ],
    )
    def test_disagreement_and_failures(self, trial: Side, expected: str | None) -> None:
        reason = reason_to_end(replace(GOOD, trial=trial))
        assert (expected in reason) if expected and reason else reason is expected

    def test_missed_tumours_end_it_at_once(self) -> None:
        assert reason_to_end(replace(GOOD, missed=1)) is None
        assert "2 studies" in (reason_to_end(replace(GOOD, missed=2)) or "")

    def test_statistics_are_those_of_the_books(self) -> None:
        assert fisher_greater(3, 4, 1, 4) == pytest.approx(17 / 70)  # the lady tasting tea
        assert fisher_greater(0, 5, 5, 5) == 1.0
        assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-4)  # Newcombe 1998
        assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=5e-4)

    def test_a_share_is_always_of_the_same_studies(self) -> None:
        studies, one, other = [uuid.uuid4() for _n in range(2000)], uuid.uuid4(), uuid.uuid4()
        first = [is_in_share(study, 20, of=one) for study in studies]
        assert first == [is_in_share(study, 20, of=one) for study in studies]
        assert first != [is_in_share(study, 20, of=other) for study in studies]
        assert 300 < sum(first) < 500
        assert all(is_in_share(study, 100, of=one) for study in studies)


@pytest.fixture
def stewards(make_user: Callable[..., Account]) -> tuple[Account, Account]:
    return make_user(Role.STEWARD), make_user(Role.STEWARD)


@pytest.fixture
def candidate_id(app: Flask, stewards: tuple[Account, Account], tmp_path: Path) -> uuid.UUID:
    made = register(app, stewards[0], write_model(tmp_path / "new", "vgg16-next"))
    end_gates(app, stewards[0], made, "pass")
    return made


@pytest.fixture
def act(app: Flask, stewards: tuple[Account, Account]) -> Callable[..., None]:
    """Let the first steward do something, or the second one."""

    def do(verb: Callable[..., object], *, second: bool = False, **values: object) -> None:
        account = stewards[second]
        with app.app_context(), acting_for(account.organisation_id):
            verb(actor=find_user_by_address(account.email), **values)

    return do


@pytest.fixture
def trial(act: Callable[..., None], candidate_id: uuid.UUID) -> uuid.UUID:
    """The candidate, on trial for all new studies."""
    act(operations.propose_model, candidate_id=candidate_id, reason="try", share=100)
    act(operations.confirm_model, candidate_id=candidate_id, second=True)
    return candidate_id


def served(app: Flask, account: Account, study: Arrival | None) -> list[str]:
    with app.app_context(), acting_for(account.organisation_id):
        return [
            str(one.candidate_id) if isinstance(one, ServingFiles) else type(one).__name__
            for one in serving_models(study)
        ]


def test_only_studies_that_came_since_are_tried_and_a_promotion_ends_the_trial(
    app: Flask, stewards: tuple[Account, Account], act: Callable[..., None], trial: uuid.UUID
) -> None:
    new = Arrival(uuid.uuid4(), now())
    first = FirstModel.__name__
    assert served(app, stewards[0], new) == [str(trial), first]
    assert served(app, stewards[0], Arrival(new.study_id, now() - timedelta(days=1))) == [first]
    assert served(app, stewards[0], None) == [first]  # what training and gates go by
    act(operations.propose_model, candidate_id=trial, reason="all")
    act(operations.confirm_model, candidate_id=trial, second=True)
    assert served(app, stewards[0], None) == [str(trial), first]
    with app.app_context(), acting_for(stewards[0].organisation_id):
        assert overview().canary is None


def test_going_back_ends_the_trial_and_nothing_else(
    app: Flask, stewards: tuple[Account, Account], act: Callable[..., None], trial: uuid.UUID
) -> None:
    with pytest.raises(Conflict, match="already on trial"):
        act(operations.propose_model, candidate_id=trial, reason="more", share=50)
    act(operations.roll_back, reason="enough")
    assert served(app, stewards[0], Arrival(uuid.uuid4(), now())) == [FirstModel.__name__]
    with pytest.raises(Conflict, match="none to go back to"):
        act(operations.roll_back, reason="again")
    with pytest.raises(InvalidInput):
        act(operations.propose_model, candidate_id=trial, reason="less", share=4)


def answered_by(app: Flask, account: Account, candidate_id: uuid.UUID, label: str) -> StudyIds:
    """A study with this answer of the candidate."""
    ids = make_study(app, account, label=label)
    with app.app_context(), acting_for(account.organisation_id):
        version = find_candidate(candidate_id).model_version_id
        db.session.execute(
            update(Analysis).where(Analysis.id == ids.analysis_id).values(model_version_id=version)
        )
        db.session.commit()
    return ids


def test_missed_tumours_end_a_trial_by_themselves_with_a_signed_row(
    app: Flask,
    stewards: tuple[Account, Account],
    trial: uuid.UUID,
    sign_in: Callable[[Account], FlaskClient],
    client: FlaskClient,
) -> None:
    one = stewards[0]
    headers = {"Authorization": f"Bearer {make_api_token(app, one)[1]}"}
    for images in ((), None):  # a slice, and a study as a whole
        with app.app_context():
            assert check_trials() == []
        ids = answered_by(app, one, trial, "no_tumor")
        assess(app, one, ids, images=images, verdict=Verdict.DISAGREE, label="glioma")
    with app.app_context():
        before = client.get(f"/api/v1/models/{trial}/trial", headers=headers).json
        (ended,) = check_trials()
        assert check_trials() == []
    assert served(app, one, Arrival(uuid.uuid4(), now())) == [FirstModel.__name__]
    with app.app_context(), unscoped():
        row = db.session.get_one(Deployment, ended)
        assert (row.kind, row.decided_by_id) == (DeploymentKind.ROLLBACK, None)
        told = db.session.scalars(
            select(AuditEvent).where(AuditEvent.action == "end_trial_by_rule")
        ).one()
        assert (told.actor_id, told.subject_id) == (None, ended)
    after = client.get(f"/api/v1/models/{trial}/trial", headers=headers).json
    assert before
    assert after
    (running,), (over,) = before["items"], after["items"]
    assert (running["share"], running["ended_at"], running["ended_by_rule"]) == (100, None, None)
    assert (over["ended_with"], over["ended_by_rule"], over["missed"]) == ("rollback", True, 2)
    assert over["trial"] == {"answered": 2, "failed": 0, "assessed": 2, "overridden": 2}
    assert "Readers found a tumour in 2 studies" in over["reason"]
    assert "research" in after["notice"].lower()
    browser = sign_in(one)
    page = browser.get("/models").get_data(as_text=True)
    assert "Readers found a tumour in 2 studies" in page
    assert "automatically" in page
    assert "Readers found a tumour in 2 studies" in browser.get(f"/models/{trial}/trial").get_data(
        as_text=True
    )
