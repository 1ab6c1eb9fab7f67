"""Upload, one study, its pictures, and the jobs: what the pages answer."""

import io
import re
import uuid
from collections.abc import Callable
from datetime import timedelta

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from ml.imaging.pictures import encode_png
from tests.factories import SAMPLE, Account, make_study
from webapp.accounts.models import Role
from webapp.audit import AuditEvent
from webapp.database import db, now
from webapp.inference import analyses, claims
from webapp.models_admin.operations import register_model
from webapp.storage import BlobStore
from webapp.studies.models import Analysis, Image, Priority, Status, Study
from webapp.tenancy import acting_for, unscoped
from webapp.viewer.pictures import eight_bit

MakeUser = Callable[..., Account]
SignIn = Callable[[Account], FlaskClient]
JSON = {"Accept": "application/json"}


def sample(name: str = "slice.jpg") -> tuple[io.BytesIO, str]:
    return io.BytesIO(SAMPLE.read_bytes()), name


def sixteen_bit() -> npt.NDArray[np.uint16]:
    """A ramp with one outlier, as scanners make them."""
    ramp = np.linspace(100, 3000, 64 * 64).reshape(64, 64).astype(np.uint16)
    ramp[0, 0] = 65535
    return ramp


def upload(browser: FlaskClient, *pictures: tuple[io.BytesIO, str]) -> uuid.UUID:
    answer = browser.post("/studies/new", data={"files": list(pictures)}, headers=JSON)
    assert answer.status_code == 201, answer.text
    return uuid.UUID(answer.get_json()["location"].rsplit("/", 1)[1])


def finish(app: Flask, account: Account, study_id: uuid.UUID, tumour: list[float | None]) -> None:
    """End the analysis of a study; None stands for an image that could not be classified."""
    with app.app_context(), acting_for(account.organisation_id):
        analysis = db.session.scalars(select(Analysis)).one()
        claim = analyses.claim_analysis(analysis.id)
        assert claim is not None
        answers = [
            claims.NewPrediction(
                image_id=image.id,
                label="glioma" if p > 0.5 else "no_tumor",
                probabilities={
                    "glioma": p, "meningioma": 0.0, "no_tumor": 1 - p, "pituitary": 0.0
                },
                prediction_set=["glioma", "no_tumor"],
                in_distribution=True,
                ood_score=0.0,
                quality=[],
                heatmap_key=None,
            )
            for image, p in zip(claim.images, tumour, strict=True)
            if p is not None
        ]  # fmt: skip
        problems = {
            image.id: "blank" for image, p in zip(claim.images, tumour, strict=True) if p is None
        }
        model = register_model(name="test", sha256="1" * 64, card={})
        analyses.finish_analysis(
            claim, answers=answers, problems=problems, model=model, model_ms=1.0
        )


def fail(app: Flask, account: Account) -> None:
    with app.app_context(), acting_for(account.organisation_id):
        claim = analyses.claim_analysis(db.session.scalars(select(Analysis.id)).one())
        assert claim is not None
        analyses.fail_analysis(claim, reason="out_of_memory")


def kill_its_workers(app: Flask) -> None:
    """As if each worker that took the only analysis had died with it."""
    with app.app_context(), unscoped():
        analysis_id = db.session.scalars(select(Analysis.id)).one()
        for _attempt in range(analyses.MAX_ATTEMPTS):
            assert analyses.claim_analysis(analysis_id)
            found = update(Analysis).where(Analysis.id == analysis_id)
            db.session.execute(found.values(lease_until=now() - timedelta(minutes=1)))
            db.session.commit()
        assert analyses.analyses_to_resend() == []


class TestUpload:
    def test_browser_without_script_goes_to_the_new_study(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        fields = {"patient_code": "K-1", "description": "axial", "priority": "urgent"}
        # An empty file input comes along with no name and no content.
        files = [sample(), (io.BytesIO(), "")]
        answer = sign_in(account).post("/studies/new", data={"files": files, **fields})
        assert answer.status_code == 302
        with app.app_context(), acting_for(account.organisation_id):
            study = db.session.scalars(select(Study)).one()
            assert answer.location == f"/studies/{study.id}"
            assert (study.patient.code, study.priority) == ("K-1", Priority.URGENT)
            assert len(study.images) == 1

    def test_script_learns_which_file_was_refused(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        data = {"files": [sample(), (io.BytesIO(b"no image"), "<b>.png")]}
        answer = sign_in(make_user()).post("/studies/new", data=data, headers=JSON)
        assert (answer.status_code, answer.content_type) == (422, "application/problem+json")
        assert set(answer.get_json()["errors"]) == {"<b>.png"}

    def test_page_says_what_is_wrong_and_keeps_what_was_typed(
        self, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        data = {"files": [(io.BytesIO(b"no image"), "<b>.png")], "patient_code": "K-77"}
        answer = sign_in(make_user()).post("/studies/new", data=data)
        assert answer.status_code == 422
        assert "&lt;b&gt;.png: " in answer.text
        assert "<b>.png" not in answer.text
        assert 'value="K-77"' in answer.text

    @pytest.mark.parametrize(
        ("data", "sentence"),
        [
            ({}, "Choose at least one image file."),
            ({"priority": "x"}, "Not a valid choice"),
            ({"patient_code": "a" * 65}, "up to 64 letters"),
            ({"description": "a" * 201}, "at most 200 characters"),
        ],
    )
    def test_wrong_values_are_named(
        self, make_user: MakeUser, sign_in: SignIn, data: dict[str, str], sentence: str
    ) -> None:
        values = {"files": [sample()], **data} if data else {"files": [(io.BytesIO(), "")]}
        browser = sign_in(make_user())
        answer = browser.post("/studies/new", data=values)
        assert (answer.status_code, sentence in answer.text) == (422, True)


class TestStudy:
    def test_starts_with_the_image_most_likely_to_hold_a_tumour(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        browser = sign_in(account)
        study_id = upload(browser, sample(), sample(), sample(), sample())
        waiting = browser.get(f"/studies/{study_id}/result").text
        assert 'hx-trigger="every 500ms' in waiting
        finish(app, account, study_id, [0.1, None, 0.9, 0.2])
        page = browser.get(f"/studies/{study_id}").text
        assert "Image 3 of the study" in page
        assert 'id="feedback"' in page
        assert 'hx-trigger="every' not in page
        assert "Image 2 of the study" in browser.get(f"/studies/{study_id}?image=1").text
        for wrong in ("9", "-1", "x"):
            assert "Image 3" in browser.get(f"/studies/{study_id}?image={wrong}").text

    def test_failed_study_can_be_tried_again_once(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        browser = sign_in(account)
        study_id = upload(browser, sample())
        fail(app, account)
        assert "ran out of memory" in browser.get(f"/studies/{study_id}").text
        for _click in range(2):
            answer = browser.post(f"/studies/{study_id}/retry")
            assert answer.location == f"/studies/{study_id}"
        with app.app_context(), acting_for(account.organisation_id):
            assert len(db.session.scalars(select(Analysis)).all()) == 2

    def test_study_whose_workers_always_died_says_so_and_offers_another_try(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        browser = sign_in(account)
        study_id = upload(browser, sample())
        kill_its_workers(app)
        page = browser.get(f"/studies/{study_id}").text
        assert "interrupted several times" in page
        assert f'action="/studies/{study_id}/retry"' in page
        app.config["WTF_CSRF_ENABLED"] = True
        assert browser.post(f"/studies/{study_id}/retry").status_code == 400
        page = browser.get(f"/studies/{study_id}").text
        assert f'action="/studies/{study_id}/retry"' in page
        token = page.partition('name="csrf_token"')[2].partition('value="')[2].partition('"')[0]
        browser.post(f"/studies/{study_id}/retry", data={"csrf_token": token})
        assert f'action="/studies/{study_id}/retry"' not in browser.get(f"/studies/{study_id}").text
        with app.app_context(), unscoped():
            events = db.session.scalars(select(AuditEvent.action)).all()
            states = db.session.scalars(select(Analysis.status).order_by(Analysis.number)).all()
        assert {"give_up_study", "retry_study"} <= set(events)
        assert states == [Status.FAILED, Status.QUEUED]

    def test_is_not_there_for_another_organisation(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        study = make_study(app, make_user(organisation="A"))
        stranger = sign_in(make_user(organisation="B"))
        for address in (
            f"/studies/{study.study_id}",
            f"/studies/{study.study_id}/result",
            f"/images/{study.image_id}/pixels",
            f"/images/{study.image_id}/heatmap",
        ):
            assert stranger.get(address).status_code == 404
        assert stranger.post(f"/studies/{study.study_id}/retry").status_code == 404
        data = {"verdict": "agree"}
        address = f"/studies/{study.study_id}"
        assert stranger.post(f"{address}/assessments", data=data).status_code == 404
        assert stranger.post(f"{address}/draft", data=data).status_code == 404


class TestPictures:
    def test_slice_is_cached_by_the_browser_alone(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        study = make_study(app, account)
        browser = sign_in(account)
        for kind in ("pixels", "heatmap"):
            answer = browser.get(f"/images/{study.image_id}/{kind}")
            assert (answer.status_code, answer.mimetype) == (200, "image/png")
            assert answer.cache_control.private
            assert answer.cache_control.no_cache is True
            assert answer.cache_control.max_age is None
            assert not answer.cache_control.immutable
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert re.fullmatch(
                r'inline; filename="[a-z]+-1\.png"', answer.headers["Content-Disposition"]
            )
            again = browser.get(
                f"/images/{study.image_id}/{kind}",
                headers={"If-None-Match": answer.headers["ETag"]},
            )
            assert (again.status_code, again.data) == (304, b"")

    def test_sixteen_bits_are_windowed_to_eight(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        browser = sign_in(account)
        study_id = upload(browser, (io.BytesIO(encode_png(sixteen_bit())), "mri.png"))
        with app.app_context(), acting_for(account.organisation_id):
            image_id = db.session.scalars(select(Image.id).where(Image.study_id == study_id)).one()
        content = browser.get(f"/images/{image_id}/pixels").data
        shown = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        assert shown is not None
        assert (str(shown.dtype), shown.shape) == ("uint8", (64, 64))
        assert (shown.min(), shown.max()) == (0, 255)
        assert abs(int(shown[32, 32]) - 129) <= 2  # the outlier does not darken the rest

    def test_eight_bits_stay_as_they_are(self) -> None:
        content = encode_png(np.arange(4096, dtype=np.uint8).reshape(64, 64))
        assert eight_bit(content) is content

    @pytest.mark.parametrize("shape", [(64, 64), (64, 64, 3)])
    def test_even_and_coloured_sixteen_bit_slices_can_be_shown(
        self, shape: tuple[int, ...]
    ) -> None:
        content = eight_bit(encode_png(np.full(shape, 40_000, np.uint16)))
        shown = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        assert shown is not None
        assert (str(shown.dtype), shown.shape) == ("uint8", shape)

    def test_what_is_not_there_is_not_found(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        account = make_user()
        study = make_study(app, account)
        browser = sign_in(account)
        with app.app_context(), acting_for(account.organisation_id):
            image = db.session.get_one(Image, study.image_id)
            blobs: BlobStore = app.extensions["blobs"]
            assert blobs.get(image.blob_key)
            image.blob_key = "0" * 64
            assert image.prediction is not None
            image.prediction.heatmap_key = None
            db.session.commit()
        assert browser.get(f"/images/{study.image_id}/pixels").status_code == 404
        assert browser.get(f"/images/{study.image_id}/heatmap").status_code == 404
        assert browser.get(f"/images/{uuid.uuid4()}/pixels").status_code == 404


class TestJobs:
    def test_administrators_see_the_jobs_of_their_organisation(
        self, app: Flask, make_user: MakeUser, sign_in: SignIn
    ) -> None:
        admin, clinician = make_user(Role.ADMIN), make_user()
        stranger = make_user(organisation="B")
        ours, theirs = make_study(app, clinician), make_study(app, stranger)
        upload(sign_in(clinician), sample())
        page = sign_in(admin).get("/admin/jobs")
        assert page.status_code == 200
        assert str(ours.study_id) in page.text
        assert str(theirs.study_id) not in page.text
        assert re.search(r'tile-queued"><dt>Waiting</dt><dd class="number">1<', page.text)
        assert sign_in(clinician).get("/admin/jobs").status_code == 403


def test_poor_picture_is_said_beside_the_result(
    app: Flask, make_user: MakeUser, sign_in: SignIn
) -> None:
    account = make_user(Role.CLINICIAN)
    ids = make_study(app, account)
    with app.app_context(), acting_for(account.organisation_id):
        db.session.get_one(Image, ids.image_id).predictions[0].quality = ["blurred", "motion"]
        db.session.commit()
    page = sign_in(account).get(f"/studies/{ids.study_id}").text
    assert "The image is blurred." in page
    assert "There is ghosting beside the head" in page
