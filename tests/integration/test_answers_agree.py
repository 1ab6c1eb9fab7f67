"""Whatever the order of things, all that the portal says about a study is the same and is true.

Bursts of slices, resends, workers that die, expired leases, failures and re-analyses come in any
order. Page, worklist, export, API and reports must then all say what the newest analysis said, and
that analysis must be of all images that the page counts; while it has not ended, none may name
an answer.
"""

import csv
import io
import re
import uuid
from datetime import timedelta

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, update

from ml.imaging.pictures import encode_png
from ml.labels import LABELS
from tests.dicoms import axial_series
from tests.factories import Account, make_account, make_api_token
from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.database import db, now
from webapp.errors import Conflict
from webapp.inference import analyses, claims
from webapp.inference.operations import retry_study
from webapp.inference.results import headline, short_headline
from webapp.intake.arrival import UploadedFile
from webapp.intake.submission import submit_files
from webapp.leases import LeaseLost
from webapp.models_admin.operations import register_model
from webapp.reporting.codes import FINDINGS
from webapp.reporting.content import gather
from webapp.storage import BlobStore
from webapp.studies.models import Analysis, Status
from webapp.studies.queries import find_study
from webapp.tenancy import acting_for, unscoped

SLICES = axial_series(9, size=64)
CLASSES = [label.value for label in LABELS]


def made_up(claim: claims.Claim, label: str) -> list[claims.NewPrediction]:
    """What a model says that finds ``label`` in every slice."""
    others = 0.1 / (len(CLASSES) - 1)
    return [
        claims.NewPrediction(
            image_id=image.id,
            label=label,
            probabilities={each: 0.9 if each == label else others for each in CLASSES},
            prediction_set=[label],
            in_distribution=True,
            ood_score=0.1,
            heatmap_key=None,
            quality=[],
        )
        for image in claim.images
    ]


def finish(app: Flask, claim: claims.Claim, label: str) -> None:
    """End an analysis as the worker does, slices decoded and all."""
    blobs: BlobStore = app.extensions["blobs"]
    key = blobs.put(encode_png(np.zeros((64, 64), np.uint8)))
    analyses.finish_analysis(
        claim,
        answers=made_up(claim, label),
        problems={},
        model=register_model(name="test", sha256="0" * 64, card={}),
        model_ms=1.0,
        decoded=[
            claims.Decoded(image.id, key, 64, 64, 1.0, 0.0, None, None) for image in claim.images
        ],
    )


class Reading:
    """What each door of the portal says about a study."""

    def __init__(self, app: Flask, account: Account, token: str) -> None:
        self.app, self.account, self.token = app, account, token
        self.browser: FlaskClient = app.test_client()
        self.browser.post("/sign-in", data={"email": account.email, "password": account.password})

    def page(self, study_id: uuid.UUID) -> str | None:
        text = self.browser.get(f"/studies/{study_id}").text
        result = text[text.index('id="result"') : text.index('id="after-result"')]
        result = result.split("earlier-analyses")[0]
        return _first(r'class="answer-class">([^<]*)<', result)

    def images_counted(self, study_id: uuid.UUID) -> int:
        text = self.browser.get(f"/studies/{study_id}").text
        return int(_first(r"<span>(\d+) (?:image|slice)s?</span>", text) or 0)

    def worklist(self) -> str | None:
        row = self.browser.get("/worklist/rows").text
        return _first(r'class="short-result"><strong>([^<]*)<', row)

    def export(self) -> tuple[str, int]:
        (line,) = csv.DictReader(io.StringIO(self.browser.get("/history.csv").text))
        return line["label"], int(line["images"])

    def api(self, study_id: uuid.UUID) -> dict[str, object]:
        header = {"Authorization": f"Bearer {self.token}"}
        answer = self.app.test_client().get(f"/api/v1/studies/{study_id}", headers=header)
        assert answer.status_code == 200
        found: dict[str, object] = answer.get_json()
        return found

    def fhir(self, study_id: uuid.UUID) -> str | None:
        answer = self.browser.get(f"/studies/{study_id}/report.fhir.json")
        if answer.status_code == 409:
            return None
        reports = [one["resource"] for one in answer.get_json()["entry"]]
        (report,) = [one for one in reports if one["resourceType"] == "DiagnosticReport"]
        return str(report["conclusion"])

    def report(self, study_id: uuid.UUID) -> str | None:
        """What PDF and DICOM are made from."""
        with self.app.test_request_context(), acting_for(self.account.organisation_id):
            try:
                return gather(find_study(study_id)).result.label
            except Conflict:
                return None
            finally:
                db.session.rollback()


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found.group(1) if found else None


class Portal(RuleBasedStateMachine):
    """One study of one organisation, and everything that can happen to it."""

    app: Flask

    @initialize(first=st.integers(1, 4))
    def a_study_arrives(self, first: int) -> None:
        name = f"Hospital {uuid.uuid4().hex}"
        self.account = make_account(self.app, Role.CLINICIAN, organisation=name)
        _id, token = make_api_token(self.app, self.account)
        self.reading = Reading(self.app, self.account, token)
        self.claims: list[claims.Claim] = []
        self.study_id = self._upload(range(first))

    def _upload(self, numbers: range) -> uuid.UUID:
        files = [UploadedFile(f"{n}.dcm", SLICES[n]) for n in numbers]
        with self.app.test_request_context(), acting_for(self.account.organisation_id):
            user = find_user_by_address(self.account.email)
            return submit_files(actor=user, files=files).study.id

    @rule(start=st.integers(0, 8), count=st.integers(1, 5))
    def more_slices_come_or_known_ones_again(self, start: int, count: int) -> None:
        assert self._upload(range(start, min(len(SLICES), start + count))) == self.study_id

    @rule(newest=st.booleans())
    def a_worker_claims(self, newest: bool) -> None:
        """The message about the newest analysis, or a late one about an older one."""
        ids = [one.id for one in self._analyses()]
        with self.app.test_request_context():
            claim = analyses.claim_analysis(ids[-1] if newest else ids[0])
        if claim is not None:
            self.claims.append(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), label=st.sampled_from(CLASSES))
    def a_worker_finishes(self, data: st.DataObject, label: str) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        with self.app.test_request_context():
            try:
                finish(self.app, claim, label)
            except LeaseLost:
                return
        said = self._analyses()[-1]
        # Who may still write is the newest analysis; its answer is this one.
        assert (said.id, said.label) == (claim.job_id, label)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def a_worker_fails(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        with self.app.test_request_context():
            try:
                analyses.fail_analysis(claim, reason="internal")
            except LeaseLost:
                return
        assert self._analyses()[-1].id == claim.job_id

    @rule()
    def every_lease_runs_out(self) -> None:
        with self.app.test_request_context(), unscoped():
            late = now() - timedelta(minutes=5)
            db.session.execute(
                update(Analysis).where(Analysis.lease_until.is_not(None)).values(lease_until=late)
            )
            db.session.commit()

    @rule()
    def the_sweeper_comes(self) -> None:
        with self.app.test_request_context():
            analyses.analyses_to_resend()

    @rule()
    def somebody_tries_again(self) -> None:
        with self.app.test_request_context(), acting_for(self.account.organisation_id):
            user = find_user_by_address(self.account.email)
            try:
                retry_study(actor=user, study_id=self.study_id)
            except Conflict:
                db.session.rollback()

    def _analyses(self) -> list[Analysis]:
        with self.app.test_request_context(), unscoped():
            found = db.session.scalars(
                select(Analysis)
                .where(Analysis.study_id == self.study_id)
                .order_by(Analysis.number)
                .execution_options(populate_existing=True)
            ).all()
            db.session.expunge_all()
            return list(found)

    @invariant()
    def all_doors_say_the_same(self) -> None:
        newest = self._analyses()[-1]
        said = newest.label if newest.status is Status.DONE else None
        read = self.reading
        api = read.api(self.study_id)
        result, images = api["result"], api["images"]
        assert isinstance(images, list)
        # The analysis is of all images that any page counts.
        counted = {read.images_counted(self.study_id), read.export()[1], len(images)}
        assert counted == {newest.images_total}
        assert api["status"] == newest.status.value
        slices = {one["prediction"]["label"] if one["prediction"] else None for one in images}
        assert slices == {said}
        assert read.export()[0] == (said or "")
        assert read.report(self.study_id) == said
        if said is None:
            assert result is None
            assert read.page(self.study_id) is None
            assert read.worklist() is None
            assert read.fhir(self.study_id) is None
            return
        assert isinstance(result, dict)
        with self.app.test_request_context():
            named, short = headline((said,)), short_headline((said,))
        assert (result["label"], result["headline"]) == (said, named)
        assert read.page(self.study_id) == named
        assert read.worklist() == short
        conclusion = read.fhir(self.study_id)
        assert conclusion is not None
        assert conclusion.startswith(FINDINGS[said].meaning)


def test_all_doors_say_what_the_newest_analysis_of_all_images_said(app: Flask) -> None:
    class OfThisApp(Portal):
        pass

    OfThisApp.app = app
    run_state_machine_as_test(
        OfThisApp,
        settings=settings(
            max_examples=6,
            stateful_step_count=9,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def study(app: Flask) -> Portal:
    """A study of four slices, nothing done yet."""
    portal = Portal()
    portal.app = app
    portal.a_study_arrives(4)
    return portal


def test_an_older_analysis_that_ends_last_changes_nothing(study: Portal) -> None:
    study.a_worker_claims(newest=True)
    (old,) = study.claims
    study.more_slices_come_or_known_ones_again(2, 5)
    study.a_worker_claims(newest=True)
    _old, new = study.claims
    with study.app.test_request_context():
        finish(study.app, new, "glioma")
        with pytest.raises(LeaseLost):
            finish(study.app, old, "no_tumor")
        with pytest.raises(LeaseLost):
            analyses.fail_analysis(old, reason="internal")
        with pytest.raises(LeaseLost):
            analyses.record_progress(old, images_done=1)
    study.all_doors_say_the_same()
    assert study.reading.page(study.study_id) == "Glioma"


def test_earlier_answers_stay_readable_and_are_called_earlier(study: Portal) -> None:
    for label, more in (("no_tumor", True), ("meningioma", False)):
        study.a_worker_claims(newest=True)
        claim = study.claims[-1]
        with study.app.test_request_context():
            finish(study.app, claim, label)
        if more:
            study.more_slices_come_or_known_ones_again(3, 4)
    study.all_doors_say_the_same()
    earlier = study.reading.api(study.study_id)["earlier_analyses"]
    assert isinstance(earlier, list)
    assert [(one["images"], one["result"]["label"]) for one in earlier] == [(4, "no_tumor")]
    page = study.reading.browser.get(f"/studies/{study.study_id}").text
    assert "earlier results" in page
    assert ">4 slices" in page
