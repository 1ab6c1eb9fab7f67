"""A reviewer settles a dispute by keyboard; a data steward sees readers and takes a snapshot."""

import uuid

import pytest
from playwright.sync_api import expect

from tests.browser.visits import Visit, sign_in
from tests.factories import assess, make_account, make_series_study, make_study
from tests.portal import Portal
from webapp.accounts.models import Role
from webapp.learning import snapshot_jobs
from webapp.review.models import Verdict

pytestmark = [pytest.mark.browser, pytest.mark.integration]


def test_a_dispute_is_settled_without_a_mouse(portal: Portal, visit: Visit) -> None:
    first, second, reviewer = (
        make_account(portal.app, role, organisation="St Elsewhere", name=name)
        for role, name in (
            (Role.CLINICIAN, "Anna"), (Role.CLINICIAN, "Ben"), (Role.REVIEWER, "Rita")
        )
    )  # fmt: skip
    ids = make_study(portal.app, first)
    assess(portal.app, first, ids, comment="ring enhancement")
    assess(portal.app, second, ids, verdict=Verdict.DISAGREE, label="other", finding="stroke")
    sign_in(visit.page, visit.address, reviewer)
    visit.open("/disputes")
    visit.picture("disputes")
    visit.page.locator("main a.row-link").focus()
    visit.page.keyboard.press("Enter")
    expect(visit.page.get_by_text("ring enhancement")).to_be_visible()
    expect(visit.page.get_by_text("Anna")).to_have_count(0)
    visit.picture("dispute")
    visit.page.get_by_role("radio").first.focus()
    visit.page.keyboard.press("Space")
    visit.page.get_by_role("button", name="Decide").focus()
    visit.page.keyboard.press("Enter")
    expect(visit.page.get_by_text("There is nothing for you to decide.")).to_be_visible()


def made_by_the_worker(portal: Portal, address: str) -> None:
    """Make the snapshot of this page, as the trainer does."""
    with portal.app.app_context():
        claim = snapshot_jobs.claim_snapshot(uuid.UUID(address.rpartition("/")[2]))
        assert claim is not None
        snapshot_jobs.make_snapshot(claim)


def test_a_steward_sees_readers_and_takes_a_snapshot(portal: Portal, visit: Visit) -> None:
    first, second, steward = (
        make_account(portal.app, role, organisation="St Elsewhere")
        for role in (Role.CLINICIAN, Role.CLINICIAN, Role.STEWARD)
    )
    ids = make_series_study(portal.app, first, slices=1)
    for reader in (first, second):
        assess(portal.app, reader, ids, verdict=Verdict.DISAGREE, label="pituitary")
    sign_in(visit.page, visit.address, steward)
    visit.open("/learning/readers")
    expect(visit.page.get_by_role("heading", name="How far readers agree")).to_be_visible()
    visit.picture("readers")
    visit.open("/learning/snapshots")
    visit.page.get_by_label("Name").fill("July")
    visit.page.get_by_role("button", name="Take a snapshot").click()
    expect(visit.page.get_by_role("heading", name="July")).to_be_visible()
    made_by_the_worker(portal, visit.page.url)
    # The page asks by itself, and is loaded anew.
    expect(visit.page.get_by_role("heading", name="By diagnosis")).to_be_visible()
    visit.picture("snapshot")
    visit.open("/learning/snapshots")
    visit.picture("snapshots")
