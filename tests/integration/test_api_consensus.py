"""Disputes between readers, through the API."""

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.factories import Account, assess, make_api_token, make_study
from webapp.accounts.models import Role
from webapp.review.models import Verdict

MakeUser = Callable[..., Account]


def bearer(app: Flask, account: Account) -> dict[str, str]:
    return {"Authorization": f"Bearer {make_api_token(app, account)[1]}"}


def test_a_reviewer_lists_disputes_without_names_and_settles_one(
    app: Flask, client: FlaskClient, make_user: MakeUser
) -> None:
    first, second, reviewer = make_user(), make_user(), make_user(Role.REVIEWER)
    ids = make_study(app, first)
    assess(app, first, ids, comment="ring")
    assess(app, second, ids, verdict=Verdict.DISAGREE, label="other", finding="stroke")
    headers = bearer(app, reviewer)
    listed = client.get("/api/v1/disputes", headers=headers)
    assert listed.status_code == 200
    assert str(first.id) not in listed.text
    assert listed.json is not None
    (found,) = listed.json["items"]
    assert (found["image_id"], listed.json["total"]) == (str(ids.image_id), 1)
    said = [(one["label"], one["finding"], one["comment"]) for one in found["opinions"]]
    assert said == [("glioma", "", "ring"), ("other", "stroke", "")]
    assert client.get(found["links"]["pixels"], headers=headers).status_code == 200
    address = f"/api/v1/images/{ids.image_id}/adjudication"
    sent = {"label": "glioma", "version": found["version"]}
    settled = client.post(address, json=sent, headers=headers)
    assert settled.status_code == 201
    assert settled.json is not None
    assert (settled.json["label"], settled.json["opinions"]) == ("glioma", 2)
    assert client.get("/api/v1/disputes", headers=headers).json["total"] == 0  # type: ignore[index]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"label": "glioma", "version": "0" * 16}, 409),
        ({"label": "other"}, 422),
        ({"label": "plague"}, 422),
        ({}, 422),
    ],
)
def test_what_cannot_be_taken_is_refused_with_a_problem(
    app: Flask, client: FlaskClient, make_user: MakeUser, sent: dict[str, str], status: int
) -> None:
    first, second, reviewer = make_user(), make_user(), make_user(Role.REVIEWER)
    ids = make_study(app, first)
    assess(app, first, ids)
    assess(app, second, ids, verdict=Verdict.DISAGREE, label="meningioma")
    address = f"/api/v1/images/{ids.image_id}/adjudication"
    answer = client.post(address, json=sent, headers=bearer(app, reviewer))
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
