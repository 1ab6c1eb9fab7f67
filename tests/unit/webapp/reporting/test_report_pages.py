"""Reports of real studies through pages and API: who gets them, when, and what is noted."""

import io
import json
from collections.abc import Callable

import highdicom as hd
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from tests.factories import (
    SAMPLE,
    Account,
    StudyIds,
    assess,
    make_account,
    make_api_token,
    make_study,
)
from webapp.accounts.queries import find_user_by_address
from webapp.audit import AuditEvent
from webapp.database import db
from webapp.intake.arrival import UploadedFile
from webapp.intake.submission import submit_files
from webapp.reporting.content import gather
from webapp.review.models import Verdict
from webapp.studies.models import Study
from webapp.tenancy import acting_for, unscoped

NOT_RULED_OUT = hd.sr.CodedConcept("not-ruled-out", "99SULCUS", "Not ruled out")
FORMATS = {
    "report.pdf": "application/pdf",
    "report.dcm": "application/dicom",
    "report.fhir.json": "application/fhir+json",
}


@pytest.fixture
def account(make_user: Callable[..., Account]) -> Account:
    return make_user(name="Dr Ada Byron")


@pytest.fixture
def study(app: Flask, account: Account) -> StudyIds:
    return make_study(app, account)


@pytest.fixture
def browser(sign_in: Callable[[Account], FlaskClient], account: Account) -> FlaskClient:
    return sign_in(account)


def waiting_study(app: Flask, account: Account) -> str:
    with app.app_context(), acting_for(account.organisation_id):
        user = find_user_by_address(account.email)
        files = [UploadedFile(SAMPLE.name, SAMPLE.read_bytes())]
        return str(submit_files(actor=user, files=files).study.id)


@pytest.mark.parametrize(("name", "media_type"), FORMATS.items())
def test_report_is_a_download_that_no_cache_keeps(
    browser: FlaskClient, study: StudyIds, name: str, media_type: str
) -> None:
    answer = browser.get(f"/studies/{study.study_id}/{name}")
    assert answer.status_code == 200
    assert answer.content_type == media_type
    assert answer.headers["Content-Disposition"].startswith("attachment; filename=")
    assert "no-store" in answer.headers["Cache-Control"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_file_name_says_nothing_about_the_patient(browser: FlaskClient, study: StudyIds) -> None:
    answer = browser.get(f"/studies/{study.study_id}/report.pdf")
    name = answer.headers["Content-Disposition"]
    assert name == f'attachment; filename="sulcus-report-{study.study_id.hex[:8]}.pdf"'


@pytest.mark.parametrize("name", FORMATS)
def test_study_without_result_has_no_report(
    app: Flask, account: Account, browser: FlaskClient, name: str
) -> None:
    answer = browser.get(f"/studies/{waiting_study(app, account)}/{name}")
    assert answer.status_code == 409


@pytest.mark.parametrize(
    ("wanted", "media_type"),
    [("pdf", "application/pdf"), ("sr", "application/dicom"), ("fhir", "application/fhir+json")],
)
def test_api_gives_the_same_reports(
    app: Flask, account: Account, study: StudyIds, wanted: str, media_type: str
) -> None:
    _id, token = make_api_token(app, account)
    answer = app.test_client().get(
        f"/api/v1/studies/{study.study_id}/report?format={wanted}",
        headers={"Authorization": f"Bearer {token}"},
    )
    assert (answer.status_code, answer.content_type) == (200, media_type)


def test_api_refuses_with_problem_documents(app: Flask, account: Account, study: StudyIds) -> None:
    _id, token = make_api_token(app, account)
    headers = {"Authorization": f"Bearer {token}"}
    api = app.test_client()
    early = api.get(f"/api/v1/studies/{waiting_study(app, account)}/report", headers=headers)
    assert (early.status_code, early.content_type) == (409, "application/problem+json")
    odd = api.get(f"/api/v1/studies/{study.study_id}/report?format=docx", headers=headers)
    assert (odd.status_code, odd.content_type) == (422, "application/problem+json")


def test_api_describes_all_three_forms(client: FlaskClient) -> None:
    description = client.get("/api/v1/openapi.json").get_json()
    content = description["paths"]["/api/v1/studies/{study_id}/report"]["get"]["responses"]["200"]
    assert set(content["content"]) == set(FORMATS.values())


def test_each_report_taken_is_in_the_audit_trail(
    app: Flask, account: Account, browser: FlaskClient, study: StudyIds
) -> None:
    for name in FORMATS:
        browser.get(f"/studies/{study.study_id}/{name}")
    with app.app_context(), unscoped():
        found = db.session.scalars(
            select(AuditEvent).where(AuditEvent.action == "export_report")
        ).all()
        assert [event.details for event in found] == [
            {"format": "pdf"},
            {"format": "sr"},
            {"format": "fhir"},
        ]
        assert {event.subject_id for event in found} == {study.study_id}
        assert {event.actor_id for event in found} == {account.id}


def test_uploaded_picture_becomes_a_report_about_its_capture(
    browser: FlaskClient, study: StudyIds
) -> None:
    content = browser.get(f"/studies/{study.study_id}/report.dcm").data
    report = hd.sr.srread(io.BytesIO(content))
    assert report.StudyInstanceUID == f"2.25.{study.study_id.int}"
    (group, _slice) = report.content.get_image_measurement_groups()
    assert group.finding_type.value == "393564001"


def test_study_whose_images_contradict_one_another_is_certain_nowhere(
    app: Flask, account: Account, browser: FlaskClient
) -> None:
    study = make_study(app, account, label="meningioma", further=["no_tumor", "pituitary"])
    page = browser.get(f"/studies/{study.study_id}").text
    whole = page[page.index("study-answer") : page.index("slice-answer")]
    assert "Different images suggest different tumours: Meningioma and pituitary tumour." in whole
    assert whole.count('>Image 3</a> <span class="key-label">Pituitary tumour') == 1
    assert "bars" not in whole
    assert "fairly certain" not in whole
    assert 'class="mark mark-warn"' in browser.get("/").text

    _id, token = make_api_token(app, account)
    found = app.test_client().get(
        f"/api/v1/studies/{study.study_id}", headers={"Authorization": f"Bearer {token}"}
    )
    images = [image["id"] for image in found.json["images"]]
    assert found.json["result"]["key_images"] == images[:1]
    assert found.json["result"]["contradicting_images"] == images[2:]

    content = browser.get(f"/studies/{study.study_id}/report.dcm").data
    groups = hd.sr.srread(io.BytesIO(content)).content.get_image_measurement_groups()
    possible = groups[0].get_qualitative_evaluations(name=NOT_RULED_OUT)
    assert [each.value.value for each in possible] == ["302820008", "127024001"]
    assert [group.finding_type.value for group in groups[1:]] == ["302820008", "127024001"]
    bundle = json.loads(browser.get(f"/studies/{study.study_id}/report.fhir.json").data)
    conclusion = bundle["entry"][0]["resource"]["conclusion"]
    assert "Not ruled out: Intracranial meningioma, Neoplasm of pituitary gland." in conclusion
    assert "Slice 3 suggests another tumour: Neoplasm of pituitary gland" in conclusion


def test_readers_stand_in_the_pdf_alone(
    app: Flask, account: Account, browser: FlaskClient, study: StudyIds
) -> None:
    remark = "Seen at the window <b>seat</b>"
    assess(app, account, study, verdict=Verdict.UNSURE, comment=remark)
    for name in ("report.dcm", "report.fhir.json"):
        content = browser.get(f"/studies/{study.study_id}/{name}").data
        assert b"window" not in content
        assert b"Ada" not in content
    assert browser.get(f"/studies/{study.study_id}/report.pdf").data.startswith(b"%PDF")


def test_fhir_names_study_and_pseudonym(browser: FlaskClient, study: StudyIds) -> None:
    bundle = json.loads(browser.get(f"/studies/{study.study_id}/report.fhir.json").data)
    kinds = [entry["resource"]["resourceType"] for entry in bundle["entry"]]
    assert kinds[:3] == ["DiagnosticReport", "Patient", "ImagingStudy"]


def test_lost_picture_is_said_and_not_a_crash(
    app: Flask, browser: FlaskClient, study: StudyIds
) -> None:
    for path in app.extensions["settings"].storage_dir.rglob("*"):
        if path.is_file():
            path.unlink()
    assert browser.get(f"/studies/{study.study_id}/report.pdf").status_code == 404


def test_a_report_holds_what_its_reader_may_see_and_counts_the_rest(
    app: Flask, account: Account, browser: FlaskClient, study: StudyIds
) -> None:
    other = make_account(app, name="Dr Other")

    def readers() -> tuple[list[str], int]:
        assert browser.get(f"/studies/{study.study_id}/report.pdf").status_code == 200
        with app.app_context(), acting_for(account.organisation_id):
            reader = find_user_by_address(account.email)
            content = gather(db.session.get_one(Study, study.study_id), reader=reader)
            return [one.reader for one in content.readings], content.hidden_readings

    assess(app, other, study)
    assess(app, other, study, images=None)
    assert readers() == ([], 2)
    assess(app, account, study, verdict=Verdict.DISAGREE, label="other", finding="stroke")
    assert readers() == (["Dr Other", "Dr Ada Byron"], 1)
    assess(app, account, study, images=None)
    assert readers()[1] == 0
