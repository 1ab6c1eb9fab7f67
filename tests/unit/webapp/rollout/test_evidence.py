"""The evidence holds what people decided on, and its signature fails where a byte differs."""

import json
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
from tests.unit.webapp.reporting.test_pdf import poppler
from tests.unit.webapp.rollout.studies import Said, answer, begin_shadow
from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.audit import AuditEvent
from webapp.database import db
from webapp.models_admin import operations
from webapp.rollout.evidence import is_genuine
from webapp.rollout.recalling import plan_recalls
from webapp.rollout.shadowing import plan_shadows
from webapp.tenancy import acting_for, unscoped


@pytest.fixture
def steward(make_user: Callable[..., Account]) -> Account:
    return make_user(Role.STEWARD, name="Sasha Steward")


@pytest.fixture
def candidate_id(
    app: Flask, steward: Account, make_user: Callable[..., Account], tmp_path: Path
) -> uuid.UUID:
    """One that serves after a shadow and a trial, where another one served before it."""
    other = make_user(Role.STEWARD, name="Olu Other")
    promote(app, steward, other, write_model(tmp_path / "old", "vgg16-old"))
    made = register(app, steward, write_model(tmp_path / "new", "vgg16-next"))
    end_gates(app, steward, made, "pass")
    begin_shadow(app, steward, made)
    make_study(app, steward)
    with app.app_context():
        (asked,) = plan_shadows(settled_after=timedelta(0))
    answer(app, steward, asked, Said("pituitary"))
    for share in (50, None):
        with app.app_context(), acting_for(steward.organisation_id):
            operations.propose_model(
                actor=find_user_by_address(steward.email),
                candidate_id=made,
                reason="better",
                share=share,
            )
            operations.confirm_model(actor=find_user_by_address(other.email), candidate_id=made)
    with app.app_context():
        plan_recalls()
    return made


def test_json_holds_who_decided_what_and_is_signed(
    app: Flask,
    sign_in: Callable[[Account], FlaskClient],
    steward: Account,
    candidate_id: uuid.UUID,
    tmp_path: Path,
) -> None:
    sent = sign_in(steward).get(f"/models/{candidate_id}/evidence.json")
    assert sent.status_code == 200
    assert "attachment" in sent.headers["Content-Disposition"]
    found = json.loads(sent.data)
    assert found["candidate"]["name"] == "vgg16-next"
    assert "not a certified medical device" in found["notice"].lower()
    (gates,) = found["gate_runs"]
    assert gates["report"]["gates"][0]["interval"] == [-0.002, 0.01]
    assert gates["signature_holds"]
    tried, proposal = found["proposals"]
    assert (tried["share"], proposal["share"]) == (50, None)
    assert proposal["proposed_by"].startswith("Sasha Steward")
    assert proposal["decided_by"].startswith("Olu Other")
    rows = [(row["kind"], row["number"], row["signature_holds"]) for row in found["deployments"]]
    assert rows == [("canary", 2, True), ("promotion", 3, True)]
    (trial,) = found["trials"]
    assert (trial["share"], trial["ended_by_deployment"], trial["rule_says"]) == (50, 3, None)
    compared = found["shadow"]["comparison"]["studies"]
    assert compared["table"] == [{"before": "glioma", "after": "pituitary", "count": 1}]
    assert [(one["status"], one["studies"]) for one in found["recalls"]] == [("running", 1)]
    with app.app_context():
        assert is_genuine(sent.data)
        assert not is_genuine(sent.data.replace(b"Olu Other", b"Otu Other"))
        for wrong in (b"", b"[]", b'{"format":"sulcus-evidence-1"}', b"\xff"):
            assert not is_genuine(wrong)
    with app.app_context(), unscoped():
        told = db.session.scalars(
            select(AuditEvent).where(AuditEvent.action == "export_evidence")
        ).one()
        assert told.details["signature"] == found["signature"]
    token = {"Authorization": f"Bearer {make_api_token(app, steward)[1]}"}
    by_api = app.test_client().get(f"/api/v1/models/{candidate_id}/evidence", headers=token)
    kept = tmp_path / "evidence.json"
    kept.write_bytes(by_api.data)
    run = app.test_cli_runner().invoke
    assert run(args=["models", "verify", str(kept)]).output == "The signature is valid.\n"
    kept.write_bytes(by_api.data[:-1])
    assert run(args=["models", "verify", str(kept)]).exit_code == 1


def test_pdf_tells_people_the_same(
    app: Flask,
    sign_in: Callable[[Account], FlaskClient],
    steward: Account,
    candidate_id: uuid.UUID,
    tmp_path: Path,
) -> None:
    sent = sign_in(steward).get(f"/models/{candidate_id}/evidence.pdf")
    (tmp_path / "evidence.pdf").write_bytes(sent.data)
    read = poppler("pdftotext", "-layout", str(tmp_path / "evidence.pdf"), "-").decode()
    text = re.sub(r"\s+", " ", read)
    for expected in (
        "vgg16-next",
        "Sasha Steward",
        "0.004 [-0.002, 0.01]",
        "Not a certified",
        "Glioma → Pituitary tumour: 1",
        "on trial",
    ):
        assert expected in text
    fresh = register(app, steward, write_model(tmp_path / "fresh"))  # nothing is known yet
    assert sign_in(steward).get(f"/models/{fresh}/evidence.pdf").status_code == 200


def test_command_line_starts_and_stops_a_shadow(
    app: Flask, steward: Account, tmp_path: Path
) -> None:
    run = app.test_cli_runner().invoke
    made = register(app, steward, write_model(tmp_path / "fresh", "vgg16-fresh"))
    refused = run(args=["models", "shadow", str(made), "--by", steward.email])
    assert "has not passed the gates" in refused.output
    assert refused.exit_code == 1
