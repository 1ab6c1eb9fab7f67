"""Pages, API and command line say the same about models."""

import re
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.factories import Account, make_api_token
from tests.unit.webapp.models_admin.candidates import end_gates, promote, register, write_model
from webapp.accounts.models import Role


@pytest.fixture
def steward(make_user: Callable[..., Account]) -> Account:
    return make_user(Role.STEWARD, name="Sasha Steward")


@pytest.fixture
def other(make_user: Callable[..., Account]) -> Account:
    return make_user(Role.STEWARD, name="Olu Other")


def text_of(client: FlaskClient, address: str) -> str:
    return re.sub(r"<[^>]+>", " ", client.get(address).get_data(as_text=True))


def api(app: Flask, account: Account, method: str, path: str, **sent: str) -> tuple[int, dict]:  # type: ignore[type-arg]
    token = make_api_token(app, account)[1]
    answer = app.test_client().open(
        f"/api/v1{path}",
        method=method,
        json=sent or None,
        headers={"Authorization": f"Bearer {token}"},
    )
    return answer.status_code, answer.get_json() or {}


def test_everybody_sees_which_model_serves_and_since_when(
    app: Flask,
    make_user: Callable[..., Account],
    sign_in: Callable[[Account], FlaskClient],
    steward: Account,
    other: Account,
    tmp_path: Path,
) -> None:
    clinician = make_user(Role.CLINICIAN)
    page = text_of(sign_in(clinician), "/models")
    assert "vgg16-twofold" in page
    assert "the start of this installation" in page
    promote(app, steward, other, write_model(tmp_path / "new", "vgg16-next"), reason="secret why")
    page = text_of(sign_in(clinician), "/models")
    assert "vgg16-next" in page
    assert "promoted" in page
    assert "Candidates" not in page
    assert "secret why" not in page
    assert "secret why" in text_of(sign_in(steward), "/models")


def test_a_candidate_comes_to_serve_through_the_pages(
    app: Flask,
    sign_in: Callable[[Account], FlaskClient],
    steward: Account,
    other: Account,
    tmp_path: Path,
) -> None:
    made = register(app, steward, write_model(tmp_path / "new", "vgg16-next"))
    first, second = sign_in(steward), sign_in(other)
    assert "waiting" in text_of(first, f"/models/{made}")
    end_gates(app, steward, made, "pass")
    page = text_of(first, f"/models/{made}")
    assert "non inferiority" in page
    assert "0.004 [-0.002, 0.010]" in page
    refused = first.post(f"/models/{made}/proposal", data={"reason": " "})
    assert refused.status_code == 422
    assert "Please give a reason." in refused.get_data(as_text=True)
    assert first.post(f"/models/{made}/proposal", data={"reason": "better"}).status_code == 302
    assert "Another data steward has to confirm it." in text_of(first, f"/models/{made}")
    first.post(f"/models/{made}/confirmation")
    assert "the start of this installation" in text_of(first, "/models")  # not by the same person
    assert "Confirm and put into service" in text_of(second, f"/models/{made}")
    second.post(f"/models/{made}/confirmation")
    assert "vgg16-next" in text_of(second, "/models")
    assert second.post("/models/rollback", data={"reason": "worse"}).status_code == 302
    assert "rolled back" in text_of(second, "/models")
    assert second.post("/models/off", data={"reason": "recalled"}).status_code == 302
    assert "The model is switched off." in text_of(second, "/models")
    second.post("/models/on")
    assert "switched on" in text_of(second, "/models")


def test_a_candidate_that_failed_offers_no_proposal(
    app: Flask, sign_in: Callable[[Account], FlaskClient], steward: Account, tmp_path: Path
) -> None:
    made = register(app, steward, write_model(tmp_path / "new"))
    end_gates(app, steward, made, "fail")
    page = text_of(sign_in(steward), f"/models/{made}")
    assert "not passed" in page
    assert "Propose this model" not in page


def test_the_api_does_the_same(
    app: Flask, steward: Account, other: Account, tmp_path: Path
) -> None:
    made = register(app, steward, write_model(tmp_path / "new", "vgg16-next"))
    assert api(app, steward, "POST", f"/models/{made}/proposal", reason="better")[0] == 409
    end_gates(app, steward, made, "pass")
    status, found = api(app, steward, "GET", f"/models/{made}")
    assert (status, found["gates"]["status"], found["is_serving"]) == (200, "passed", False)
    assert found["gates"]["gates"][0]["name"] == "non_inferiority"
    assert api(app, steward, "POST", f"/models/{made}/proposal", reason=" ")[0] == 422
    assert api(app, steward, "POST", f"/models/{made}/proposal", reason="better")[0] == 201
    assert api(app, steward, "POST", f"/models/{made}/confirmation")[0] == 403
    status, row = api(app, other, "POST", f"/models/{made}/confirmation")
    assert (status, row["kind"], row["model"]) == (201, "promotion", "vgg16-next")
    _status, models = api(app, steward, "GET", "/models")
    assert models["serving"] == "vgg16-next"
    assert models["candidates"][0]["is_serving"]
    assert api(app, other, "POST", "/models/rollback", reason="worse")[0] == 201
    _status, models = api(app, steward, "GET", "/models")
    assert models["serving"].startswith("vgg16-twofold")
    assert [one["kind"] for one in models["deployments"]] == ["rollback", "promotion"]


def test_the_command_line_does_the_same(
    app: Flask, steward: Account, other: Account, tmp_path: Path
) -> None:
    runner = app.test_cli_runner()
    card = write_model(tmp_path / "new", "vgg16-next")
    made = runner.invoke(args=["models", "register", str(card), "--by", steward.email])
    assert made.exit_code == 0, made.output
    again = runner.invoke(args=["models", "register", str(card), "--by", steward.email])
    assert (again.exit_code, again.output) == (1, "Error: This model is already registered.\n")
    by, why = ["--by", steward.email], ["--reason", "better"]
    refused = runner.invoke(args=["models", "propose", "vgg16-next", *by, *why])
    assert refused.exit_code == 1
    assert "This model has not passed the gates." in refused.output
    end_gates(app, steward, uuid.UUID(made.output.strip()), "pass")
    assert runner.invoke(args=["models", "propose", "vgg16-next", *by, *why]).exit_code == 0
    assert runner.invoke(args=["models", "confirm", "vgg16-next", *by]).exit_code == 1
    by_other = ["--by", other.email]
    assert runner.invoke(args=["models", "confirm", "vgg16-next", *by_other]).exit_code == 0
    assert "vgg16-next\tserves" in runner.invoke(args=["models", "list", *by]).output
    told = runner.invoke(args=["models", "rollback", *by, "--reason", "worse"])
    assert (told.exit_code, "serves again" in told.output) == (0, True)


def test_a_damaged_model_is_refused_in_one_line(
    app: Flask, steward: Account, tmp_path: Path
) -> None:
    card = write_model(tmp_path / "new")
    (tmp_path / "new" / "net.safetensors").write_bytes(b"other")
    told = app.test_cli_runner().invoke(
        args=["models", "register", str(card), "--by", steward.email]
    )
    assert told.exit_code == 1
    assert "another hash than its card says" in told.output
