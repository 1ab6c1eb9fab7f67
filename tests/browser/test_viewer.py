"""The viewer of a series on a desk and on a phone, with pictures of it."""

import io
import re
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import pydicom
import pytest
from playwright.sync_api import FloatRect, Locator, Page, Request, expect

from tests.browser.visits import SIZES, Visit
from tests.factories import (
    Account,
    SeriesStudyIds,
    finish_series_study,
    make_series_study,
    make_study,
)
from tests.portal import Portal
from tests.waiting import wait_until
from webapp.database import db
from webapp.studies.models import Image, Status
from webapp.tenancy import unscoped

pytestmark = [pytest.mark.browser, pytest.mark.integration]


def open_study(visit: Visit, ids: SeriesStudyIds, query: str = "") -> Page:
    visit.open(f"/studies/{ids.study_id}{query}")
    expect(visit.page.locator("[data-viewer][data-ready]")).to_be_visible()
    return visit.page


def more_controls(page: Page) -> None:
    """What is needed rarely is folded away."""
    page.get_by_text("More controls").click()


def place(page: Page, pane: int = 0) -> str:
    return page.locator("[data-corner-slice]").nth(pane).inner_text()


def expect_slice(page: Page, text: str) -> None:
    expect(page.locator("[data-corner-slice]").first).to_have_text(text)


def wheel(page: Page, notches: int) -> None:
    page.locator("[data-stage]").first.hover()
    for _notch in range(abs(notches)):
        page.mouse.wheel(0, 100 if notches > 0 else -100)


def swipe(page: Page, pixels: int) -> None:
    """One finger from the middle of the stage to the right."""
    box = page.locator("[data-stage]").first.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    fingers = page.context.new_cdp_session(page)
    send = fingers.send
    send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, 7):
        there = [{"x": x + pixels * step / 6, "y": y}]
        send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": there})
    send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def shades(drawn: Locator) -> int:
    """Different values of red in what the browser shows; a blank canvas has one."""
    with PIL.Image.open(io.BytesIO(drawn.screenshot())) as picture:
        return len(np.unique(np.asarray(picture)[..., 0]))


def dicom_slices(data_root: Path) -> list[npt.NDArray[np.uint16]]:
    paths = sorted((data_root / "dicom-t1-healthy").glob("*.dcm"))
    return [pydicom.dcmread(path).pixel_array.astype(np.uint16) for path in paths]


def test_viewer_never_feigns_certainty(portal: Portal, visit: Visit, reader: Account) -> None:
    ids = make_study(portal.app, reader, further=["no_tumor"], probability=0.999)
    visit.open(f"/studies/{ids.study_id}")
    answer = visit.page.locator("[data-corner-answer]").first
    expect(answer).to_have_text("Glioma · tumour > 99%")
    visit.page.locator("[data-stage]").first.focus()
    visit.page.keyboard.press("End")
    expect(answer).to_have_text("None of the three tumours found · tumour < 1%")


def test_stack_scrolls_by_wheel_keys_strip_and_swipe(
    portal: Portal, visit: Visit, reader: Account
) -> None:
    ids = make_series_study(portal.app, reader, slices=30)
    page = open_study(visit, ids)
    loads: list[Request] = []
    page.on("request", lambda sent: loads.append(sent) if sent.is_navigation_request() else None)

    expect_slice(page, "15 / 30")  # the key slice comes first
    wheel(page, 3)
    expect_slice(page, "18 / 30")
    stage = page.locator("[data-stage]").first
    stage.focus()
    for key, there in (
        ("ArrowUp", "17 / 30"), ("ArrowRight", "18 / 30"), ("PageDown", "19 / 30"),
        ("PageUp", "18 / 30"), ("End", "30 / 30"), ("ArrowDown", "30 / 30"), ("Home", "1 / 30"),
    ):  # fmt: skip
        page.keyboard.press(key)
        expect_slice(page, there)
    strip = page.get_by_role("slider", name="Slice", exact=True)
    box = strip.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 10.5 / 30, box["y"] + box["height"] / 2)
    expect_slice(page, "11 / 30")
    strip.focus()
    page.keyboard.press("PageDown")
    expect_slice(page, "21 / 30")
    expect(strip).to_have_attribute("aria-valuenow", "21")
    expect(strip).to_have_attribute("aria-valuetext", re.compile("Slice 21 of 30, No tumour"))

    # Address, result and picture follow, without loading the page again.
    expect(page).to_have_url(re.compile(r"image=20$"))
    expect(page.locator("#result-head")).to_have_text("Slice 21 of 30")
    expect(page.locator("[data-slice]").first).to_have_attribute(
        "src", re.compile(str(ids.image_ids[20]))
    )
    assert not loads

    page.get_by_role("link", name="Slice 16", exact=True).click()  # a key slice
    expect_slice(page, "16 / 30")
    if visit.size == "phone":
        swipe(page, 60)
        expect(page.locator("[data-corner-slice]").first).not_to_have_text("16 / 30")
    assert not loads


def test_first_slice_is_seen_at_once(portal: Portal, visit: Visit, reader: Account) -> None:
    ids = make_series_study(portal.app, reader, slices=400)
    visit.open(f"/studies/{ids.study_id}")
    picture = visit.page.locator("[data-slice]").first
    expect(picture).to_be_visible()
    asked: dict[str, float] = picture.evaluate(
        """async (image) => {
          await image.decode();
          const entry = performance.getEntriesByName(image.src)[0];
          const page = performance.getEntriesByType("navigation")[0];
          return {start: entry.startTime, end: entry.responseEnd, ready: page.domInteractive};
        }"""
    )
    print(f"\nfirst slice of 400 after {asked['end']:.0f} ms ({visit.size})")
    # It waits for no script and for no list of slices: the page itself asks for it.
    assert asked["start"] <= asked["ready"]
    expect(visit.page.locator("[data-viewer][data-ready]")).to_be_visible()
    expect_slice(visit.page, "200 / 400")
    visit.page.wait_for_load_state("networkidle")
    visit.picture("viewer-400")
    visit.page.get_by_text("All slices").click()
    expect(visit.page.locator(".image-results li")).to_have_count(400)


def test_running_study_fills_by_itself(portal: Portal, visit: Visit, reader: Account) -> None:
    ids = make_series_study(portal.app, reader, slices=60, status=Status.RUNNING, decoded=False)
    page = open_study(visit, ids)
    expect(page.get_by_text("20 of 60 slices analysed")).to_be_visible()
    expect(page.get_by_text("Still being processed…").first).to_be_visible()
    expect(page.locator("[data-slice]").first).to_be_hidden()
    visit.picture("viewer-running")
    finish_series_study(portal.app, reader, ids)
    expect(page.get_by_role("heading", name="The study as a whole")).to_be_visible(timeout=15_000)
    expect(page.locator("[data-slice]").first).to_be_visible()
    expect(page.locator("img.heat").first).to_be_visible()
    expect(page.locator("[data-bars] .bar-high").first).to_be_attached()
    expect(page.get_by_text("Still being processed…").first).to_be_hidden()
    expect(page.locator("[data-poll]")).to_have_count(0)


def test_grey_values_are_windowed_in_the_browser(
    portal: Portal, visit: Visit, reader: Account
) -> None:
    ids = make_series_study(portal.app, reader, slices=12, window=(800.0, 1600.0))
    page = open_study(visit, ids)
    canvas = page.locator("[data-greys]").first
    corner = page.locator("[data-corner-window]").first
    expect(corner).to_have_text("Level 800 Width 1,600")
    expect(canvas).to_be_hidden()
    page.locator("[data-set=preset]").select_option("full")
    expect(canvas).to_be_visible()
    expect(corner).not_to_have_text("Level 800 Width 1,600")
    full = corner.inner_text()
    page.locator("[data-set=preset]").select_option("narrow")
    expect(corner).not_to_have_text(full)
    page.locator("[data-stage]").first.focus()
    page.keyboard.press("1")
    expect(corner).to_have_text("Level 800 Width 1,600")

    page.get_by_role("button", name="Window and level by dragging").click()
    box = page.locator("[data-stage]").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    for step in range(5):  # the drag begins when the values have come
        page.mouse.move(box["x"] + 110 + 10 * step, box["y"] + 100)
        page.wait_for_function("true")
    expect(corner).not_to_have_text("Level 800 Width 1,600")
    page.mouse.up()
    more_controls(page)
    page.get_by_role("slider", name="Level").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("[data-set=preset]")).to_have_value("own")
    page.get_by_role("button", name="Reset the view").click()
    expect(corner).to_have_text("Level 800 Width 1,600")


def test_lengths_are_measured_in_millimetres_with_mouse_and_keys(
    portal: Portal, visit: Visit, reader: Account
) -> None:
    ids = make_series_study(portal.app, reader, slices=12, spacing=(2.0, 1.0))
    page = open_study(visit, ids)
    page.get_by_role("button", name="Measure a distance").click()
    frame = page.locator("[data-frame]").first.bounding_box()
    assert frame is not None
    # 128 columns of 1 mm, 96 rows of 2 mm: the box is 128 by 192.
    assert frame["width"] / frame["height"] == pytest.approx(128 / 192, rel=0.01)
    middle = frame["y"] + frame["height"] / 2
    page.mouse.move(frame["x"] + frame["width"] / 4, middle)
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] * 3 / 4, middle, steps=4)
    page.mouse.up()
    text = page.locator("[data-marks] text").first
    expect(text).to_have_text(re.compile(r"^6[345](\.\d)? mm$"))
    visit.picture("viewer-measure")
    page.keyboard.press("Delete")
    expect(text).to_have_count(0)

    page.locator("[data-stage]").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    for _step in range(10):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(text).to_have_text("20 mm")
    page.keyboard.press("PageDown")  # a length belongs to its slice
    expect(text).to_have_count(0)
    page.keyboard.press("PageUp")
    expect(text).to_have_text("20 mm")


def test_pixels_of_known_shape_and_unknown_size_are_shown_true_and_measured_in_pixels(
    portal: Portal, visit: Visit, reader: Account
) -> None:
    ids = make_series_study(portal.app, reader, slices=3)
    with portal.app.app_context(), unscoped():
        for image in db.session.query(Image).filter_by(study_id=ids.study_id):
            image.row_spacing = image.column_spacing = None
            image.pixel_aspect = 2.0
        db.session.commit()
    page = open_study(visit, ids)
    frame = box_of(page.locator("[data-frame]").first)
    # 128 columns, 96 rows of pixels that are twice as high as wide.
    assert frame["width"] / frame["height"] == pytest.approx(128 / 192, rel=0.01)
    page.get_by_role("button", name="Measure a distance").click()
    page.locator("[data-stage]").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    for _step in range(10):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("[data-marks] text").first).to_have_text(re.compile(r"^10 p"))
    visit.picture("viewer-aspect")


def test_heatmap_and_zoom(portal: Portal, visit: Visit, reader: Account) -> None:
    page = open_study(visit, make_series_study(portal.app, reader, slices=12))
    heat = page.locator("img.heat").first
    expect(heat).to_be_visible()
    zoom = page.locator("[data-zoom]")
    fitted = zoom.inner_text()
    page.locator("[data-stage]").first.focus()
    page.keyboard.press("h")
    expect(heat).to_be_hidden()
    page.keyboard.press("h")
    page.keyboard.down("Control")
    wheel(page, -3)
    page.keyboard.up("Control")
    expect(zoom).not_to_have_text(fitted)
    expect_slice(page, "6 / 12")
    page.keyboard.press("0")
    expect(zoom).to_have_text(fitted)


def test_volume_opens_in_three_planes(portal: Portal, visit: Visit, reader: Account) -> None:
    page = open_study(visit, make_series_study(portal.app, reader, slices=24))
    page.get_by_role("button", name="Volume").click()
    expect(page.locator("[data-volume][data-ready]")).to_be_visible(timeout=60_000)
    assert shades(page.locator("[data-volume-canvas]")) > 20
    visit.picture("viewer-volume")
    canvas = page.locator("[data-volume-canvas]")
    canvas.focus()
    page.keyboard.press("PageUp")
    page.keyboard.press("PageUp")
    expect(page.locator("#result-head")).to_have_text("Slice 14 of 24")
    more_controls(page)
    page.get_by_label("Planes").select_option("coronal")
    page.get_by_role("button", name="Measure a distance").click()
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5, steps=4)
    page.mouse.up()
    visit.picture("viewer-volume-coronal")
    page.get_by_role("button", name="Volume").click()
    expect_slice(page, "14 / 24")


def test_volume_without_room_draws_nothing_and_comes_back(
    portal: Portal, visit: Visit, reader: Account
) -> None:
    page = open_study(visit, make_series_study(portal.app, reader, slices=24))
    page.get_by_role("button", name="Volume").click()
    expect(page.locator("[data-volume][data-ready]")).to_be_visible(timeout=60_000)
    room, canvas = page.locator("[data-volume]"), page.locator("[data-volume-canvas]")
    room.evaluate("(room) => { room.style.display = 'none'; }")
    expect(canvas).to_have_attribute("width", "0")
    room.evaluate("(room) => { room.style.display = ''; }")
    expect(canvas).not_to_have_attribute("width", "0")
    page.wait_for_timeout(500)  # two frames at least, drawn by the processor
    assert shades(canvas) > 20
    assert not visit.troubles


def test_without_webgl_the_stack_stays(portal: Portal, visit: Visit, reader: Account) -> None:
    visit.page.add_init_script(
        "const get = HTMLCanvasElement.prototype.getContext;"
        "HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {"
        "  return kind === 'webgl2' ? null : get.call(this, kind, ...rest); };"
    )
    page = open_study(visit, make_series_study(portal.app, reader, slices=12))
    page.get_by_role("button", name="Volume").click()
    expect(page.get_by_text("This browser cannot show volumes")).to_be_visible()
    expect(page.locator("[data-slice]").first).to_be_visible()


def test_earlier_study_is_shown_beside(portal: Portal, visit: Visit, reader: Account) -> None:
    make_series_study(portal.app, reader, slices=12, code="C-7", acquired_on=date(2024, 3, 1))
    later = make_series_study(
        portal.app, reader, slices=24, slice_spacing=2.5, code="C-7", acquired_on=date(2025, 3, 1)
    )
    page = open_study(visit, later, "?image=11")
    more_controls(page)
    page.locator("[data-set=compare]").select_option(index=1)
    expect(page.locator("[data-pane-title]")).to_contain_text("2024")
    expect(page.locator("[data-corner-slice]")).to_have_text(["12 / 24", "6 / 12"])
    wheel(page, 4)  # 10 mm are two slices of the other study
    expect(page.locator("[data-corner-slice]")).to_have_text(["16 / 24", "8 / 12"])
    page.wait_for_load_state("networkidle")
    visit.picture("viewer-compare")
    page.get_by_label("Scroll together").uncheck()
    wheel(page, -2)
    expect(page.locator("[data-corner-slice]")).to_have_text(["14 / 24", "8 / 12"])
    page.locator("[data-set=compare]").select_option(index=0)
    expect(page.locator("[data-corner-slice]")).to_have_count(1)


def test_assessment_that_was_begun_is_not_lost_by_scrolling(
    portal: Portal, visit: Visit, reader: Account
) -> None:
    page = open_study(visit, make_series_study(portal.app, reader, slices=12))
    page.get_by_label("Comment").fill("Wait for the contrast series.")
    wheel(page, 2)
    notice = page.locator("[data-away-here]")
    expect(notice).to_contain_text("Your assessment of slice 6 is not saved.")
    expect(page.get_by_label("Comment")).to_have_value("Wait for the contrast series.")
    page.get_by_role("button", name="Back to slice 6").first.click()
    expect(notice).to_be_hidden()
    expect_slice(page, "6 / 12")


def test_poor_picture_is_told_beside_its_answer(
    portal: Portal, visit: Visit, reader: Account
) -> None:
    ids = make_series_study(portal.app, reader, slices=12)
    with portal.app.app_context(), unscoped():
        image = db.session.get_one(Image, ids.image_ids[5])
        image.predictions[0].quality = ["blurred", "motion"]
        db.session.commit()
    page = open_study(visit, ids, "?image=5")
    expect(page.get_by_text("Image quality is poor")).to_be_visible()
    visit.picture("viewer-quality")
    wheel(page, 1)
    expect(page.get_by_text("Image quality is poor")).to_be_hidden()


@pytest.mark.data
def test_real_series_looks_right(
    portal: Portal, visit: Visit, reader: Account, data_root: Path
) -> None:
    ids = make_series_study(
        portal.app, reader, pixels=dicom_slices(data_root), spacing=(0.6667, 0.7), code="REAL"
    )
    page = open_study(visit, ids)
    page.wait_for_load_state("networkidle")
    visit.picture("viewer-series")
    page.get_by_role("button", name="Switch to the light theme").click()
    visit.picture("viewer-series-light")
    assert place(page) == "15 / 30"


def edges(page: Page, pane: int = 0) -> dict[str, str]:
    """The letters at the edges of the stage, each where it is said to be."""
    stage = page.locator("[data-stage]").nth(pane)
    outer = box_of(stage)
    middle = outer["x"] + outer["width"] / 2, outer["y"] + outer["height"] / 2
    found = {}
    for letters in stage.locator("[data-edge]").all():
        side, text = letters.get_attribute("data-edge") or "", letters.inner_text()
        found[side] = text
        if not text:
            continue
        box = box_of(letters)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        where = {
            "left": x < outer["x"] + 40 and abs(y - middle[1]) < 3,
            "right": x > outer["x"] + outer["width"] - 40 and abs(y - middle[1]) < 3,
            "top": y < outer["y"] + 40 and abs(x - middle[0]) < 3,
            "bottom": y > outer["y"] + outer["height"] - 40 and abs(x - middle[0]) < 3,
        }
        assert where[side], f"{text} is not at the {side}"
    return found


def box_of(element: Locator) -> FloatRect:
    box = element.bounding_box()
    assert box is not None
    return box


def is_inside(inner: FloatRect, outer: FloatRect) -> bool:
    """But for half a pixel."""
    return (
        inner["x"] >= outer["x"] - 0.5
        and inner["y"] >= outer["y"] - 0.5
        and inner["x"] + inner["width"] <= outer["x"] + outer["width"] + 0.5
        and inner["y"] + inner["height"] <= outer["y"] + outer["height"] + 0.5
    )


def is_seen(page: Page, element: Locator) -> bool:
    """Whether nothing of it lies above or below the window."""
    box = box_of(element)
    return box["y"] >= 0 and box["y"] + box["height"] <= page.evaluate("window.innerHeight")


class TestOrientation:
    @pytest.mark.parametrize(
        ("plane", "expected", "spoken"),
        [
            ("axial", "R L A P", "Left of the image: patient’s right. Right: patient’s left."),
            ("coronal", "R L H F", "Top: head. Bottom: feet."),
            ("sagittal", "A P H F", "Left of the image: anterior."),
        ],
    )
    def test_letters_are_at_the_edges_and_stay_there(
        self, portal: Portal, visit: Visit, reader: Account, plane: str, expected: str, spoken: str
    ) -> None:
        ids = make_series_study(portal.app, reader, slices=12, plane=plane)
        page = open_study(visit, ids)
        letters = dict(zip(("left", "right", "top", "bottom"), expected.split(), strict=True))
        assert edges(page) == letters
        stage = page.locator("[data-stage]").first
        expect(stage).to_have_accessible_description(re.compile(re.escape(spoken)))
        expect(page.get_by_text("Orientation unknown")).to_be_hidden()
        stage.focus()
        for key in ("+", "+", "ArrowLeft", "i"):
            page.keyboard.press(key)
        assert edges(page) == letters

    def test_picture_without_says_so(self, portal: Portal, visit: Visit, reader: Account) -> None:
        visit.open(f"/studies/{make_study(portal.app, reader).study_id}")
        page = visit.page
        expect(page.locator("[data-viewer][data-ready]")).to_be_visible()
        expect(page.locator("[data-unknown]").first).to_have_text("Orientation unknown")
        assert set(edges(page).values()) == {""}
        stage = page.locator("[data-stage]").first
        expect(stage).to_have_accessible_description(re.compile("^Orientation unknown"))
        # Nor is a length known.
        expect(page.locator("[data-scale]").first).to_be_hidden()

    def test_is_there_before_any_script(
        self, portal: Portal, visit: Visit, reader: Account
    ) -> None:
        ids = make_series_study(portal.app, reader, slices=12, plane="coronal")
        visit.page.route("**/viewer.js", lambda route: route.abort())
        visit.open(f"/studies/{ids.study_id}")
        assert edges(visit.page) == {"left": "R", "right": "L", "top": "H", "bottom": "F"}
        visit.troubles.clear()  # the script that did not come

    def test_each_pane_has_its_own(self, portal: Portal, visit: Visit, reader: Account) -> None:
        make_series_study(
            portal.app, reader, code="C", plane="sagittal", acquired_on=date(2024, 3, 1)
        )
        ids = make_series_study(portal.app, reader, code="C", acquired_on=date(2025, 3, 1))
        page = open_study(visit, ids)
        more_controls(page)
        page.locator("[data-set=compare]").select_option(index=1)
        expect(page.locator("[data-stage]")).to_have_count(2)
        expect(page.locator("[data-edge=top]").nth(1)).to_have_text("H")
        assert edges(page)["left"] == "R"
        assert edges(page, 1) == {"left": "A", "right": "P", "top": "H", "bottom": "F"}
        assert [bar.is_visible() for bar in page.locator("[data-scale]").all()] == [True, True]


def test_scale_bar_is_as_long_as_it_says(portal: Portal, visit: Visit, reader: Account) -> None:
    ids = make_series_study(portal.app, reader, slices=12, spacing=(2.0, 1.5))
    page = open_study(visit, ids)
    page.locator("[data-stage]").first.focus()
    bar = page.locator("[data-bar]").first
    seen = []
    for _step in range(4):
        millimetres = float(bar.get_attribute("data-bar") or 0)
        across = 128 * 1.5
        expected = box_of(page.locator("[data-frame]").first)["width"] * millimetres / across
        length = bar.evaluate("(path) => path.getBBox().width")
        assert length == pytest.approx(expected, abs=0.5)
        expect(page.locator("[data-scale] text").first).to_have_text(f"{millimetres:.0f} mm")
        seen.append(millimetres)
        for _notch in range(4):
            page.keyboard.press("+")
    assert len(set(seen)) > 1
    assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize(
    ("rows", "columns", "spacing"),
    [(64, 512, (1.0, 1.0)), (512, 64, (1.0, 1.0)), (128, 128, (4.0, 0.5)), (128, 128, (0.5, 4.0))],
)
def test_fit_shows_the_whole_slice(
    portal: Portal,
    visit: Visit,
    reader: Account,
    rows: int,
    columns: int,
    spacing: tuple[float, float],
) -> None:
    plane = np.full((rows, columns), 500, dtype=np.uint16)
    ids = make_series_study(portal.app, reader, pixels=[plane] * 3, spacing=spacing)
    page = open_study(visit, ids)
    stage, frame = page.locator("[data-stage]").first, page.locator("[data-frame]").first
    zoom = page.locator("[data-zoom]")

    def expect_whole() -> None:
        # The slice follows its stage a frame later.
        wait_until(
            lambda: is_inside(box_of(frame), box_of(stage)), seconds=10, what="the whole slice"
        )
        shown, room = box_of(frame), box_of(stage)
        fills = max(shown["width"] / room["width"], shown["height"] / room["height"])
        assert fills == pytest.approx(1, abs=0.01)
        ratio = columns * spacing[1] / (rows * spacing[0])
        assert shown["width"] / shown["height"] == pytest.approx(ratio, rel=0.02)
        percent = int(zoom.inner_text().replace(",", "").rstrip("%"))
        assert percent == pytest.approx(100 * shown["width"] / columns, abs=0.6)

    expect_whole()
    for _step in range(3):
        page.get_by_role("button", name="Zoom in").click()
    assert not is_inside(box_of(frame), box_of(stage))
    page.get_by_role("button", name="Fit").click()
    expect_whole()
    page.set_viewport_size({"width": SIZES[visit.size]["width"], "height": 620})
    page.wait_for_function("new Promise((done) => setTimeout(() => done(true), 100))")
    expect_whole()


class TestFullScreen:
    def test_key_button_and_escape(self, portal: Portal, visit: Visit, reader: Account) -> None:
        page = open_study(visit, make_series_study(portal.app, reader, slices=12))
        viewer, button = page.locator("[data-viewer]"), full_screen_button(page)
        before = box_of(page.locator("[data-stage]").first)["height"]
        page.locator("[data-stage]").first.focus()
        page.keyboard.press("f")
        expect(button).to_have_attribute("aria-pressed", "true")
        page.wait_for_function("document.fullscreenElement?.matches('[data-viewer]')")
        window = page.evaluate("({x: 0, y: 0, width: innerWidth, height: innerHeight})")
        assert box_of(viewer) == pytest.approx(window, abs=1)
        assert box_of(page.locator("[data-stage]").first)["height"] > before
        for part in ("[data-bars]", "[data-zoom]", "[data-set=heat]", "[data-set=preset]"):
            assert is_inside(box_of(page.locator(part).first), window), part
        page.keyboard.press("PageDown")
        expect_slice(page, "7 / 12")
        visit.picture("viewer-full-screen")
        page.keyboard.press("f")
        expect(button).to_have_attribute("aria-pressed", "false")
        page.wait_for_function("!document.fullscreenElement")
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
        page.keyboard.press("f")  # from the button, too
        expect(button).to_have_attribute("aria-pressed", "false")

    def test_covers_the_window_where_the_browser_cannot(
        self, portal: Portal, visit: Visit, reader: Account
    ) -> None:
        visit.page.add_init_script("delete Element.prototype.requestFullscreen;")
        page = open_study(visit, make_series_study(portal.app, reader, slices=12))
        button = full_screen_button(page)
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
        window = page.evaluate("({x: 0, y: 0, width: innerWidth, height: innerHeight})")
        assert box_of(page.locator("[data-viewer]")) == pytest.approx(window, abs=1)
        visit.picture("viewer-covers")
        # What lies below is out of reach.
        for _step in range(30):
            page.keyboard.press("Tab")
            inside = "document.activeElement.closest('[data-viewer]') !== null"
            assert page.evaluate(f"{inside} || document.activeElement === document.body")
        page.keyboard.press("Escape")
        expect(button).to_have_attribute("aria-pressed", "false")
        expect(page.get_by_role("link", name="Worklist").first).to_be_enabled()
        assert not page.evaluate("document.querySelectorAll('[inert]').length")


def full_screen_button(page: Page) -> Locator:
    return page.get_by_role("button", name="Full screen")


class TestLayout:
    @pytest.mark.parametrize("visit", ["desk"], indirect=True)
    def test_desk_shows_slice_headline_and_assessment_at_once(
        self, portal: Portal, visit: Visit, reader: Account
    ) -> None:
        page = open_study(visit, make_series_study(portal.app, reader, slices=30))
        assessment = page.locator("#feedback")
        for part in (
            page.locator("[data-stage]").first,
            page.locator("[data-bars]").first,
            page.locator(".study-answer .answer"),
            page.locator(".study-answer .doubt"),
            page.locator(".slice-answer .answer"),
            page.locator(".slice-answer .doubt"),
            assessment.get_by_role("heading").first,
            assessment.locator(".segments-row").first,
        ):
            assert is_seen(page, part), part
        assert page.evaluate("scrollY") == 0
        # The result scrolls, the viewer stays.
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        assert page.evaluate("scrollY") > 100
        assert is_seen(page, page.locator("[data-viewer]"))
        assert is_seen(page, page.locator("#report"))

    @pytest.mark.parametrize("height", [620, 768, 1200])
    @pytest.mark.parametrize("visit", ["desk"], indirect=True)
    def test_stage_shrinks_and_grows_with_the_window(
        self, portal: Portal, visit: Visit, reader: Account, height: int
    ) -> None:
        visit.page.set_viewport_size({"width": 1440, "height": height})
        page = open_study(visit, make_series_study(portal.app, reader, slices=30))
        assert is_seen(page, page.locator("[data-viewer]"))
        assert box_of(page.locator("[data-stage]").first)["height"] > 0.35 * height

    @pytest.mark.parametrize("visit", ["phone"], indirect=True)
    def test_phone_has_result_and_assessment_one_tap_away(
        self, portal: Portal, visit: Visit, reader: Account
    ) -> None:
        page = open_study(visit, make_series_study(portal.app, reader, slices=30))
        jump = page.get_by_role("navigation", name="On this page")
        expect(jump).to_contain_text("Glioma tumour 97%")
        slice_heading = page.locator("[data-stage]").first
        nav = box_of(page.get_by_role("navigation", name="Main"))
        assert box_of(slice_heading)["y"] + box_of(slice_heading)["height"] <= nav["y"]
        for name, there in (
            ("Assessment", page.locator("#feedback").get_by_role("heading").first),
            ("Slice", slice_heading),
            ("Result", page.locator(".study-answer .answer")),
            ("Slice", slice_heading),
        ):
            jump.get_by_role("link", name=name).tap()
            page.wait_for_function("new Promise((done) => setTimeout(() => done(true), 100))")
            top = box_of(jump)["y"] + box_of(jump)["height"]
            assert box_of(jump)["y"] >= 0
            box = box_of(there)
            assert box["y"] >= top - 1
            assert box["y"] + box["height"] <= nav["y"]
        page.keyboard.press("Home")
        swipe(page, -120)  # the bar follows the slice
        expect(jump).not_to_contain_text("tumour 97%")
        visit.picture("viewer-jump")

    def test_rare_controls_stay_unfolded(
        self, portal: Portal, visit: Visit, reader: Account
    ) -> None:
        ids = make_series_study(portal.app, reader, slices=12)
        page = open_study(visit, ids)
        opacity = page.get_by_role("slider", name="Opacity")
        expect(opacity).to_be_hidden()
        for part in ("heat", "preset"):
            expect(page.locator(f"[data-set={part}]")).to_be_visible()
        page.get_by_text("More controls").focus()
        page.keyboard.press("Enter")
        expect(opacity).to_be_visible()
        page.get_by_text("Probabilities and model").click()
        wheel(page, 2)  # another result is put in its place
        expect(page.locator("#result-head")).to_have_text("Slice 8 of 12")
        expect(page.locator(".slice-answer .bars")).to_be_visible()
        open_study(visit, ids)
        expect(opacity).to_be_visible()
        more_controls(page)
        open_study(visit, ids)
        expect(opacity).to_be_hidden()
