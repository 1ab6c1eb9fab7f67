"""The plan of change: one steward proposes it, another confirms it, and its signature counts."""

import io
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import DBAPIError

from tests.factories import Account, make_api_token
from tests.unit.webapp.models_admin.candidates import end_gates, register, write_model
from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.audit import AuditEvent
from webapp.database import db, now
from webapp.errors import Conflict, InvalidInput, NotAllowed, NotFound
from webapp.learning.terms import terms_that_hold
from webapp.models_admin.operations import confirm_model, propose_model
from webapp.plans.holding import holding, plan_that_holds, shipped_plan
from webapp.plans.models import LONGEST_TEXT, PlanDecision, PlanVerdict, PlanVersion
from webapp.plans.operations import confirm_plan, decline_plan, propose_plan
from webapp.tenancy import acting_for, unscoped

WEAKER = "version = 2\n[data]\nquorum = 3\n[gates.superiority]\nrequired = false\n"


class Stewards:
    """Two of one organisation, who propose and confirm."""

    def __init__(self, app: Flask, one: Account, other: Account) -> None:
        self.app, self.one, self.other = app, one, other

    def propose(self, text: str = WEAKER, reason: str = "our patients differ") -> uuid.UUID:
        with self.app.app_context(), acting_for(self.one.organisation_id):
            actor = find_user_by_address(self.one.email)
            return propose_plan(actor=actor, text=text, reason=reason).id

    def confirm(self, plan_id: uuid.UUID, by: Account | None = None) -> None:
        with self.app.app_context(), acting_for(self.one.organisation_id):
            actor = find_user_by_address((by or self.other).email)
            confirm_plan(actor=actor, plan_id=plan_id)

    def version(self) -> int:
        with self.app.app_context(), acting_for(self.one.organisation_id):
            return plan_that_holds().plan.version

    def propose_model(self, candidate_id: uuid.UUID) -> None:
        with self.app.app_context(), acting_for(self.one.organisation_id):
            actor = find_user_by_address(self.one.email)
            propose_model(actor=actor, candidate_id=candidate_id, reason="better")


@pytest.fixture
def stewards(app: Flask, make_user: Callable[..., Account]) -> Stewards:
    return Stewards(app, make_user(Role.STEWARD), make_user(Role.STEWARD))


def test_a_plan_holds_once_a_second_person_confirms_it(stewards: Stewards) -> None:
    assert stewards.version() == 1
    made = stewards.propose()
    assert stewards.version() == 1
    with pytest.raises(NotAllowed):
        stewards.confirm(made, by=stewards.one)
    stewards.confirm(made)
    assert stewards.version() == 2
    with pytest.raises(Conflict):
        stewards.confirm(made)
    with stewards.app.app_context(), acting_for(stewards.one.organisation_id):
        terms = terms_that_hold()
        assert (terms.quorum, terms.stamp.version) == (3, 2)
        assert terms.stamp.sha256 == holding().held.sha256
        actions = set(db.session.scalars(select(AuditEvent.action)))
        assert {"propose_plan", "confirm_plan"} <= actions


def test_other_organisations_and_other_roles_have_no_say(
    stewards: Stewards, make_user: Callable[..., Account]
) -> None:
    made = stewards.propose()
    with pytest.raises(NotAllowed):
        stewards.confirm(made, by=make_user(Role.REVIEWER))
    foreign = make_user(Role.STEWARD, organisation="Hospital B")
    with stewards.app.app_context(), acting_for(foreign.organisation_id):
        with pytest.raises(NotFound):
            confirm_plan(actor=find_user_by_address(foreign.email), plan_id=made)
        assert plan_that_holds().plan.version == 1


def test_a_declined_plan_never_holds_and_the_next_one_has_the_next_number(
    stewards: Stewards,
) -> None:
    made = stewards.propose()
    with pytest.raises(Conflict):
        stewards.propose(WEAKER.replace("2", "3", 1))
    with stewards.app.app_context(), acting_for(stewards.one.organisation_id):
        decline_plan(actor=find_user_by_address(stewards.one.email), plan_id=made)
    with pytest.raises(InvalidInput, match="version = 3"):
        stewards.propose()
    stewards.confirm(stewards.propose(WEAKER.replace("2", "3", 1)))
    assert stewards.version() == 3


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("", "give the plan"),
        ("version = 2\nversion = 3", "line 2"),
        ("version = 2\n[gates.speed]\nmost_times = nan", "most_times"),
        ("version = 2\nmodes = ['all']", "modes"),
        ("version = 2\n[data]\nquorum = 'two'", "quorum"),
        ("version = 2\nfoo = 1", "foo"),
        ("version = 2\na = " + "[" * 9000, "cannot be read"),
        ("version = 2 # " + "x" * LONGEST_TEXT, "at most"),
        ("version = 1", "version = 2"),
    ],
)
def test_what_is_no_plan_is_refused_by_line_or_value(
    stewards: Stewards, given: str, told: str
) -> None:
    with pytest.raises(InvalidInput, match=told) as refused:
        stewards.propose(given)
    assert set(refused.value.fields) == {"text"}
    assert stewards.version() == 1


def test_the_database_itself_refuses_changes(stewards: Stewards) -> None:
    stewards.confirm(stewards.propose())
    with stewards.app.app_context(), unscoped():
        for table in (PlanVersion, PlanDecision):
            for statement in (update(table).values(number=7), delete(table)):
                with pytest.raises(DBAPIError, match="only ever added"):
                    db.session.execute(statement)
                db.session.rollback()


def test_a_row_written_past_the_portal_is_refused_and_the_plan_before_goes_on(
    stewards: Stewards, sign_in: Callable[[Account], FlaskClient]
) -> None:
    stewards.confirm(stewards.propose())
    forged = {"organisation_id": stewards.one.organisation_id, "created_at": now()}
    with stewards.app.app_context(), unscoped():
        plan_id = uuid.uuid4()
        plan = {
            "id": plan_id, "number": 3, "text": "version = 3\n", "sha256": "0" * 64,
            "proposed_by_id": stewards.one.id, "reason": "forged", "signature": "0" * 64,
        }  # fmt: skip
        db.session.execute(insert(PlanVersion).values(**plan, **forged))
        decision = {
            "id": uuid.uuid4(), "number": 2, "plan_id": plan_id, "signature": "0" * 64,
            "verdict": PlanVerdict.CONFIRMED, "decided_by_id": stewards.other.id,
            "previous_signature": "",
        }  # fmt: skip
        db.session.execute(insert(PlanDecision).values(**decision, **forged))
        db.session.commit()
    assert [stewards.version(), stewards.version()] == [2, 2]
    with stewards.app.app_context(), acting_for(stewards.one.organisation_id):
        refusals = select(AuditEvent).where(AuditEvent.action == "refuse_plan")
        assert len(db.session.scalars(refusals).all()) == 1
    page = sign_in(stewards.one).get("/learning/plan").get_data(as_text=True)
    assert "Version 3 was confirmed but is not followed" in page


def test_a_report_of_another_plan_lets_no_model_serve(stewards: Stewards, tmp_path: Path) -> None:
    made = register(stewards.app, stewards.one, write_model(tmp_path / "new"))
    end_gates(stewards.app, stewards.one, made, "pass")
    stewards.propose_model(made)
    stewards.confirm(stewards.propose())
    with stewards.app.app_context(), acting_for(stewards.one.organisation_id):
        actor = find_user_by_address(stewards.other.email)
        with pytest.raises(Conflict, match="plan of change has changed"):
            confirm_model(actor=actor, candidate_id=made)
    end_gates(stewards.app, stewards.one, made, "pass")
    with stewards.app.app_context(), acting_for(stewards.one.organisation_id):
        actor = find_user_by_address(stewards.other.email)
        assert confirm_model(actor=actor, candidate_id=made).number == 1


def test_the_page_shows_the_plan_and_takes_another_as_text_or_file(
    stewards: Stewards, sign_in: Callable[[Account], FlaskClient]
) -> None:
    browser = sign_in(stewards.one)
    page = browser.get("/learning/plan").get_data(as_text=True)
    assert shipped_plan().sha256 in page
    assert "version = 2" in page  # to be edited
    wrong = browser.post("/learning/plan", data={"text": "version = 'x'", "reason": "why"})
    assert (wrong.status_code, "version must be" in wrong.get_data(as_text=True)) == (422, True)
    content = shipped_plan().text.replace("version = 1", "version = 2").replace("0.95", "0.9")
    file = (io.BytesIO(content.encode()), "plan.toml")
    sent = {"text": "ignored", "reason": "lower coverage", "file": file}
    assert browser.post("/learning/plan", data=sent).status_code == 302
    page = browser.get("/learning/plan").get_data(as_text=True)
    assert "gates.coverage.least" in page
    assert "Another data steward has to confirm it." in page
    other = sign_in(stewards.other)
    with stewards.app.app_context(), acting_for(stewards.one.organisation_id):
        plan_id = db.session.scalars(select(PlanVersion.id)).one()
    assert other.post(f"/learning/plan/{plan_id}/confirmation").status_code == 302
    assert "confirmed" in other.get("/learning/plan").get_data(as_text=True)
    assert stewards.version() == 2


def test_the_api_and_the_command_line_do_the_same(stewards: Stewards, tmp_path: Path) -> None:
    client = stewards.app.test_client()
    tokens = [make_api_token(stewards.app, one)[1] for one in (stewards.one, stewards.other)]
    mine, others = ({"Authorization": f"Bearer {token}"} for token in tokens)
    found = client.get("/api/v1/plans", headers=mine).json
    assert found is not None
    assert (found["holds"]["version"], found["next_version"], found["plans"]) == (1, 2, [])
    sent = {"text": WEAKER, "reason": "ours differ"}
    made = client.post("/api/v1/plans", json=sent, headers=mine)
    assert (made.status_code, made.json["verdict"]) == (201, None)  # type: ignore[index]
    address = f"/api/v1/plans/{made.json['id']}/confirmation"  # type: ignore[index]
    assert client.post(address, headers=mine).status_code == 403
    assert client.post(address, headers=others).status_code == 201
    run = stewards.app.test_cli_runner().invoke
    shown = run(args=["plans", "show", "--by", stewards.one.email])
    assert shown.stdout == WEAKER
    file = tmp_path / "plan.toml"
    file.write_text(WEAKER.replace("2", "3", 1))
    by = ["--by", stewards.one.email]
    assert run(args=["plans", "propose", str(file), *by, "--reason", "again"]).exit_code == 0
    assert run(args=["plans", "confirm", *by]).exit_code == 1
    assert run(args=["plans", "confirm", "--by", stewards.other.email]).exit_code == 0
    assert stewards.version() == 3
    nothing = run(args=["plans", "decline", *by])
    assert nothing.output == "Error: No plan is waiting for a decision.\n"


def test_no_page_of_stewards_reads_a_long_body(
    stewards: Stewards, sign_in: Callable[[Account], FlaskClient]
) -> None:
    browser, long = sign_in(stewards.one), {"name": "x" * 2**17, "reason": "x" * 2**17}
    for address in ("/learning/plan", "/learning/snapshots", "/models/off"):
        assert browser.post(address, data=long).status_code == 413
    headers = {"Authorization": f"Bearer {make_api_token(stewards.app, stewards.one)[1]}"}
    for address in ("/api/v1/plans", "/api/v1/snapshots", "/api/v1/models/off"):
        answer = stewards.app.test_client().post(address, json=long, headers=headers)
        assert answer.status_code == 413
