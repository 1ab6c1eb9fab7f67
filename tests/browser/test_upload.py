"""The upload page: folders with their paths, what is left out, and questions before it is kept."""

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import func, select

from tests.browser.visits import Visit
from tests.dicoms import Patient, axial_series
from tests.factories import Account
from tests.portal import SAMPLES, Portal
from webapp.database import db
from webapp.studies.models import Image, Study
from webapp.studies.models import Patient as PatientRow
from webapp.tenancy import unscoped

pytestmark = [pytest.mark.browser, pytest.mark.integration]
STUDY = re.compile(r"/studies/[0-9a-f-]{36}")


def disc(folder: Path) -> Path:
    """Two series whose files have the same names, sizes and times, and what discs add."""
    files = axial_series(8)
    while len({len(content) for content in files}) > 1:  # random identifiers differ in length
        files = axial_series(8)
    for number, content in enumerate(files):
        path = folder / "disc" / f"SER{number // 4 + 1}" / f"IM{number % 4 + 1:04d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for name in ("SER1/.DS_Store", "Thumbs.db", "DICOMDIR", "viewer.exe", "readme.txt"):
        (folder / "disc" / name).write_bytes(b"nothing to see")
    (folder / "disc" / "SER2" / "IM0009").write_bytes((folder / "disc/SER1/IM0001").read_bytes())
    for path in folder.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    assert len({path.stat().st_size for path in folder.rglob("IM*")}) == 1
    return folder / "disc"


def choose(page: Page, *paths: Path) -> None:
    page.locator("#files").set_input_files(paths)


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name).click()


def count(portal: Portal, model: type) -> int:
    with portal.app.app_context(), unscoped():
        return db.session.scalar(select(func.count()).select_from(model)) or 0


def test_folder_keeps_its_paths_and_every_omission_is_explained(
    visit: Visit, portal: Portal, reader: Account, tmp_path: Path
) -> None:
    page = visit.page
    visit.open("/studies/new")
    page.locator("[data-folder]").set_input_files(disc(tmp_path))
    chosen = page.locator("[data-count]")
    expect(chosen).to_contain_text("14 files chosen")
    expect(chosen).to_contain_text("8 to be sent")
    listed = page.locator("[data-chosen]")
    for series in ("SER1", "SER2"):
        expect(listed.get_by_text(f"disc/{series}/IM0001")).to_be_visible()
    omitted = page.locator("[data-omitted]")
    expect(omitted).to_contain_text("6 files left out")
    for name in ("SER1/.DS_Store", "Thumbs.db", "DICOMDIR", "viewer.exe", "readme.txt"):
        expect(omitted).to_contain_text(f"disc/{name}")
    expect(omitted).to_contain_text("Same content as disc/")
    visit.picture("upload-folder")
    press(page, "Upload and analyse")
    done = page.locator("[data-done]")
    expect(done).to_contain_text("14 files chosen · 8 sent · 8 stored", timeout=30_000)
    expect(done).to_contain_text("DICOMDIR")
    visit.picture("upload-folder-done")
    page.get_by_role("button", name="Open the study").click()
    page.wait_for_url(STUDY)
    assert count(portal, Image) == 8


def test_patient_code_that_looks_like_a_name_is_asked_about(
    visit: Visit, portal: Portal, reader: Account
) -> None:
    page = visit.page
    visit.open("/studies/new")
    choose(page, SAMPLES / "glioma-1.jpg")
    code = page.get_by_label("Patient code")
    code.fill("Jane Doe")
    press(page, "Upload and analyse")
    asked = page.locator('[data-ask="code"]')
    expect(asked).to_contain_text("looks like a name")
    expect(page.get_by_role("button", name="Upload and analyse")).to_be_hidden()
    visit.picture("upload-code")
    press(page, "Change the code")
    expect(code).to_be_focused()
    assert count(portal, Study) == 0
    code.fill("11.06.1947")
    press(page, "Upload and analyse")
    expect(asked).to_contain_text("date of birth")
    expect(page.get_by_text("glioma-1.jpg")).to_be_visible()  # the files are still chosen
    press(page, "It identifies nobody: upload")
    page.wait_for_url(STUDY)
    with portal.app.app_context(), unscoped():
        assert db.session.scalars(select(PatientRow.code)).all() == ["11.06.1947"]


def test_pictures_of_several_patients_are_offered_as_studies(
    visit: Visit, portal: Portal, reader: Account, tmp_path: Path
) -> None:
    page = visit.page
    paths = []
    for number, sample in enumerate(("glioma-1", "glioma-2", "meningioma-1", "pituitary-1")):
        path = tmp_path / f"pat0{number // 2 + 1}_slice0{number % 2 + 1}.jpg"
        path.write_bytes((SAMPLES / f"{sample}.jpg").read_bytes())
        paths.append(path)
    visit.open("/studies/new")
    choose(page, *paths)
    press(page, "Upload and analyse")
    asked = page.locator('[data-ask="several"]')
    expect(asked).to_contain_text("These files appear to be from 2 patients")
    expect(asked).to_contain_text("pat01_slice01.jpg, pat01_slice02.jpg")
    visit.picture("upload-several")
    press(page, "Create 2 studies")
    done = page.locator("[data-done]")
    expect(done.locator("[data-done-studies] a")).to_have_count(2, timeout=30_000)
    expect(done).to_contain_text("pat02")
    visit.picture("upload-several-done")
    assert count(portal, Study) == 2


def test_dicom_of_two_patients_cannot_be_kept_together(
    visit: Visit, portal: Portal, reader: Account, tmp_path: Path
) -> None:
    page = visit.page
    files = [*axial_series(2), *axial_series(2, patient=Patient("Other^Anna", "X-2"))]
    for number, content in enumerate(files):
        (tmp_path / f"IM{number}").write_bytes(content)
    visit.open("/studies/new")
    choose(page, *sorted(tmp_path.glob("IM*")))
    press(page, "Upload and analyse")
    asked = page.locator('[data-ask="several"]')
    expect(asked).to_contain_text("belong to 2 patients")
    expect(asked.get_by_role("button", name="Keep as one study")).to_be_hidden()
    visit.picture("upload-several-dicom")
    press(page, "Create 2 studies")
    expect(page.locator("[data-done-studies] a")).to_have_count(2, timeout=30_000)
    assert count(portal, Study) == 2


def test_known_images_are_a_choice(visit: Visit, portal: Portal, reader: Account) -> None:
    page = visit.page
    visit.upload(SAMPLES / "glioma-1.jpg", code="K-1")
    earlier = page.url
    visit.open("/studies/new")
    choose(page, SAMPLES / "glioma-1.jpg", SAMPLES / "glioma-2.jpg")
    press(page, "Upload and analyse")
    asked = page.locator('[data-ask="known"]')
    expect(asked).to_contain_text("1 of 2 images are already stored")
    expect(asked.get_by_role("link", name="Study of K-1")).to_have_attribute(
        "href", re.compile(re.escape(earlier.rsplit("/", 1)[1]))
    )
    visit.picture("upload-known")
    press(page, "Add the new image to the earlier study")
    page.wait_for_url(earlier)
    assert (count(portal, Study), count(portal, Image)) == (1, 2)
    visit.open("/studies/new")
    choose(page, SAMPLES / "glioma-1.jpg")
    press(page, "Upload and analyse")
    expect(asked).to_contain_text("This image is already stored")
    press(page, "Analyse again as a new study")
    page.wait_for_url(STUDY)
    assert count(portal, Study) == 2


def test_study_sent_again_under_another_code_offers_the_earlier_one(
    visit: Visit, portal: Portal, reader: Account, tmp_path: Path
) -> None:
    page = visit.page
    path = tmp_path / "IM1"
    path.write_bytes(axial_series(1)[0])
    visit.upload(path, code="K-1")
    visit.upload_fields(path, code="K-2")
    press(page, "Upload and analyse")
    asked = page.locator('[data-ask="conflict"]')
    expect(asked).to_contain_text("under the patient code K-1, not K-2")
    visit.picture("upload-conflict")
    press(page, "Use the code K-1")
    page.wait_for_url(STUDY)
    expect(page.get_by_text("All of this is already stored")).to_be_visible()
    assert count(portal, Study) == 1
