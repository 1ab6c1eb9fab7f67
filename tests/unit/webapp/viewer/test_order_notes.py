"""Where the order of slices is a guess, page, API and report say so."""

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.dicoms import as_bytes, axial_series, head, mr_slice
from tests.factories import Account, make_study
from tests.unit.webapp.intake.test_arrival import study, submit
from webapp.api.answers import full
from webapp.reporting.content import gather
from webapp.tenancy import acting_for, unscoped
from webapp.wording import order_note

MakeUser = Callable[..., Account]
GUESS = "The order of the slices is a guess"


def nowhere(number: int | None) -> bytes:
    """A slice that does not say where in the head it lies."""
    dataset = mr_slice(head(number or 0, 5, 128), study_uid="1.2.3", series_uid="1.2.3.1")
    del dataset.ImagePositionPatient, dataset.ImageOrientationPatient
    dataset.InstanceNumber = number
    return as_bytes(dataset)


@pytest.mark.parametrize(
    ("files", "order"),
    [
        ([nowhere(number) for number in (3, 1, 2)], "number"),
        ([nowhere(None), nowhere(None)], "given"),
        (axial_series(3), "place"),
    ],
    ids=["number", "given", "place"],
)
def test_page_and_api_say_what_the_order_goes_by(
    app: Flask,
    make_user: MakeUser,
    sign_in: Callable[[Account], FlaskClient],
    files: list[bytes],
    order: str,
) -> None:
    account = make_user()
    study_id = submit(app, account, files)
    with app.test_request_context(), unscoped():
        (series,) = full(study(study_id))["series"]
    assert series["slice_order"] == order
    assert bool(series["order_note"]) == (order != "place")
    page = sign_in(account).get(f"/studies/{study_id}").text
    assert (GUESS in page) == (order != "place")


def test_report_says_so(app: Flask, make_user: MakeUser) -> None:
    account = make_user()
    ids = make_study(app, account, further=["glioma"])
    with app.test_request_context(), acting_for(account.organisation_id):
        (note,) = gather(study(ids.study_id)).order_notes
    assert note.startswith(GUESS)
    assert note.endswith("arrived.")


def test_one_slice_has_no_order() -> None:
    assert order_note("given", 1) == order_note(None, 9) == order_note("location", 9) == ""
