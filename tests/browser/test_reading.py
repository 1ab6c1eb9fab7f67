"""The reading room in a browser, by keys alone."""

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from tests.browser.visits import Visit, sign_in
from tests.factories import Account, make_account, make_study
from tests.portal import Portal
from tests.unit.webapp.reading.test_queue import answer
from webapp.accounts.models import Organisation
from webapp.database import db
from webapp.review.models import Assessment
from webapp.studies.models import Study
from webapp.studies.sight import note_answer_shown
from webapp.tenancy import acting_for, unscoped

pytestmark = [pytest.mark.browser, pytest.mark.integration]
SAID = {"meningioma": 0.02, "no_tumor": 0.01, "pituitary": 0.01}


def prepare(portal: Portal, reader: Account) -> None:
    """Three slices of others, the third to be read before the model's answer is shown."""
    owner = make_account(portal.app)
    for n in range(3):
        close = {"glioma": 0.96 - n / 10} | SAID | {"meningioma": 0.02 + n / 10}
        ids = answer(
            portal.app, owner, make_study(portal.app, owner),
            prediction_set=["glioma", "meningioma"], probabilities=close,
        )  # fmt: skip
        if n:  # the closer calls come first
            with portal.app.app_context(), acting_for(owner.organisation_id):
                note_answer_shown(reader.id, db.session.get_one(Study, ids.study_id))
    with portal.app.app_context(), acting_for(reader.organisation_id):
        db.session.get_one(Organisation, reader.organisation_id).blind_share = 100
        db.session.commit()


def ready(page: Page, place: str) -> None:
    expect(page.locator("[data-reading] h2")).to_contain_text(place)
    expect(page.locator("[data-viewer][data-ready]")).to_be_visible()


def test_three_slices_are_assessed_by_keys_alone(portal: Portal, visit: Visit) -> None:
    page = visit.page
    reader = make_account(portal.app)
    prepare(portal, reader)
    sign_in(page, visit.address, reader)
    page.get_by_role("link", name="Reading").first.press("Enter")
    visit.picture("reading-queue")
    page.get_by_role("button", name="Start").press("Enter")

    ready(page, "1 of 3")
    expect(page.get_by_text("Several classes are not ruled out", exact=False)).to_be_visible()
    visit.picture("reading-entry")
    page.keyboard.press("2")
    expect(page.locator("#verdict-disagree")).to_be_checked()
    expect(page.locator("#diagnosis")).to_have_value("meningioma")
    page.locator("#comment").focus()
    page.keyboard.type("as 1 sees")  # typing chooses nothing and saves nothing
    expect(page.locator("#diagnosis")).to_have_value("meningioma")
    page.locator("[data-stage]").focus()
    page.keyboard.press("s")

    ready(page, "1 of 2")
    page.keyboard.press("p")
    ready(page, "1 of 3")
    expect(page.locator("#diagnosis")).to_have_value("meningioma")
    expect(page.locator("#comment")).to_have_value("as 1 sees")
    page.keyboard.press("n")
    ready(page, "1 of 2")
    page.locator("[data-stage]").focus()
    page.keyboard.press("r")
    expect(page.locator("[data-region-bar]")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    expect(page.locator("#verdict-agree")).to_be_checked()
    page.keyboard.press("s")

    ready(page, "1 of 1")
    expect(page.get_by_text("Please name a diagnosis first")).to_be_visible()
    visit.picture("reading-blind")
    page.keyboard.press("3")
    expect(page.locator("#label-no_tumor")).to_be_checked()
    page.keyboard.press("s")
    expect(page.get_by_text("you said: No tumour")).to_be_visible()
    expect(page.locator("#result")).to_contain_text("Glioma")
    expect(page.locator("[data-viewer][data-ready]")).to_be_visible()
    visit.picture("reading-shown")
    page.keyboard.press("s")
    expect(page.get_by_text("There is nothing left to read").first).to_be_visible()
    visit.picture("reading-empty")
    visit.open("/reading/mine")
    visit.picture("reading-mine")

    with portal.app.app_context(), unscoped():
        rows = db.session.scalars(select(Assessment).order_by(Assessment.created_at)).all()
        assert [(one.label, one.model_shown, one.superseded_at is None) for one in rows] == [
            ("meningioma", True, True),
            ("glioma", True, True),
            ("no_tumor", False, False),
            ("no_tumor", True, True),
        ]
