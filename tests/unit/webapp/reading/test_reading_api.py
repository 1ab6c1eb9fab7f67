"""The reading room for programs."""

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.factories import Account, StudyIds, make_api_token, make_study
from tests.unit.webapp.reading.test_queue import answer
from webapp.accounts.models import Organisation
from webapp.database import db
from webapp.tenancy import acting_for

MakeUser = Callable[..., Account]


@pytest.fixture
def reader(make_user: MakeUser) -> Account:
    return make_user()


@pytest.fixture
def ids(app: Flask, reader: Account, make_user: MakeUser) -> StudyIds:
    return answer(app, reader, make_study(app, make_user()), prediction_set=[])


def test_queue_and_outcomes_are_those_of_the_token(
    app: Flask, client: FlaskClient, reader: Account, ids: StudyIds
) -> None:
    headers = {"Authorization": f"Bearer {make_api_token(app, reader)[1]}"}
    queue = client.get("/api/v1/reading?limit=5", headers=headers).get_json()
    (entry,) = queue["items"]
    assert (entry["image_id"], entry["reasons"]) == (str(ids.image_id), ["uncertain"])
    assert (entry["blind"], queue["total"], queue["total_is_least"]) == (False, 1, False)
    client.post(entry["links"]["feedback"], headers=headers, json={"verdict": "agree"})
    assert client.get("/api/v1/reading", headers=headers).get_json()["items"] == []
    (outcome,) = client.get("/api/v1/reading/outcomes", headers=headers).get_json()["items"]
    assert (outcome["counting"], outcome["consensus"]) == ("counted", "single")
    assert (outcome["said_by_model"], outcome["model_shown"]) == ("glioma", True)


def test_a_first_opinion_is_given_before_the_answer_is_asked_for(
    app: Flask, client: FlaskClient, reader: Account, ids: StudyIds
) -> None:
    with app.app_context(), acting_for(reader.organisation_id):
        db.session.get_one(Organisation, reader.organisation_id).blind_share = 100
        db.session.commit()
    headers = {"Authorization": f"Bearer {make_api_token(app, reader)[1]}"}
    (entry,) = client.get("/api/v1/reading", headers=headers).get_json()["items"]
    assert (entry["blind"], entry["reasons"], entry["weight"]) == (True, [], None)

    def send(**values: object) -> int:
        sent = {"image_id": entry["image_id"], "model_shown": False} | values
        return client.post(entry["links"]["feedback"], headers=headers, json=sent).status_code

    assert send(verdict="agree") == 422
    assert send(verdict="disagree", label="glioma") == 201
    (outcome,) = client.get("/api/v1/reading/outcomes", headers=headers).get_json()["items"]
    assert (outcome["label"], outcome["model_shown"]) == ("glioma", False)
    assert send(verdict="disagree", label="pituitary") == 409


def test_whoever_has_asked_for_the_study_does_not_read_it_blind(
    app: Flask, client: FlaskClient, reader: Account, ids: StudyIds
) -> None:
    headers = {"Authorization": f"Bearer {make_api_token(app, reader)[1]}"}
    client.get(f"/api/v1/studies/{ids.study_id}", headers=headers)
    sent = {"verdict": "unsure", "model_shown": False}
    address = f"/api/v1/studies/{ids.study_id}/feedback"
    assert client.post(address, headers=headers, json=sent).status_code == 409
