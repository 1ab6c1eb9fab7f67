"""How a model comes to serve an organisation, and how it goes again."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from tests.factories import Account
from tests.unit.webapp.models_admin.candidates import end_gates, promote, register, write_model
from webapp.accounts.models import Role, User
from webapp.accounts.queries import find_user_by_address
from webapp.audit import AuditEvent
from webapp.database import db
from webapp.errors import Conflict, InvalidInput, NotAllowed, NotFound
from webapp.models_admin import operations
from webapp.models_admin.models import Deployment, DeploymentKind
from webapp.models_admin.queries import find_candidate
from webapp.models_admin.serving import FirstModel, Off, ServingFiles, overview, serving_models
from webapp.tenancy import acting_for, unscoped


@dataclass(frozen=True)
class Stewards:
    """Two of one organisation."""

    one: Account
    other: Account


@pytest.fixture
def stewards(make_user: Callable[..., Account]) -> Stewards:
    return Stewards(make_user(Role.STEWARD), make_user(Role.STEWARD))


@pytest.fixture
def candidate_id(app: Flask, stewards: Stewards, tmp_path: Path) -> uuid.UUID:
    """One that has passed."""
    made = register(app, stewards.one, write_model(tmp_path / "new"))
    end_gates(app, stewards.one, made, "pass")
    return made


def user(account: Account) -> User:
    return find_user_by_address(account.email)


def serving(app: Flask, account: Account) -> list[str]:
    """The models that the worker would try, by the hash of their weights, or by their kind."""
    with app.app_context(), acting_for(account.organisation_id):
        return [
            one.sha256 if isinstance(one, ServingFiles) else type(one).__name__
            for one in serving_models()
        ]


def sha256_of(app: Flask, account: Account, candidate_id: uuid.UUID) -> str:
    with app.app_context(), acting_for(account.organisation_id):
        return find_candidate(candidate_id).model_version.sha256


class TestPromotion:
    def test_without_deployments_the_first_model_serves(
        self, app: Flask, stewards: Stewards
    ) -> None:
        assert serving(app, stewards.one) == [FirstModel.__name__]

    def test_a_second_person_lets_a_proposed_model_serve(
        self, app: Flask, stewards: Stewards, candidate_id: uuid.UUID
    ) -> None:
        with app.app_context(), acting_for(stewards.one.organisation_id):
            operations.propose_model(
                actor=user(stewards.one), candidate_id=candidate_id, reason="better on our scans"
            )
            assert [type(one) for one in serving_models()] == [FirstModel]
            row = operations.confirm_model(actor=user(stewards.other), candidate_id=candidate_id)
            assert (row.number, row.kind) == (1, DeploymentKind.PROMOTION)
            assert row.proposed_by_id == stewards.one.id
            assert row.decided_by_id == stewards.other.id
        sha256 = sha256_of(app, stewards.one, candidate_id)
        assert serving(app, stewards.one) == [sha256, FirstModel.__name__]

    def test_nobody_confirms_alone(
        self, app: Flask, stewards: Stewards, candidate_id: uuid.UUID
    ) -> None:
        with app.app_context(), acting_for(stewards.one.organisation_id):
            operations.propose_model(
                actor=user(stewards.one), candidate_id=candidate_id, reason="better"
            )
            with pytest.raises(NotAllowed):
                operations.confirm_model(actor=user(stewards.one), candidate_id=candidate_id)
        assert serving(app, stewards.one) == [FirstModel.__name__]

    @pytest.mark.parametrize("role", [Role.CLINICIAN, Role.REVIEWER])
    def test_only_stewards_decide(
        self,
        app: Flask,
        stewards: Stewards,
        candidate_id: uuid.UUID,
        make_user: Callable[..., Account],
        role: Role,
    ) -> None:
        other = make_user(role)
        with app.app_context(), acting_for(stewards.one.organisation_id):
            for act in (
                lambda: operations.propose_model(
                    actor=user(other), candidate_id=candidate_id, reason="better"
                ),
                lambda: operations.confirm_model(actor=user(other), candidate_id=candidate_id),
                lambda: operations.roll_back(actor=user(other), reason="worse"),
                lambda: operations.switch_off(actor=user(other), reason="worse"),
                lambda: operations.run_gates(actor=user(other), candidate_id=candidate_id),
            ):
                with pytest.raises(NotAllowed):
                    act()

    @pytest.mark.parametrize("verdict", ["fail", None])
    def test_what_has_not_passed_cannot_be_proposed(
        self, app: Flask, stewards: Stewards, tmp_path: Path, verdict: str | None
    ) -> None:
        made = register(app, stewards.one, write_model(tmp_path / "new"))
        if verdict:
            end_gates(app, stewards.one, made, verdict)
        with app.app_context(), acting_for(stewards.one.organisation_id), pytest.raises(Conflict):
            operations.propose_model(actor=user(stewards.one), candidate_id=made, reason="better")

    def test_a_reason_is_needed(
        self, app: Flask, stewards: Stewards, candidate_id: uuid.UUID
    ) -> None:
        with app.app_context(), acting_for(stewards.one.organisation_id):
            for reason in ("", " \0 ", "x" * 1001):
                with pytest.raises(InvalidInput):
                    operations.propose_model(
                        actor=user(stewards.one), candidate_id=candidate_id, reason=reason
                    )

    def test_another_organisation_neither_sees_nor_serves_it(
        self,
        app: Flask,
        stewards: Stewards,
        make_user: Callable[..., Account],
        tmp_path: Path,
    ) -> None:
        foreign = make_user(Role.STEWARD, organisation="Hospital B")
        made = promote(app, stewards.one, stewards.other, write_model(tmp_path / "new"))
        assert serving(app, foreign) == [FirstModel.__name__]
        with app.app_context(), acting_for(foreign.organisation_id), pytest.raises(NotFound):
            operations.propose_model(actor=user(foreign), candidate_id=made, reason="theirs")

    def test_a_proposal_can_be_declined_and_made_again(
        self, app: Flask, stewards: Stewards, candidate_id: uuid.UUID
    ) -> None:
        with app.app_context(), acting_for(stewards.one.organisation_id):
            for _again in range(2):
                operations.propose_model(
                    actor=user(stewards.one), candidate_id=candidate_id, reason="better"
                )
                with pytest.raises(Conflict):  # one at a time
                    operations.propose_model(
                        actor=user(stewards.other), candidate_id=candidate_id, reason="better"
                    )
                operations.decline_model(actor=user(stewards.one), candidate_id=candidate_id)
        assert serving(app, stewards.one) == [FirstModel.__name__]


class TestGoingBack:
    def test_rollbacks_take_promotions_back_one_by_one(
        self, app: Flask, stewards: Stewards, tmp_path: Path
    ) -> None:
        made = [
            promote(app, stewards.one, stewards.other, write_model(tmp_path / name))
            for name in ("a", "b")
        ]
        a, b = (sha256_of(app, stewards.one, one) for one in made)
        assert serving(app, stewards.one) == [b, a, FirstModel.__name__]
        for expected in ([a, FirstModel.__name__], [FirstModel.__name__]):
            with app.app_context(), acting_for(stewards.one.organisation_id):
                operations.roll_back(actor=user(stewards.one), reason="worse")
            assert serving(app, stewards.one) == expected
        with app.app_context(), acting_for(stewards.one.organisation_id), pytest.raises(Conflict):
            operations.roll_back(actor=user(stewards.one), reason="worse")

    def test_switched_off_no_model_answers_until_it_is_switched_on(
        self, app: Flask, stewards: Stewards, tmp_path: Path
    ) -> None:
        made = promote(app, stewards.one, stewards.other, write_model(tmp_path / "a"))
        with app.app_context(), acting_for(stewards.one.organisation_id):
            operations.switch_off(actor=user(stewards.one), reason="recalled")
            assert [type(one) for one in serving_models()] == [Off]
            assert overview().is_off
            with pytest.raises(Conflict):
                operations.switch_off(actor=user(stewards.one), reason="recalled")
            operations.switch_on(actor=user(stewards.one))
            with pytest.raises(Conflict):
                operations.switch_on(actor=user(stewards.one))
        sha256 = sha256_of(app, stewards.one, made)
        assert serving(app, stewards.one) == [sha256, FirstModel.__name__]


class TestTampering:
    def test_the_database_refuses_to_change_or_delete_a_deployment(
        self, app: Flask, stewards: Stewards, tmp_path: Path
    ) -> None:
        promote(app, stewards.one, stewards.other, write_model(tmp_path / "a"))
        with app.app_context():
            for statement in ("UPDATE deployment SET reason = 'other'", "DELETE FROM deployment"):
                with pytest.raises(DBAPIError, match="only ever added"):
                    db.session.execute(text(statement))
                db.session.rollback()

    def test_a_row_written_past_the_portal_is_not_followed(
        self, app: Flask, stewards: Stewards, tmp_path: Path
    ) -> None:
        good = promote(app, stewards.one, stewards.other, write_model(tmp_path / "good"))
        bad = register(app, stewards.one, write_model(tmp_path / "bad"))
        end_gates(app, stewards.one, bad, "fail")
        with app.app_context(), acting_for(stewards.one.organisation_id):
            first = db.session.scalars(select(Deployment)).one()
            db.session.add(
                Deployment(
                    number=2,
                    kind=DeploymentKind.PROMOTION,
                    candidate=find_candidate(bad),
                    gate_run=find_candidate(bad).last_run,
                    decided_by_id=stewards.one.id,
                    previous_signature=first.signature,
                    signature=first.signature,
                )
            )
            db.session.commit()
        sha256 = sha256_of(app, stewards.one, good)
        for _again in range(2):
            assert serving(app, stewards.one) == [sha256, FirstModel.__name__]
        with app.app_context(), unscoped():
            told = db.session.scalars(
                select(AuditEvent.details).where(AuditEvent.action == "refuse_model")
            ).all()
        assert told == [{"fault": "the deployment's signature is wrong"}]  # once

    @pytest.mark.parametrize("what", ["report", "files", "key"])
    def test_a_changed_report_or_list_of_files_or_key_is_noticed(
        self, app: Flask, stewards: Stewards, tmp_path: Path, what: str
    ) -> None:
        promote(app, stewards.one, stewards.other, write_model(tmp_path / "a"))
        statement = {
            "report": "UPDATE gate_run SET report = :value",
            "files": "UPDATE candidate_file SET blob_key = :value",
            "key": "UPDATE gate_run SET signature = :value",
        }[what]
        value = '{"verdict": "pass"}' if what == "report" else "0" * 64
        with app.app_context():
            db.session.execute(text(statement), {"value": value})
            db.session.commit()
        assert serving(app, stewards.one) == [FirstModel.__name__]
