"""Dates and numbers look as the language of the page writes them; English is British."""

from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.factories import Account, make_study
from webapp.database import db
from webapp.studies.models import Study
from webapp.tenancy import acting_for

MakeUser = Callable[..., Account]
SignIn = Callable[[Account], FlaskClient]

WISHES = {
    "en": ("en-GB", "28 Nov 2026, ", "Acquired 7 Feb 2026", "90%"),
    "en-US": ("en-GB", "28 Nov 2026, ", "Acquired 7 Feb 2026", "90%"),
    "de": ("de", "28.11.2026, ", "07.02.2026", "90\N{NO-BREAK SPACE}%"),
    "es": ("es", "28 nov 2026, ", "7 feb 2026", "90\N{NO-BREAK SPACE}%"),
    "fr": ("fr", "28 nov. 2026, ", "7 févr. 2026", "90\N{NO-BREAK SPACE}%"),
}


@pytest.mark.parametrize("wish", WISHES)
def test_pages_write_dates_and_numbers_as_their_language_does(
    app: Flask, make_user: MakeUser, sign_in: SignIn, wish: str
) -> None:
    account = make_user()
    study_id = make_study(app, account).study_id
    with app.app_context(), acting_for(account.organisation_id):
        study = db.session.get_one(Study, study_id)
        study.created_at = datetime(2026, 11, 28, 15, 4, 5, tzinfo=UTC)
        study.acquired_on = date(2026, 2, 7)
        db.session.commit()
    page = sign_in(account).get(f"/studies/{study_id}", headers={"Accept-Language": wish}).text
    tag, moment, day, share = WISHES[wish]
    assert f'<html lang="{tag}"' in page
    for wanted in (moment, day, share):
        assert wanted in page


def test_english_is_offered_and_marked_as_one_language(client: FlaskClient) -> None:
    client.post("/language", data={"locale": "en"})
    page = client.get("/sign-in").text
    assert 'value="en" lang="en" aria-current="true"' in page
    assert "en_GB" not in page
