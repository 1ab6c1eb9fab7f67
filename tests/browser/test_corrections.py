"""Correct a study, move slices out of it, delete it: on a desk and on a phone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.visits import SIZES, sign_in
from tests.factories import SeriesStudyIds, make_account, make_series_study
from tests.portal import Portal

pytestmark = [pytest.mark.browser, pytest.mark.integration]
THEMES = ("dark", "light")


class Desk:
    """One signed-in browser window on a portal with a study of twelve slices."""

    def __init__(
        self,
        page: Page,
        address: str,
        size: str,
        screenshots: Path,
        study: SeriesStudyIds,
        other: SeriesStudyIds,
    ) -> None:
        self.page, self.address, self.size = page, address, size
        self.screenshots, self.study, self.other = screenshots, study, other

    @property
    def url(self) -> str:
        return f"{self.address}/studies/{self.study.study_id}"

    def picture(self, name: str) -> None:
        """Keep a picture in both themes, and check that nothing is wider than the window."""
        self.page.wait_for_load_state("networkidle")
        for theme in THEMES:
            self.page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
            path = self.screenshots / f"{name}-{theme}-{self.size}.png"
            self.page.screenshot(path=path, full_page=True, animations="disabled")
        width = self.page.evaluate("document.documentElement.scrollWidth")
        assert width <= SIZES[self.size.removesuffix("-plain")]["width"], (
            f"{name} is {width} px wide"
        )


@pytest.fixture(params=[("desk", True), ("phone", True), ("desk", False)])
def desk(
    portal: Portal, chromium: Browser, screenshots: Path, request: pytest.FixtureRequest
) -> Iterator[Desk]:
    size, script = request.param
    account = make_account(portal.app, organisation="St Elsewhere")
    study = make_series_study(portal.app, account, slices=12, code="P-1001")
    other = make_series_study(portal.app, account, slices=4, code="P-2002")
    address = portal.address
    context = chromium.new_context(
        viewport=SIZES[size], locale="en-GB", java_script_enabled=script, has_touch=size == "phone"
    )
    page = context.new_page()
    sign_in(page, address, account)
    yield Desk(page, address, size if script else f"{size}-plain", screenshots, study, other)
    context.close()


def test_correct_move_and_delete(desk: Desk) -> None:
    page = desk.page
    scripted = desk.size != "desk-plain"
    page.goto(desk.url)
    page.get_by_role("link", name="Correct or delete").click()
    page.get_by_label("Patient code").fill("Jane Doe")
    page.get_by_label("Priority").select_option("urgent")
    if scripted:
        desk.picture("correct")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("looks like a name").first).to_be_visible()
    if scripted:
        desk.picture("correct-questioned")
    page.get_by_label("Patient code").first.fill("P-1002")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="P-1002")).to_be_visible()
    expect(page.get_by_text("The study has been corrected.")).to_be_visible()

    page.goto(f"{desk.url}/move")
    if scripted:
        page.get_by_label("From").fill("10")
        page.get_by_role("button", name="Choose", exact=True).click()
        expect(page.get_by_text("3 of 12 slices chosen")).to_be_visible()
        page.locator('input[name="image"]').first.focus()
        page.keyboard.press("Space")
        expect(page.get_by_text("4 of 12 slices chosen")).to_be_visible()
        page.locator('input[name="image"]').first.uncheck()
    else:
        page.get_by_label("From").fill("10")
    page.locator(".to-new").get_by_label("Patient code").fill("P-3003")
    if scripted:
        desk.picture("move")
    page.get_by_role("button", name="Move the slices").click()
    expect(page.get_by_role("heading", name="P-3003")).to_be_visible()
    expect(page.get_by_text("3 slices were moved here")).to_be_visible()

    page.goto(f"{desk.url}/move")
    page.get_by_label("All 9 slices").check()
    page.get_by_label("another study that is here").check()
    page.get_by_label("Study", exact=True).select_option(str(desk.other.study_id))
    page.get_by_role("button", name="Move the slices").click()
    expect(page.get_by_text("This study has no slices any more.")).to_be_visible()
    if scripted:
        desk.picture("emptied")

    page.get_by_role("link", name="Delete the empty study").click()
    page.get_by_label("Reason", exact=True).select_option("wrong_patient")
    if scripted:
        desk.picture("delete")
    page.get_by_label("I have looked").check()
    page.get_by_role("button", name="Delete for good").click()
    expect(page.get_by_text("The study has been deleted.")).to_be_visible()
    expect(page.get_by_text("P-1002")).to_have_count(0)
    assert page.goto(desk.url).status == 404  # type: ignore[union-attr]


def test_nothing_goes_without_a_second_look(desk: Desk) -> None:
    page = desk.page
    page.goto(f"{desk.url}/correct")
    page.get_by_role("button", name="Delete the study").click()
    expect(page.get_by_text("12 slices")).to_be_visible()
    if desk.size != "desk-plain":
        desk.picture("delete-full")
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_role("heading", name="P-1001")).to_be_visible()
