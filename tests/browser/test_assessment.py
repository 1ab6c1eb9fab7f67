"""Assessing slices and studies in a browser, on a desk and on a phone."""

import math

import pytest
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import select

from tests.browser.test_viewer import open_study, wheel
from tests.browser.visits import Visit, sign_in
from tests.factories import Account, SeriesStudyIds, make_series_study
from tests.portal import Portal
from tests.waiting import wait_until
from webapp.database import db
from webapp.review.models import Assessment, AssessmentDraft
from webapp.tenancy import unscoped

pytestmark = [pytest.mark.browser, pytest.mark.integration]
OPENED_AT = 15  # the slice in the middle of 30, which the page opens at


@pytest.fixture
def ids(portal: Portal, reader: Account) -> SeriesStudyIds:
    """A series of 30 slices."""
    return make_series_study(portal.app, reader, slices=30)


def heading(page: Page, number: int) -> Locator:
    return page.get_by_role("heading", name=f"Your assessment of slice {number}", exact=True)


def at_slice(page: Page, number: int) -> None:
    expect(page.locator("[data-corner-slice]").first).to_have_text(f"{number} / 30")


def choose(page: Page, name: str) -> None:
    page.locator(f"#{name}").check(force=True)


def save(page: Page) -> None:
    page.locator("#feedback-send").click()


def saved(page: Page) -> None:
    expect(page.get_by_text("Saved. Thank you.")).to_be_visible()


def rows(portal: Portal) -> list[Assessment]:
    with portal.app.app_context(), unscoped():
        found = select(Assessment).order_by(Assessment.created_at)
        return [db.session.get_one(Assessment, one.id) for one in db.session.scalars(found)]


def drafts(portal: Portal) -> list[dict[str, str]]:
    with portal.app.app_context(), unscoped():
        return [one.payload for one in db.session.scalars(select(AssessmentDraft))]


def drafted(portal: Portal, comment: str) -> None:
    wait_until(
        lambda: [one for one in drafts(portal) if one["comment"] == comment],
        seconds=20,
        what="the draft",
    )


def in_view(page: Page, element: Locator) -> bool:
    box, size = element.bounding_box(), page.viewport_size
    assert size is not None
    return box is not None and box["y"] >= 0 and box["y"] + box["height"] <= size["height"]


def test_form_stays_with_its_slice_and_asks_before_it_is_saved_for_another(
    portal: Portal, visit: Visit, ids: SeriesStudyIds
) -> None:
    page = open_study(visit, ids)
    expect(heading(page, OPENED_AT)).to_be_visible()
    visit.picture("assessment-fresh")
    choose(page, "verdict-unsure")
    page.get_by_label("Comment").fill("Is this the edge?")
    wheel(page, 2)
    at_slice(page, OPENED_AT + 2)
    warning = page.locator("[data-away-here]")
    expect(warning).to_contain_text("slice 15 is not saved. You are looking at slice 17.")
    assert in_view(page, warning)
    page.screenshot(path=visit.screenshots / f"assessment-away-{visit.size}.png")
    expect(heading(page, OPENED_AT)).to_be_visible()
    # The result follows the viewer, the form does not.
    expect(page.locator("#result")).to_have_attribute("data-image", str(OPENED_AT + 1))

    save(page)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Save for slice 15?")
    page.screenshot(path=visit.screenshots / f"assessment-ask-{visit.size}.png")
    assert rows(portal) == []
    dialog.get_by_role("button", name="Back to slice 15").click()
    at_slice(page, OPENED_AT)
    expect(warning).to_be_hidden()
    expect(page.get_by_label("Comment")).to_have_value("Is this the edge?")

    wheel(page, 1)
    at_slice(page, OPENED_AT + 1)
    save(page)
    dialog.get_by_role("button", name="Save for slice 15").click()
    saved(page)
    (row,) = rows(portal)
    assert (row.image_id, row.comment) == (ids.image_ids[OPENED_AT - 1], "Is this the edge?")
    # What is not begun follows.
    expect(heading(page, OPENED_AT + 1)).to_be_visible(timeout=10_000)
    assert drafts(portal) == []


def test_what_is_discarded_is_gone_and_the_form_follows_again(
    portal: Portal, visit: Visit, ids: SeriesStudyIds
) -> None:
    page = open_study(visit, ids)
    page.get_by_label("Comment").fill("wrong slice")
    drafted(portal, "wrong slice")
    wheel(page, 3)
    page.locator("[data-away-here]").get_by_role("button", name="Discard").click()
    expect(heading(page, OPENED_AT + 3)).to_be_visible()
    expect(page.get_by_label("Comment")).to_have_value("")
    page.reload()
    expect(page.get_by_label("Comment")).to_have_value("")
    assert (rows(portal), drafts(portal)) == ([], [])


def test_comment_outlives_an_error_and_a_reload(
    portal: Portal, visit: Visit, ids: SeriesStudyIds
) -> None:
    page = open_study(visit, ids)
    choose(page, "verdict-disagree")
    page.get_by_label("Comment").fill("Not a glioma")
    save(page)
    expect(page.get_by_text("Please choose the correct diagnosis.")).to_be_visible()
    visit.picture("assessment-error")
    wheel(page, 1)
    at_slice(page, OPENED_AT + 1)
    expect(heading(page, OPENED_AT)).to_be_visible()
    expect(page.get_by_label("Comment")).to_have_value("Not a glioma")
    drafted(portal, "Not a glioma")
    visit.open(f"/studies/{ids.study_id}")
    at_slice(page, OPENED_AT)
    expect(page.get_by_label("Comment")).to_have_value("Not a glioma")
    expect(page.get_by_text("You began this")).to_be_visible()
    expect(page.locator("#verdict-disagree")).to_be_checked()
    visit.picture("assessment-restored")


def test_what_was_written_outlives_the_session(
    portal: Portal, visit: Visit, reader: Account, ids: SeriesStudyIds
) -> None:
    page = open_study(visit, ids)
    choose(page, "verdict-agree")
    page.context.clear_cookies()
    page.get_by_label("Comment").fill("written without a session")
    expect(page.get_by_text("You are no longer signed in.")).to_be_visible()
    visit.picture("assessment-signed-out")
    save(page)
    expect(page.get_by_label("Comment")).to_have_value("written without a session")
    assert rows(portal) == []

    other = page.context.new_page()
    sign_in(other, visit.address, reader)
    other.close()
    expect(page.get_by_text("You are no longer signed in.")).to_be_hidden(timeout=15_000)
    save(page)
    saved(page)
    assert [row.comment for row in rows(portal)] == ["written without a session"]
    # htmx tells the console of the refusal that this test is about.
    visit.troubles[:] = [one for one in visit.troubles if "Error Code 400" not in one]


def test_what_was_written_without_a_session_outlives_a_reload(
    portal: Portal, visit: Visit, reader: Account, ids: SeriesStudyIds
) -> None:
    page = open_study(visit, ids, "?image=9")
    page.context.clear_cookies()
    page.get_by_label("Comment").fill("only in this tab")
    expect(page.get_by_text("You are no longer signed in.")).to_be_visible()
    sign_in(page, visit.address, reader)
    visit.open(f"/studies/{ids.study_id}")
    expect(heading(page, 10)).to_be_visible()
    expect(page.get_by_label("Comment")).to_have_value("only in this tab")
    drafted(portal, "only in this tab")


def test_each_of_two_tabs_saves_what_it_says(
    portal: Portal, visit: Visit, ids: SeriesStudyIds
) -> None:
    first = open_study(visit, ids)
    choose(first, "verdict-agree")
    second = first.context.new_page()
    second.goto(f"{visit.address}/studies/{ids.study_id}?image=19")
    expect(second.locator("[data-viewer][data-ready]")).to_be_visible()
    wheel(second, 0)
    expect(second.get_by_role("heading", name="Your assessment of slice")).to_be_visible()
    if second.locator("[data-restored]").count():
        second.locator("[data-discard] button").click()
    expect(heading(second, 20)).to_be_visible()
    choose(second, "verdict-unsure")
    save(second)
    saved(second)
    save(first)
    saved(first)
    assert {(row.image_id, row.verdict.value) for row in rows(portal)} == {
        (ids.image_ids[19], "unsure"),
        (ids.image_ids[14], "agree"),
    }


def stage_points(page: Page, *places: tuple[float, float]) -> list[tuple[float, float]]:
    """Places in the slice, in fractions of its frame, on the page."""
    page.locator("[data-stage]").first.scroll_into_view_if_needed()
    box = page.locator("[data-frame]").first.bounding_box()
    assert box is not None
    return [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]


def region_of(portal: Portal) -> list[list[float]]:
    (row,) = rows(portal)
    assert row.region is not None
    points: list[list[float]] = row.region["points"]
    return points


def touch(page: Page, points: list[tuple[float, float]]) -> None:
    send = page.context.new_cdp_session(page).send
    for number, (x, y) in enumerate(points):
        kind = "touchMove" if number else "touchStart"
        send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def draw(page: Page, visit: Visit, points: list[tuple[float, float]]) -> None:
    """With a finger on the phone, with the mouse on the desk."""
    if visit.size == "phone":
        touch(page, points)
        return
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point)
    page.mouse.up()


def test_region_is_drawn_kept_and_shown_again(
    portal: Portal, visit: Visit, ids: SeriesStudyIds
) -> None:
    page = open_study(visit, ids)
    page.get_by_role("button", name="Mark a region").click()
    bar = page.locator("[data-region-bar]")
    expect(bar).to_be_visible()
    draw(page, visit, stage_points(page, (0.5, 0.3), (0.6, 0.4), (0.8, 0.6)))
    drawn = page.locator(".regions polygon.region")
    expect(drawn).to_have_count(1)
    page.screenshot(path=visit.screenshots / f"assessment-region-{visit.size}.png")
    bar.get_by_role("button", name="Done").click()
    expect(page.get_by_text("Region marked in slice 15")).to_be_visible()
    choose(page, "verdict-agree")
    save(page)
    saved(page)
    points = region_of(portal)
    flat = [
        value for corner in [[0.5, 0.3], [0.8, 0.3], [0.8, 0.6], [0.5, 0.6]] for value in corner
    ]
    assert [value for point in points for value in point] == pytest.approx(flat, abs=0.02)

    wheel(page, 2)
    expect(drawn).to_have_count(0)
    page.locator("[data-stage]").first.focus()
    page.keyboard.press("PageUp")
    page.keyboard.press("PageUp")
    expect(drawn).to_have_count(1)


def test_freehand_line_is_undone_cleared_and_made_coarser(
    portal: Portal, visit: Visit, ids: SeriesStudyIds
) -> None:
    page = open_study(visit, ids)
    page.get_by_role("button", name="Mark a region").click()
    page.get_by_role("button", name="Freehand").click()
    ring = [(0.5 + 0.2 * c, 0.5 + 0.2 * s) for c, s in circle(240)]
    draw(page, visit, stage_points(page, *ring))
    drawn = page.locator(".regions polygon.region")
    expect(drawn).to_have_count(1)
    page.get_by_role("button", name="Clear").click()
    expect(drawn).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(drawn).to_have_count(1)
    choose(page, "verdict-unsure")
    save(page)
    saved(page)
    assert 8 <= len(region_of(portal)) <= 200


def circle(count: int) -> list[tuple[float, float]]:
    return [
        (math.cos(2 * math.pi * n / count), math.sin(2 * math.pi * n / count)) for n in range(count)
    ]


def test_region_is_drawn_with_keys_alone(portal: Portal, visit: Visit, ids: SeriesStudyIds) -> None:
    page = open_study(visit, ids)
    page.locator("[data-stage]").first.focus()
    page.keyboard.press("b")
    page.keyboard.press("Enter")  # the middle is the first corner
    for _step in range(2):
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".regions polygon.region")).to_have_count(1)
    choose(page, "verdict-agree")
    save(page)
    saved(page)
    xs, ys = zip(*region_of(portal), strict=True)
    assert (min(xs), max(xs)) == pytest.approx((0.5, 0.5 + 20 / 128), abs=0.001)
    assert (min(ys), max(ys)) == pytest.approx((0.5, 0.5 + 20 / 96), abs=0.001)


def test_something_else_is_named_in_own_words(
    portal: Portal, visit: Visit, ids: SeriesStudyIds
) -> None:
    page = open_study(visit, ids)
    expect(page.get_by_label("What is it?")).to_be_hidden()
    choose(page, "verdict-disagree")
    page.get_by_label("Correct diagnosis").select_option("other")
    save(page)
    expect(page.get_by_text("Please say what it is.")).to_be_visible()
    page.get_by_label("What is it?").fill("Haemorrhage")
    visit.picture("assessment-something-else")
    save(page)
    saved(page)
    (row,) = rows(portal)
    assert (row.label, row.finding) == ("other", "haemorrhage")
    expect(page.locator(".given")).to_contain_text("haemorrhage")


def test_study_as_a_whole_and_several_slices_are_assessed_in_one_go(
    portal: Portal, visit: Visit, ids: SeriesStudyIds
) -> None:
    page = open_study(visit, ids)
    choose(page, "scope-range")
    page.get_by_label("From slice").fill("12")
    page.get_by_label("to slice").fill("18")
    choose(page, "verdict-agree")
    visit.picture("assessment-range")
    save(page)
    saved(page)
    assert {row.image_id for row in rows(portal)} == set(ids.image_ids[11:18])

    choose(page, "scope-study")
    expect(page.get_by_text("The model’s answer about the study")).to_be_visible()
    choose(page, "verdict-unsure")
    save(page)
    expect(page.get_by_text("It is of the study as a whole.")).to_be_visible()
    whole = [row for row in rows(portal) if row.image_id is None]
    assert [row.verdict.value for row in whole] == ["unsure"]
    visit.open("/")
    expect(page.get_by_text("assessed by you")).to_be_visible()
