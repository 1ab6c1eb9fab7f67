"""The journey of a clinician, on a desk and on a phone, with pictures of every page."""

from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import expect

from tests.browser.visits import Visit
from tests.portal import SAMPLES, Portal, command_line_answers
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.integration]
WORDS = {
    "glioma": "Glioma",
    "meningioma": "Meningioma",
    "no_tumor": "No tumour",
    "pituitary": "Pituitary tumour",
}


@pytest.fixture(autouse=True)
def worker(portal: Portal) -> None:
    """Somebody who analyses what is uploaded."""
    portal.start_worker()


def test_from_the_first_account_to_the_history(visit: Visit) -> None:
    page = visit.page
    visit.first_run()
    visit.picture("worklist-empty")

    visit.upload(SAMPLES / "pituitary-1.jpg", code="P-1001")
    # The page shows the answer by itself; nobody reloads it.
    answer = page.locator(".answer-class")
    expect(answer).to_be_visible(timeout=90_000)
    expect(page.get_by_text("Research software").first).to_be_visible()
    expect(page.locator("img.heat")).to_be_visible()
    page.wait_for_load_state("networkidle")
    visit.picture("study")

    said = answer.inner_text()
    page.get_by_role("radio", name="Disagree").check()
    other = "Glioma" if said != "Glioma" else "Meningioma"
    page.get_by_label("Correct diagnosis").select_option(label=other)
    page.get_by_label("Comment").fill("Seen on the sagittal slices as well.")
    page.get_by_role("button", name="Save my assessment").click()
    expect(page.get_by_text("Saved. Thank you.")).to_be_visible()
    visit.picture("feedback")

    page.get_by_role("radio", name="Agree", exact=True).check()
    page.get_by_role("button", name="Change my assessment").click()
    expect(page.get_by_text("1 earlier assessment of yours")).to_be_visible()

    visit.open("/")
    expect(page.get_by_text("P-1001")).to_be_visible()
    expect(page.get_by_text(said).first).to_be_visible()
    visit.picture("worklist")

    visit.open("/history?feedback=agree")
    expect(page.get_by_text("P-1001")).to_be_visible()
    visit.picture("history")
    visit.open("/history?feedback=disagree")
    expect(page.get_by_text("P-1001")).to_have_count(0)

    for path, name in (("/account", "account"), ("/admin/users", "users"), ("/admin/jobs", "jobs")):
        visit.open(path)
        visit.picture(name)


@pytest.mark.data
def test_page_and_api_answer_as_the_command_line_does(
    visit: Visit, portal: Portal, data_root: Path
) -> None:
    folders = ("glioma", "meningioma", "pituitary")
    paths = [
        path
        for name in folders
        for path in sorted((data_root / "originals-512" / name).iterdir())[:4]
    ]
    expected = command_line_answers(paths)

    visit.first_run()
    visit.upload(*paths, code="P-2002")
    expect(visit.page.locator("#result").get_by_text("Done", exact=True)).to_be_visible(
        timeout=90_000
    )
    visit.picture("study-several")
    shown = visit.page.locator(".image-results li")
    expect(shown).to_have_count(len(expected))
    # The list is loaded once more when the study is done.
    for n, answer in enumerate(expected):
        expect(shown.nth(n)).to_contain_text(WORDS[answer["label"]])

    study = upload_by_api(visit.address, portal.token("ada@example.org"), paths)
    for image, answer in zip(study["images"], expected, strict=True):
        prediction = image["prediction"]
        assert prediction["label"] == answer["label"]
        assert prediction["prediction_set"] == answer["prediction_set"]
        assert prediction["probabilities"] == pytest.approx(answer["probabilities"], abs=2e-3)
        assert prediction["ood_score"] == pytest.approx(answer["ood_score"], abs=2e-2)


def upload_by_api(address: str, token: str, paths: list[Path]) -> dict[str, Any]:
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {token}"
    files = [("files", (path.name, path.read_bytes())) for path in paths]
    answer = session.post(f"{address}/api/v1/studies", files=files, timeout=30)
    assert answer.status_code == 202, answer.text
    where = address + answer.json()["links"]["self"]

    def result() -> dict[str, Any] | None:
        found = session.get(where, timeout=30).json()
        return found if found["status"] == "done" else None

    return wait_until(result, seconds=90, what="the API's answer") or {}


def test_refused_file_is_explained_and_the_others_stay_chosen(visit: Visit, tmp_path: Path) -> None:
    visit.first_run()
    visit.open("/studies/new")
    fake = tmp_path / "scan.png"
    fake.write_text("this is a text")
    page = visit.page
    page.locator("#files").set_input_files([SAMPLES / "glioma-1.jpg", fake])
    page.get_by_role("button", name="Upload and analyse").click()
    problem = page.get_by_role("alert").filter(has_text="scan.png")
    expect(problem).to_contain_text("not an image")
    expect(problem).to_contain_text("PNG / JPEG")
    expect(page.get_by_text("glioma-1.jpg")).to_be_visible()
    visit.picture("upload-refused")


def test_viewer_and_menu_work_without_a_mouse(visit: Visit) -> None:
    visit.first_run()
    visit.upload(SAMPLES / "glioma-2.jpg", code="P-3003")
    page = visit.page
    expect(page.locator(".answer-class")).to_be_visible(timeout=90_000)
    page.locator("[data-stage]").focus()
    fitted = page.locator("[data-zoom]").inner_text()
    page.keyboard.press("+")
    page.keyboard.press("+")
    expect(page.locator("[data-zoom]")).not_to_have_text(fitted)
    page.keyboard.press("h")
    expect(page.locator("img.heat")).to_be_hidden()
    page.keyboard.press("h")
    expect(page.locator("img.heat")).to_be_visible()
    page.keyboard.press("r")
    expect(page.locator("[data-zoom]")).to_have_text(fitted)
    page.locator("#verdict-agree").focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Save my assessment").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Saved. Thank you.")).to_be_visible()
