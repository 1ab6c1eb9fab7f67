"""An analysis is claimed by one worker at a time; one that lost its lease changes nothing."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import select, update

from tests.factories import SAMPLE, Account
from webapp.accounts.queries import find_user_by_address
from webapp.database import db, now
from webapp.errors import Conflict
from webapp.inference import analyses, claims
from webapp.inference.operations import retry_study
from webapp.inference.results import StudyResult, result_of
from webapp.intake.arrival import UploadedFile
from webapp.intake.submission import submit_files
from webapp.leases import LeaseLost
from webapp.models_admin.models import ModelVersion
from webapp.models_admin.operations import register_model
from webapp.studies.models import Analysis, Prediction, Status, Study
from webapp.tenancy import acting_for, unscoped


@dataclass
class Work:
    """One queued study and what a worker does with its analysis."""

    account: Account
    study_id: uuid.UUID
    analysis_id: uuid.UUID

    def claim(self) -> claims.Claim:
        claim = analyses.claim_analysis(self.analysis_id)
        assert claim is not None
        return claim

    def finish(self, claim: claims.Claim, *, tumor_by_localisation: float | None = None) -> None:
        answer = claims.NewPrediction(
            image_id=claim.images[0].id,
            label="glioma",
            probabilities={"glioma": 0.7, "meningioma": 0.1, "no_tumor": 0.1, "pituitary": 0.1},
            prediction_set=["glioma"],
            in_distribution=True,
            ood_score=0.2,
            quality=[],
            heatmap_key=None,
            tumor_by_localisation=tumor_by_localisation,
        )
        analyses.finish_analysis(claim, answers=[answer], problems={}, model=model(), model_ms=5.0)

    def set_job(self, **values: object) -> None:
        with unscoped():
            db.session.execute(
                update(Analysis).where(Analysis.id == self.analysis_id).values(**values)
            )
            db.session.commit()

    @property
    def analysis(self) -> Analysis:
        with unscoped():
            return db.session.get_one(Analysis, self.analysis_id, populate_existing=True)

    @property
    def study(self) -> Study:
        with unscoped():
            return db.session.get_one(Study, self.study_id, populate_existing=True)

    @property
    def result(self) -> StudyResult:
        with unscoped():
            found = result_of(db.session.get_one(Study, self.study_id, populate_existing=True))
            assert found is not None
            return found

    def predictions(self) -> list[Prediction]:
        with unscoped():
            return list(db.session.scalars(select(Prediction)))


def model() -> ModelVersion:
    return register_model(name="test", sha256="0" * 64, card={})


@pytest.fixture
def work(app: Flask, make_user: Callable[..., Account]) -> object:
    account = make_user()
    with app.app_context():
        with acting_for(account.organisation_id):
            files = [UploadedFile("slice.jpg", SAMPLE.read_bytes())]
            study = submit_files(actor=find_user_by_address(account.email), files=files).study
            made = Work(account, study.id, study.analyses[0].id)
        yield made


PAST = timedelta(minutes=5)


def test_new_study_is_queued_with_its_job(work: Work) -> None:
    assert work.study.status is Status.QUEUED
    assert work.analysis.status is Status.QUEUED
    assert work.analysis.images_total == 1


def test_second_worker_finds_nothing_to_do(work: Work) -> None:
    work.claim()
    assert work.study.status is Status.RUNNING
    assert analyses.claim_analysis(work.analysis_id) is None


def test_unknown_job_is_nothing_to_do(work: Work) -> None:
    assert analyses.claim_analysis(uuid.uuid4()) is None


def test_finished_job_is_not_done_again(work: Work) -> None:
    work.finish(work.claim())
    assert work.study.status is Status.DONE
    assert work.result.label == "glioma"
    assert analyses.claim_analysis(work.analysis_id) is None
    assert len(work.predictions()) == 1


@pytest.mark.parametrize(
    ("by_places", "expected"), [(0.4, ["glioma", "no_tumor"]), (0.6, ["glioma"])]
)
def test_study_does_not_rule_out_no_tumour_where_a_volume_does_not_bear_the_slice_out(
    work: Work, by_places: float, expected: list[str]
) -> None:
    claim = work.claim()
    volume = replace(claim, images=tuple(replace(one, in_stack=True) for one in claim.images))
    work.finish(volume, tumor_by_localisation=by_places)
    assert work.result.label == "glioma"
    assert list(work.result.prediction_set) == expected
    assert work.predictions()[0].prediction_set == ["glioma"]


def test_job_of_a_dead_worker_is_taken_over(work: Work) -> None:
    work.claim()
    work.set_job(lease_until=now() - PAST)
    assert work.claim().attempt == 2


def test_worker_that_lost_its_lease_writes_nothing(work: Work) -> None:
    late = work.claim()
    work.set_job(lease_until=now() - PAST)
    current = work.claim()
    with pytest.raises(LeaseLost):
        analyses.record_progress(late, images_done=1)
    with pytest.raises(LeaseLost):
        work.finish(late)
    with pytest.raises(LeaseLost):
        analyses.fail_analysis(late, reason="internal")
    assert not work.predictions()
    work.finish(current)
    assert len(work.predictions()) == 1


def test_progress_renews_the_lease(work: Work) -> None:
    claim = work.claim()
    work.set_job(lease_until=now() + timedelta(seconds=1))
    analyses.record_progress(claim, images_done=1)
    assert work.analysis.images_done == 1
    assert work.analysis.lease_until is not None
    assert work.analysis.lease_until > now() + analyses.LEASE / 2


def test_failed_job_tells_why_and_can_be_tried_again(work: Work) -> None:
    analyses.fail_analysis(work.claim(), reason="out_of_memory")
    assert work.study.status is Status.FAILED
    assert work.study.reason == "out_of_memory"
    with acting_for(work.account.organisation_id):
        user = find_user_by_address(work.account.email)
        retry_study(actor=user, study_id=work.study_id)
        assert work.study.status is Status.QUEUED
        assert work.study.reason is None
        with pytest.raises(Conflict):
            retry_study(actor=user, study_id=work.study_id)


def test_released_job_is_queued_again(work: Work) -> None:
    analyses.release_analysis(work.claim(), wait=timedelta(seconds=4))
    assert work.analysis.status is Status.QUEUED
    assert work.study.status is Status.QUEUED
    assert work.claim().attempt == 2


def test_released_job_is_sent_again_when_its_wait_is_over(work: Work) -> None:
    analyses.release_analysis(work.claim(), wait=timedelta(seconds=4))
    assert analyses.analyses_to_resend() == []
    analyses.release_analysis(work.claim(), wait=timedelta(seconds=-1))
    assert analyses.analyses_to_resend() == [work.analysis_id]


def test_job_that_waits_for_room_on_the_disk_uses_up_no_attempt(work: Work) -> None:
    for _ in range(analyses.MAX_ATTEMPTS + 1):
        analyses.release_analysis(work.claim(), wait=timedelta(0), counts=False)
    analyses.analyses_to_resend()
    assert work.analysis.status is Status.QUEUED
    assert work.claim().attempt == 1


def test_images_without_an_answer_reject_the_study(work: Work) -> None:
    claim = work.claim()
    problems = {claim.images[0].id: "blank"}
    analyses.finish_analysis(claim, answers=[], problems=problems, model=model(), model_ms=1.0)
    assert work.study.status is Status.REJECTED
    assert work.study.reason == "blank"


def test_fresh_jobs_are_left_to_the_broker(work: Work) -> None:
    assert analyses.analyses_to_resend() == []


def test_lost_message_is_sent_again_once_in_a_while(work: Work) -> None:
    work.set_job(sent_at=now() - PAST)
    assert analyses.analyses_to_resend() == [work.analysis_id]
    assert analyses.analyses_to_resend() == []


def test_running_job_is_sent_again_only_when_its_lease_is_over(work: Work) -> None:
    work.claim()
    work.set_job(sent_at=now() - PAST)
    assert analyses.analyses_to_resend() == []
    work.set_job(lease_until=now() - PAST)
    assert analyses.analyses_to_resend() == [work.analysis_id]


def test_job_that_kills_its_workers_is_given_up(work: Work) -> None:
    for _ in range(analyses.MAX_ATTEMPTS):
        work.claim()
        work.set_job(lease_until=now() - PAST)
    assert analyses.claim_analysis(work.analysis_id) is None
    assert analyses.analyses_to_resend() == []
    assert work.analysis.status is Status.FAILED
    assert work.study.status is Status.FAILED
    assert work.study.reason == "gave_up"
