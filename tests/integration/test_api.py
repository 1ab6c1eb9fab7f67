"""The API, from the upload to the feedback, over HTTP with a bearer token."""

import io
import json
import sqlite3
import uuid
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydicom.uid import generate_uid
from sqlalchemy import create_engine, event, func, select, text
from werkzeug.test import TestResponse

from config import Settings
from ml.imaging.pictures import encode_png
from tests.dicoms import Patient, axial_series
from tests.factories import (
    SAMPLE,
    Account,
    make_api_token,
    make_series_study,
    make_study,
)
from webapp.accounts.models import Role
from webapp.api.answer_schemas import ImageSchema, PredictionSchema
from webapp.audit import AuditEvent
from webapp.database import db
from webapp.inference import analyses
from webapp.pacs.receiving import OTHER_PATIENT
from webapp.storage import FolderStore
from webapp.studies.models import Analysis, Study
from webapp.tenancy import acting_for, unscoped

MakeUser = Callable[..., Account]
PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Caller:
    """A program that uses the API with a token."""

    client: FlaskClient
    headers: dict[str, str]

    def get(self, address: str) -> TestResponse:
        return self.client.get(address, headers=self.headers)

    def post(
        self, address: str, *, headers: dict[str, str] | None = None, **what: Any
    ) -> TestResponse:
        return self.client.post(address, headers=self.headers | (headers or {}), **what)

    def submit(self, key: str | None = None, **fields: Any) -> TestResponse:
        fields.setdefault("files", [(io.BytesIO(SAMPLE.read_bytes()), "slice.jpg")])
        headers = {"Idempotency-Key": key} if key else {}
        return self.post("/api/v1/studies", data=fields, headers=headers)


@pytest.fixture
def call_as(app: Flask) -> Callable[[Account], Caller]:
    """A caller with a new token of the account."""

    def caller(account: Account) -> Caller:
        _id, token = make_api_token(app, account)
        return Caller(app.test_client(), {"Authorization": f"Bearer {token}"})

    return caller


CallAs = Callable[[Account], Caller]


def problem(answer: TestResponse, status: int) -> dict[str, Any]:
    assert (answer.status_code, answer.content_type) == (status, PROBLEM), answer.text
    found: dict[str, Any] = answer.get_json()
    assert found["status"] == status
    assert found["detail"]
    return found


def studies_kept(app: Flask) -> int:
    with app.app_context(), unscoped():
        return db.session.scalar(select(func.count()).select_from(Study)) or 0


class TestDoor:
    @pytest.mark.parametrize(
        "headers", [{}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp5"}]
    )
    def test_without_a_good_token_everything_is_closed(
        self, client: FlaskClient, headers: dict[str, str]
    ) -> None:
        some = uuid.uuid4()
        for address in ("studies", f"studies/{some}", "feedback", f"images/{some}/pixels"):
            answer = client.get(f"/api/v1/{address}", headers=headers)
            problem(answer, 401)
            assert answer.headers["WWW-Authenticate"] == "Bearer"

    def test_session_cookie_opens_nothing(
        self, make_user: MakeUser, sign_in: Callable[[Account], FlaskClient]
    ) -> None:
        problem(sign_in(make_user()).get("/api/v1/studies"), 401)

    def test_what_is_left_out_is_named_in_words(self, make_user: MakeUser, call_as: CallAs) -> None:
        found = problem(call_as(make_user()).post("/api/v1/studies", data={"priority": "x"}), 422)
        assert found["errors"]["files"] == "Choose at least one image file."

    def test_half_a_character_is_no_json(
        self, app: Flask, make_user: MakeUser, call_as: CallAs
    ) -> None:
        account = make_user()
        caller = call_as(account)
        address = f"/api/v1/studies/{make_study(app, account).study_id}"
        half = {"description": "a\ud800"}
        problem(caller.client.patch(address, json=half, headers=caller.headers), 400)

    def test_several_fields_are_described_together(self, client: FlaskClient) -> None:
        schemas = client.get("/api/v1/openapi.json").get_json()["components"]["schemas"]
        assert len(schemas["Answer"]["allOf"]) == 4
        assert len(schemas["Deletion"]["allOf"]) == 1

    def test_description_is_public_and_names_the_bearer_scheme(self, client: FlaskClient) -> None:
        answer = client.get("/api/v1/openapi.json")
        assert answer.status_code == 200
        description = answer.get_json()
        assert description["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
        assert set(description["paths"]) == {
            "/api/v1/studies",
            "/api/v1/studies/{study_id}",
            "/api/v1/studies/{study_id}/analysis",
            "/api/v1/studies/{study_id}/feedback",
            "/api/v1/studies/{study_id}/report",
            "/api/v1/feedback",
            "/api/v1/images/{image_id}/pixels",
            "/api/v1/images/{image_id}/heatmap",
            "/api/v1/images/{image_id}/adjudication",
            "/api/v1/disputes",
            "/api/v1/snapshots",
            "/api/v1/snapshots/{snapshot_id}",
            "/api/v1/withdrawals",
            "/api/v1/plans",
            "/api/v1/plans/{plan_id}/confirmation",
            "/api/v1/plans/{plan_id}/decline",
            "/api/v1/retrainings",
            "/api/v1/retrainings/{retraining_id}",
            "/api/v1/retrainings/{retraining_id}/cancellation",
            "/api/v1/models",
            "/api/v1/models/{candidate_id}",
            "/api/v1/models/{candidate_id}/gates",
            "/api/v1/models/{candidate_id}/proposal",
            "/api/v1/models/{candidate_id}/confirmation",
            "/api/v1/models/{candidate_id}/decline",
            "/api/v1/models/{candidate_id}/shadow",
            "/api/v1/models/{candidate_id}/shadow/stop",
            "/api/v1/models/{candidate_id}/trial",
            "/api/v1/models/{candidate_id}/evidence",
            "/api/v1/recall",
            "/api/v1/recall/{case_id}/acknowledgement",
            "/api/v1/models/rollback",
            "/api/v1/models/off",
            "/api/v1/models/on",
            "/api/v1/drift",
            "/api/v1/reading",
            "/api/v1/reading/outcomes",
        }
        upload = description["paths"]["/api/v1/studies"]["post"]
        assert "multipart/form-data" in upload["requestBody"]["content"]
        assert PROBLEM in description["components"]["responses"]["DEFAULT_ERROR"]["content"]

    def test_unknown_address_and_method_are_problems(
        self, make_user: MakeUser, call_as: CallAs
    ) -> None:
        caller = call_as(make_user())
        problem(caller.get("/api/v1/nothing"), 404)
        problem(caller.post("/api/v1/feedback"), 405)


class TestSubmission:
    def test_is_accepted_and_can_be_followed(
        self, app: Flask, make_user: MakeUser, call_as: CallAs
    ) -> None:
        account = make_user()
        caller = call_as(account)
        answer = caller.submit(patient_code="K-5", description="axial", priority="urgent")
        assert answer.status_code == 202
        accepted = answer.get_json()
        assert accepted["status"] == "queued"
        assert answer.location == accepted["links"]["self"]
        assert accepted["links"]["page"] == f"/studies/{accepted['id']}"
        study = caller.get(accepted["links"]["self"]).get_json()
        assert (study["patient_code"], study["description"]) == ("K-5", "axial")
        assert (study["priority"], study["status"]) == ("urgent", "queued")
        assert (study["reason"], study["result"], study["finished_at"]) == (None, None, None)
        assert study["progress"] == {"done": 0, "total": 1}
        assert "not for diagnosis" in study["notice"]
        (image,) = study["images"]
        assert set(image) == set(ImageSchema().fields)  # they are written without the schema
        assert (image["position"], image["prediction"], image["problem"]) == (0, None, None)
        assert image["links"]["heatmap"] is None
        picture = caller.get(image["links"]["pixels"])
        assert (picture.status_code, picture.mimetype) == (200, "image/png")

    def test_same_key_gives_the_same_study(
        self, app: Flask, make_user: MakeUser, call_as: CallAs
    ) -> None:
        caller = call_as(make_user())
        first, second = caller.submit("k" * 200), caller.submit("k" * 200)
        assert (first.status_code, second.status_code) == (202, 202)
        assert first.get_json()["id"] == second.get_json()["id"]
        problem(caller.submit("k" * 200, description="another"), 409)
        assert problem(caller.submit("k" * 201), 422)["errors"].keys() == {"Idempotency-Key"}
        assert studies_kept(app) == 1

    def test_values_that_cannot_be_taken_are_named(
        self, app: Flask, make_user: MakeUser, call_as: CallAs
    ) -> None:
        caller = call_as(make_user())
        wrong: dict[str, dict[str, Any]] = {
            "files": {"files": []},
            "priority": {"priority": "now"},
            "patient_code": {"patient_code": "§"},
            "description": {"description": "x" * 201},
            "patientcode": {"patientcode": "K-5"},
            "bad.png": {"files": [(io.BytesIO(b"x"), "bad.png")]},
        }
        for name, fields in wrong.items():
            assert problem(caller.submit(**fields), 422)["errors"].keys() == {name}
        text_as_file = caller.post("/api/v1/studies", data={"files": "text"})
        assert problem(text_as_file, 422)["errors"].keys() == {"files.0"}
        problem(caller.submit(files=[(io.BytesIO(), "")]), 422)
        assert studies_kept(app) == 0


class TestQuestionsBeforeKeeping:
    def test_code_that_names_somebody_has_to_be_confirmed(
        self, app: Flask, make_user: MakeUser, call_as: CallAs
    ) -> None:
        caller = call_as(make_user())
        found = problem(caller.submit(patient_code="Jane Doe"), 422)
        assert found["code"] == "patient-code-questioned"
        assert found["errors"].keys() == {"patient_code"}
        assert studies_kept(app) == 0
        sent = caller.submit(patient_code="Jane Doe", patient_code_confirmed="true")
        assert sent.status_code == 202

    def test_dicom_of_several_patients_is_refused_or_split(
        self, app: Flask, make_user: MakeUser, call_as: CallAs
    ) -> None:
        caller = call_as(make_user())
        contents = [*axial_series(2), *axial_series(1, patient=Patient("Other", "X-2"))]

        def files() -> list[tuple[io.BytesIO, str]]:
            return [(io.BytesIO(content), f"A/IM{n}") for n, content in enumerate(contents)]

        found = problem(caller.submit(files=files()), 422)
        assert found["code"] == "several-studies"
        assert [group["files"] for group in found["groups"]] == [2, 1]
        assert found["groups"][0]["examples"] == ["A/IM0", "A/IM1"]
        sent = caller.submit(files=files(), split="true")
        assert sent.status_code == 202
        answer = sent.get_json()
        assert answer["studies"][0]["id"] == answer["id"]
        assert len({study["patient_code"] for study in answer["studies"]}) == 2
        assert all(caller.get(s["links"]["self"]).status_code == 200 for s in answer["studies"])

    def test_known_content_is_named_and_can_be_reused(
        self, app: Flask, make_user: MakeUser, call_as: CallAs
    ) -> None:
        caller = call_as(make_user())
        first = caller.submit().get_json()
        assert (first["already_known"], first["left_out"], first["notes"]) == ([], [], [])
        again = caller.submit().get_json()
        assert again["id"] != first["id"]
        (known,) = again["already_known"]
        assert known == {"study_id": first["id"], "matching": 1, "links": first["links"]}
        reused = caller.submit(known="reuse").get_json()
        assert reused["id"] in {first["id"], again["id"]}
        assert studies_kept(app) == 2
        problem(caller.submit(known="ask"), 422)

    def test_resend_under_another_code_names_both(
        self, make_user: MakeUser, call_as: CallAs
    ) -> None:
        caller = call_as(make_user())
        (content,) = axial_series(1)

        def send(**fields: str) -> TestResponse:
            return caller.submit(files=[(io.BytesIO(content), "IM1")], **fields)

        first = send(patient_code="K-1", description="T1").get_json()
        found = problem(send(patient_code="K-2"), 422)
        assert (found["earlier_code"], found["given_code"]) == ("K-1", "K-2")
        assert found["study_id"] == first["id"]
        sent = send(patient_code="K-1", description="FLAIR", priority="urgent").get_json()
        assert sent["id"] == first["id"]
        assert len(sent["notes"]) == 3
        assert caller.get(first["links"]["self"]).get_json()["priority"] == "urgent"

    def test_second_patient_under_a_study_uid_fails_in_stow(
        self, make_user: MakeUser, call_as: CallAs
    ) -> None:
        caller = call_as(make_user())
        uid = generate_uid()
        one = axial_series(1, study_uid=uid)[0]
        other = axial_series(1, study_uid=uid, patient=Patient("Other", "X-2"))[0]
        boundary = b"--part"
        body = b"".join(
            boundary + b"\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n"
            for content in (one, other)
        )
        answer = caller.post(
            "/dicomweb/studies",
            data=body + boundary + b"--\r\n",
            headers={
                "Content-Type": 'multipart/related; type="application/dicom"; boundary=part',
                "Accept": "application/dicom+json",
            },
        )
        assert answer.status_code == 202
        (failed,) = answer.get_json(force=True)["00081198"]["Value"]
        assert failed["00081197"]["Value"] == [OTHER_PATIENT]
        assert len(answer.get_json(force=True)["00081199"]["Value"]) == 1

    def test_description_names_the_new_options(self, client: FlaskClient) -> None:
        description = client.get("/api/v1/openapi.json").get_json()
        schemas = description["components"]["schemas"]
        fields = schemas["Submission"]["properties"]
        assert {"split", "known", "patient_code_confirmed"} <= set(fields)
        assert fields["known"]["enum"] == ["new", "reuse", "add"]
        assert {"studies", "already_known", "left_out", "notes"} <= set(
            schemas["Submitted"]["properties"]
        )
        found = description["paths"]["/api/v1/feedback"]["get"]["responses"]["200"]["content"]
        assert set(found) == {"application/json", "application/zip"}


class TestStudies:
    def test_finished_study_has_a_result(
        self, app: Flask, make_user: MakeUser, call_as: CallAs
    ) -> None:
        account = make_user()
        ids = make_study(app, account, label="meningioma")
        caller = call_as(account)
        study = caller.get(f"/api/v1/studies/{ids.study_id}").get_json()
        assert study["status"] == "done"
        assert study["progress"] == {"done": 1, "total": 1}
        (image,) = study["images"]
        prediction = image["prediction"]
        assert prediction["label"] == "meningioma"
        assert prediction["probabilities"]["meningioma"] == 0.9
        assert prediction["prediction_set"] == ["meningioma"]
        assert (prediction["in_distribution"], prediction["ood_score"]) == (True, 0.1)
        assert prediction["model"] == {"name": "test", "sha256": "0" * 64}
        result = study["result"]
        assert (result["label"], result["key_images"]) == ("meningioma", [str(ids.image_id)])
        assert set(image["prediction"]) == set(PredictionSchema().fields)
        assert result["probabilities"] == prediction["probabilities"]
        assert caller.get(image["links"]["heatmap"]).mimetype == "image/png"

    def test_failed_study_says_why_in_a_sentence(
        self, app: Flask, make_user: MakeUser, call_as: CallAs
    ) -> None:
        account = make_user()
        caller = call_as(account)
        accepted = caller.submit().get_json()
        with app.app_context(), acting_for(account.organisation_id):
            claim = analyses.claim_analysis(db.session.scalars(select(Analysis.id)).one())
            assert claim is not None
            analyses.fail_analysis(claim, reason="out_of_memory")
        study = caller.get(accepted["links"]["self"]).get_json()
        assert study["status"] == "failed"
        assert study["reason"] == "The server ran out of memory. Please try again later."

    def test_study_that_was_given_up_can_be_analysed_again_once(
        self, app: Flask, make_user: MakeUser, call_as: CallAs
    ) -> None:
        account = make_user()
        caller = call_as(account)
        itself = caller.submit().get_json()["links"]["self"]
        problem(caller.post(f"{itself}/analysis"), 409)  # it still waits
        with app.app_context(), acting_for(account.organisation_id):
            claim = analyses.claim_analysis(db.session.scalars(select(Analysis.id)).one())
            assert claim is not None
            analyses.fail_analysis(claim, reason="gave_up")
        stranger = call_as(make_user(organisation="B"))
        problem(stranger.post(f"{itself}/analysis"), 404)
        answer = caller.post(f"{itself}/analysis")
        assert answer.status_code == 202
        assert (answer.get_json()["status"], answer.get_json()["links"]["self"]) == (
            "queued",
            itself,
        )
        problem(caller.post(f"{itself}/analysis"), 409)
        with app.app_context(), acting_for(account.organisation_id):
            event = db.session.scalars(
                select(AuditEvent).where(AuditEvent.action == "retry_study")
            ).one()
            assert event.actor_id == account.id

    def test_list_pages_through_everything_once(
        self, app: Flask, make_user: MakeUser, call_as: CallAs
    ) -> None:
        account = make_user()
        caller = call_as(account)
        made = [caller.submit(patient_code=f"K-{number}").get_json()["id"] for number in range(5)]
        address, found, pages = "/api/v1/studies?limit=2&status=queued", [], 0
        while address:
            page = caller.get(address).get_json()
            found += [item["id"] for item in page["items"]]
            address, pages = page["links"]["next"], pages + 1
        assert (found, pages) == (made[::-1], 3)
        one = caller.get("/api/v1/studies?patient_code=K-3").get_json()
        assert [item["id"] for item in one["items"]] == [made[3]]
        assert one["next_cursor"] is None
        assert caller.get("/api/v1/studies?label=glioma").get_json()["items"] == []

    @pytest.mark.parametrize(
        "query", ["limit=0", "limit=101", "limit=x", "limit=1_0", "cursor=x", "status=x", "label=x"]
    )
    def test_wrong_query_is_a_problem(
        self, make_user: MakeUser, call_as: CallAs, query: str
    ) -> None:
        found = problem(call_as(make_user()).get(f"/api/v1/studies?{query}"), 422)
        assert found["errors"].keys() == {query.split("=")[0]}

    def test_of_another_organisation_are_not_there(
        self, app: Flask, make_user: MakeUser, call_as: CallAs
    ) -> None:
        ids = make_study(app, make_user(organisation="A"))
        stranger = call_as(make_user(Role.ADMIN, organisation="B"))
        assert stranger.get("/api/v1/studies").get_json()["items"] == []
        assert stranger.get("/api/v1/feedback").get_json()["items"] == []
        for address in (
            f"studies/{ids.study_id}",
            f"images/{ids.image_id}/pixels",
            f"images/{ids.image_id}/heatmap",
        ):
            problem(stranger.get(f"/api/v1/{address}"), 404)
        answer = {"verdict": "agree"}
        problem(stranger.post(f"/api/v1/studies/{ids.study_id}/feedback", json=answer), 404)

    def test_sixteen_bits_are_given_out_as_they_came(
        self, make_user: MakeUser, call_as: CallAs
    ) -> None:
        pixels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
        caller = call_as(make_user())
        png = encode_png(pixels)
        accepted = caller.submit(files=[(io.BytesIO(png), "mri.png")]).get_json()
        (image,) = caller.get(accepted["links"]["self"]).get_json()["images"]
        assert caller.get(image["links"]["pixels"]).data == png


class TestFeedback:
    def test_is_kept_and_listed_for_reviewers(
        self, app: Flask, make_user: MakeUser, call_as: CallAs
    ) -> None:
        clinician, reviewer = make_user(), make_user(Role.REVIEWER)
        ids = make_study(app, clinician, label="glioma")
        caller = call_as(clinician)
        region = [[0, 0], [1, 0], [0.5, 0.5]]
        answer = caller.post(
            f"/api/v1/studies/{ids.study_id}/feedback",
            json={
                "verdict": "disagree",
                "label": "no_tumor",
                "region": region,
                "confidence": "high",
                "comment": "artefact",
            },
        )
        assert answer.status_code == 201
        kept = answer.get_json()
        assert (kept["image_id"], kept["study_id"]) == (str(ids.image_id), str(ids.study_id))
        assert (kept["verdict"], kept["label"], kept["confidence"]) == (
            "disagree", "no_tumor", "high"
        )  # fmt: skip
        assert (kept["region"], kept["comment"]) == (region, "artefact")
        assert (kept["predicted_label"], kept["predicted_probability"]) == ("glioma", 0.9)
        assert str(clinician.id) not in answer.text
        problem(caller.get("/api/v1/feedback"), 403)
        listed = call_as(reviewer).get("/api/v1/feedback").get_json()
        assert listed["items"] == [kept]
        assert listed["next_cursor"] is None

    def test_is_kept_for_the_analysis_that_was_seen(
        self, app: Flask, make_user: MakeUser, call_as: CallAs
    ) -> None:
        account = make_user()
        ids = make_study(app, account)
        caller, address = call_as(account), f"/api/v1/studies/{ids.study_id}/feedback"
        seen = caller.get(f"/api/v1/studies/{ids.study_id}").get_json()["analysis"]["id"]
        kept = caller.post(address, json={"verdict": "agree", "analysis_id": seen}).get_json()
        assert (kept["analysis_id"], kept["finding"]) == (seen, "")
        unknown = {"verdict": "agree", "analysis_id": str(uuid.uuid4())}
        assert problem(caller.post(address, json=unknown), 422)["errors"].keys() == {"analysis_id"}

    def test_is_of_several_slices_or_of_the_study_as_a_whole(
        self, app: Flask, make_user: MakeUser, call_as: CallAs
    ) -> None:
        account = make_user(Role.REVIEWER)
        ids = make_series_study(app, account, slices=6)
        caller, address = call_as(account), f"/api/v1/studies/{ids.study_id}/feedback"
        three = [str(one) for one in ids.image_ids[:3]]
        answer = caller.post(address, json={"verdict": "unsure", "image_ids": three})
        assert answer.status_code == 201
        assert [one["image_id"] for one in answer.get_json()["assessments"]] == three
        whole = {"verdict": "disagree", "label": "other", "finding": "stroke", "scope": "study"}
        kept = caller.post(address, json=whole).get_json()
        assert (kept["image_id"], kept["label"], kept["finding"]) == (None, "other", "stroke")
        assert (kept["links"], kept["path"]) == (None, None)
        listed = caller.get("/api/v1/feedback").get_json()["items"]
        assert len(listed) == 4
        assert kept in listed
        two = {"verdict": "agree", "scope": "study", "image_id": three[0]}
        assert problem(caller.post(address, json=two), 422)["errors"].keys() == {"scope"}

    def test_body_beyond_64_kb_is_not_read(
        self, app: Flask, make_user: MakeUser, call_as: CallAs
    ) -> None:
        account = make_user()
        address = f"/api/v1/studies/{make_study(app, account).study_id}/feedback"
        answer = call_as(account).post(address, data="[" * 100_000, content_type="application/json")
        assert "64 kB" in problem(answer, 413)["detail"]

    def test_list_is_paged(self, app: Flask, make_user: MakeUser, call_as: CallAs) -> None:
        reviewer = make_user(Role.REVIEWER)
        caller = call_as(reviewer)
        for _number in range(3):
            ids = make_study(app, reviewer)
            caller.post(f"/api/v1/studies/{ids.study_id}/feedback", json={"verdict": "agree"})
        first = caller.get("/api/v1/feedback?limit=2").get_json()
        second = caller.get(first["links"]["next"]).get_json()
        assert (len(first["items"]), len(second["items"])) == (2, 1)
        assert second["links"]["next"] is None

    def test_zip_is_the_training_set(
        self, app: Flask, make_user: MakeUser, call_as: CallAs
    ) -> None:
        reviewer = make_user(Role.REVIEWER)
        caller = call_as(reviewer)
        ids = make_study(app, reviewer)
        caller.post(f"/api/v1/studies/{ids.study_id}/feedback", json={"verdict": "agree"})
        answer = caller.get("/api/v1/feedback?format=zip")
        assert answer.mimetype == "application/zip"
        names = zipfile.ZipFile(io.BytesIO(answer.data)).namelist()
        assert f"images/{ids.image_id}.png" in names

    def test_wrong_answers_are_problems_that_name_the_field(
        self, app: Flask, make_user: MakeUser, call_as: CallAs
    ) -> None:
        account = make_user()
        caller = call_as(account)
        address = f"/api/v1/studies/{make_study(app, account).study_id}/feedback"
        wrong: list[tuple[Any, str]] = [
            ({}, "verdict"),
            ({"verdict": "maybe"}, "verdict"),
            ({"verdict": "disagree"}, "label"),
            ({"verdict": "disagree", "label": "cyst"}, "label"),
            ({"verdict": "agree", "label": "no_tumor"}, "label"),
            ({"verdict": "agree", "confidence": 3}, "confidence"),
            ({"verdict": "agree", "comment": "x" * 2001}, "comment"),
            ({"verdict": "agree", "region": [[0, 0], [1, 1]]}, "region"),
            ({"verdict": "agree", "region": [[0, 0], [1, 1], [2, 0]]}, "region"),
            ({"verdict": "agree", "region": [[0, 0], [1, 1], [0]]}, "region.2"),
            ({"verdict": "agree", "image_id": str(uuid.uuid4())}, "image_id"),
            ({"verdict": "agree", "image_id": "x"}, "image_id"),
            ({"verdict": "disagree", "label": "other"}, "finding"),
            ({"verdict": "disagree", "label": "other", "finding": "x" * 65}, "finding"),
            ({"verdict": "agree", "region": [["0", 0], [1, 1], [1, 0]]}, "region.0.0"),
            ({"verdict": "agree", "image_ids": []}, "image_ids"),
            ({"verdict": "agree", "scope": "image"}, "scope"),
            ({"verdict": "agree", "verdikt": "x"}, "verdikt"),
            ([1], "_schema"),
        ]
        for body, field in wrong:
            assert problem(caller.post(address, json=body), 422)["errors"].keys() == {field}

    @pytest.mark.parametrize(
        "body", ["{", "\xff", "[" * 60_000, '{"image_id": ' + "9" * 5_000 + "}"]
    )
    def test_malformed_json_is_a_bad_request(
        self, app: Flask, make_user: MakeUser, call_as: CallAs, body: str
    ) -> None:
        account = make_user()
        address = f"/api/v1/studies/{make_study(app, account).study_id}/feedback"
        caller = call_as(account)
        data = body.encode("latin-1")
        problem(caller.post(address, data=data, content_type="application/json"), 400)
        as_text = caller.post(address, data=json.dumps({"verdict": "agree"}))
        problem(as_text, 415)

    def test_needs_a_result(self, make_user: MakeUser, call_as: CallAs) -> None:
        caller = call_as(make_user())
        accepted = caller.submit().get_json()
        answer = caller.post(f"{accepted['links']['self']}/feedback", json={"verdict": "agree"})
        problem(answer, 409)


def test_full_disk_refuses_an_upload_for_now_and_keeps_nothing(
    app: Flask, make_user: MakeUser, call_as: CallAs
) -> None:
    settings: Settings = app.extensions["settings"]
    app.extensions["blobs"] = FolderStore(settings.storage_dir, 2**60)
    account = make_user()
    answer = call_as(account).submit()
    assert problem(answer, 503)["code"] == "storage-full"
    assert int(answer.headers["Retry-After"]) > 0
    with app.app_context(), unscoped():
        assert db.session.scalar(select(func.count()).select_from(Study)) == 0
    app.extensions["blobs"] = FolderStore(settings.storage_dir)
    assert call_as(account).submit().status_code == 202


def test_while_the_disk_is_full_what_is_there_can_be_read(
    app: Flask, make_user: MakeUser, call_as: CallAs
) -> None:
    settings: Settings = app.extensions["settings"]
    account = make_user()
    ids = make_study(app, account)
    app.extensions["blobs"] = FolderStore(settings.storage_dir, 2**60)
    caller = call_as(account)
    for path in (f"studies/{ids.study_id}", f"images/{ids.image_id}/pixels"):
        assert caller.get(f"/api/v1/{path}").status_code == 200
    problem(caller.submit(), 503)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_restarted_database_costs_no_request(
    app: Flask, make_user: MakeUser, call_as: CallAs
) -> None:
    caller = call_as(make_user())
    assert caller.submit().status_code == 202
    with app.app_context():
        other = create_engine(db.engine.url)
    with other.connect() as connection:
        connection.execute(  # what a restart does to the connections in the pool
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    other.dispose()
    assert caller.submit().status_code == 202


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_locked_database_is_said_to_be_busy(
    app: Flask, make_user: MakeUser, call_as: CallAs
) -> None:
    caller = call_as(make_user())
    with app.app_context():
        path = db.engine.url.database
        db.engine.dispose()

    def give_up_at_once(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA busy_timeout=0")

    with app.app_context():
        event.listen(db.engine, "connect", give_up_at_once)
    with closing(sqlite3.connect(str(path), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = caller.submit()
        assert problem(answer, 503)["code"] == "busy"
        other.execute("ROLLBACK")
    assert caller.submit().status_code == 202
