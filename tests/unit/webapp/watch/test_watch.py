"""Weeks in a real database: compared by the worker's task, shown to stewards, and reported."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select

from tests.conftest import make_settings
from tests.factories import Account, assess, make_api_token, make_study
from tests.unit.webapp.watch.weeks import add_studies
from webapp import create_app
from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.audit import AuditEvent
from webapp.database import db, now
from webapp.errors import Conflict, NotAllowed
from webapp.inference.observations import KEPT, SliceObservation
from webapp.review.models import Verdict
from webapp.tenancy import acting_for, unscoped
from webapp.watch import queries
from webapp.watch.models import EVERYTHING, Against, DriftRun, RunVerdict
from webapp.watch.operations import acknowledge_alarm, freeze_baseline
from webapp.watch.sampling import start_of, week_of
from worker.watch import watch, watch_weeks

MakeUser = Callable[..., Account]
SignIn = Callable[[Account], FlaskClient]


def monday(back: int) -> datetime:
    return start_of(week_of(now()) - timedelta(weeks=back))


def look(app: Flask, account: Account, moment: datetime) -> None:
    with app.app_context(), acting_for(account.organisation_id):
        watch_weeks(moment)


def freeze(app: Flask, account: Account) -> None:
    with app.app_context():
        freeze_baseline(actor=find_user_by_address(account.email))


@pytest.fixture
def steward(make_user: MakeUser) -> Account:
    return make_user(Role.STEWARD)


@pytest.fixture
def with_baseline(app: Flask, steward: Account) -> Account:
    add_studies(app, steward, 120, since=monday(8), seed=1)
    freeze(app, steward)
    return steward


def test_other_input_raises_an_alarm_that_ends_when_it_is_over(
    app: Flask, with_baseline: Account
) -> None:
    steward = with_baseline
    add_studies(app, steward, 40, since=monday(2), seed=2)
    look(app, steward, monday(2) + timedelta(days=5))
    with app.app_context(), acting_for(steward.organisation_id):
        run = queries.runs_of()[-1]
        assert (run.studies, run.verdict, run.against) == (40, RunVerdict.STEADY, Against.OWN)
        assert not queries.open_alarms()
    add_studies(app, steward, 30, since=monday(1), seed=3, shift=4)
    look(app, steward, monday(1) + timedelta(days=2))
    look(app, steward, monday(1) + timedelta(days=3))  # again: nothing is raised twice
    with app.app_context(), acting_for(steward.organisation_id):
        alarms = queries.open_alarms()
        assert {one.family for one in alarms if one.scope == EVERYTHING} == {
            "image",
            "features",
            "doubt",
        }
        assert alarms[0].evidence
        assert queries.count_unseen_alarms() == len(alarms)
        raised = select(func.count(AuditEvent.id)).where(AuditEvent.action == "raise_drift_alarm")
        assert db.session.scalar(raised) == len(alarms)
    add_studies(app, steward, 40, since=monday(0), seed=4)
    look(app, steward, monday(0) + timedelta(days=5))  # under way: nothing ends yet
    with app.app_context(), acting_for(steward.organisation_id):
        assert queries.open_alarms()
    look(app, steward, monday(0) + timedelta(days=8))
    with app.app_context(), acting_for(steward.organisation_id):
        assert not queries.open_alarms()
        assert queries.ended_alarms()


def test_few_studies_and_no_baseline_are_said_and_compared_with_nothing(
    app: Flask, steward: Account
) -> None:
    add_studies(app, steward, 5, since=monday(0))
    look(app, steward, monday(0) + timedelta(days=1))
    add_studies(app, steward, 25, since=monday(0), source_format="DICOM")
    look(app, steward, monday(0) + timedelta(days=2))
    with app.app_context(), acting_for(steward.organisation_id):
        verdicts = {run.scope: (run.verdict, run.against) for run in queries.newest_runs()}
    assert verdicts["format:PNG"] == (RunVerdict.TOO_FEW, Against.NOTHING)
    assert verdicts["format:DICOM"] == (RunVerdict.NO_BASELINE, Against.NOTHING)
    assert verdicts[EVERYTHING][1] is Against.PUBLISHED


def test_a_baseline_needs_enough_studies_and_a_steward(
    app: Flask, make_user: MakeUser, steward: Account
) -> None:
    add_studies(app, steward, 99, since=monday(1))
    reviewer = make_user(Role.REVIEWER)
    with app.app_context():
        with pytest.raises(Conflict, match="99"):
            freeze_baseline(actor=find_user_by_address(steward.email))
        db.session.rollback()
        with pytest.raises(NotAllowed):
            freeze_baseline(actor=find_user_by_address(reviewer.email))


def test_another_organisation_sees_and_compares_nothing(
    app: Flask, with_baseline: Account, make_user: MakeUser, sign_in: SignIn
) -> None:
    other = make_user(Role.STEWARD, organisation="Hospital B")
    look(app, other, now())
    with app.app_context(), unscoped():
        assert not db.session.scalars(select(DriftRun)).all()
    page = sign_in(other).get("/watch").text
    assert "There is no baseline of this installation yet" in page


def test_pages_api_metrics_and_report_tell_the_same(
    app: Flask, with_baseline: Account, sign_in: SignIn, client: FlaskClient
) -> None:
    steward = with_baseline
    add_studies(app, steward, 30, since=monday(0), seed=3, shift=4)
    look(app, steward, monday(0) + timedelta(days=2))
    browser = sign_in(steward)
    page = browser.get("/watch").text
    assert "Alarm: Pictures" in page
    assert "<svg" in page
    assert "very different" in page
    token = make_api_token(app, steward)[1]
    drift = client.get("/api/v1/drift", headers={"Authorization": f"Bearer {token}"}).json
    assert {one["family"] for one in drift["alarms"]} == {"image", "features", "doubt"}
    assert drift["weeks"][0]["studies"] == 30
    assert drift["baseline"]["studies"] == 120
    metrics = client.get("/metrics").text
    assert 'sulcus_drift_alarm{family="image"} 2.0' in metrics  # of all studies, and of PNG files
    assert 'sulcus_drift_distance{statistic="sharpness"}' in metrics
    assert "Hospital" not in metrics
    alarm = drift["alarms"][0]["id"]
    empty = browser.post(f"/watch/alarms/{alarm}/acknowledgement", data={"note": " \0 "})
    assert empty.status_code == 422
    assert "Please say what was done" in empty.text
    noted = browser.post(f"/watch/alarms/{alarm}/acknowledgement", data={"note": "New <b>coil"})
    assert noted.status_code == 302
    assert "New &lt;b&gt;coil" in browser.get("/watch").text
    report = json.loads(browser.get(f"/watch/report/{now():%Y-%m}.json").text)
    assert [one["note"] for one in report["alarms"] if one["note"]] == ["New <b>coil"]
    assert report["notice"].startswith("Research software")
    pdf = browser.get(f"/watch/report/{now():%Y-%m}.pdf")
    assert pdf.data.startswith(b"%PDF")
    for month in ("2026-13", "1999-01", "2999-01", "x"):
        assert browser.get(f"/watch/report/{month}.pdf").status_code == 404


def test_overrides_complaints_and_answers_are_counted(
    app: Flask, steward: Account, sign_in: SignIn
) -> None:
    one, other = make_study(app, steward), make_study(app, steward, label="no_tumor")
    assess(app, steward, one, verdict=Verdict.AGREE)
    assess(app, steward, other, verdict=Verdict.DISAGREE, label="glioma", comment="clearly one")
    report = json.loads(sign_in(steward).get(f"/watch/report/{now():%Y-%m}.json").text)
    assert report["answers"] == {"glioma": 1, "no_tumor": 1}
    assert (report["overrides"]["number"], report["overrides"]["of"]) == (1, 2)
    assert report["complaints"] == 1
    page = sign_in(steward).get("/watch").text
    assert "1 (50%)" in page


def test_the_daily_task_forgets_old_observations_and_serves_every_organisation(
    app: Flask, steward: Account, make_user: MakeUser
) -> None:
    other = make_user(Role.STEWARD, organisation="Hospital B")
    for account in (steward, other):
        add_studies(app, account, 2, since=monday(1))
    add_studies(app, steward, 2, since=now() - KEPT - timedelta(days=1))
    with app.app_context():
        watch.run()
        with unscoped():
            assert db.session.scalar(select(func.count(SliceObservation.id))) == 4
            found = db.session.scalars(select(DriftRun).where(DriftRun.scope == EVERYTHING)).all()
        assert {run.organisation_id for run in found} == {
            steward.organisation_id,
            other.organisation_id,
        }
        assert {(run.studies, run.verdict, run.is_final) for run in found} == {
            (2, RunVerdict.TOO_FEW, True)
        }


def test_metrics_are_given_without_a_database(tmp_path: Path) -> None:
    app = create_app(make_settings(tmp_path / "empty"))  # no table is there
    answer = app.test_client().get("/metrics")
    assert answer.status_code == 200
    assert "sulcus_http_requests" in answer.text
    assert "sulcus_drift" not in answer.text


def test_acknowledging_needs_a_steward(app: Flask, make_user: MakeUser) -> None:
    reviewer = make_user(Role.REVIEWER)
    with app.app_context(), pytest.raises(NotAllowed):
        acknowledge_alarm(
            actor=find_user_by_address(reviewer.email), alarm_id=reviewer.id, note="x"
        )
