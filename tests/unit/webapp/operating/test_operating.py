"""The operator's page and the metrics say the same about queues, workers and failures."""

import re
from collections.abc import Callable
from datetime import timedelta

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from config import VERSION
from tests.factories import SAMPLE, Account, make_account, make_study
from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.audit import AuditEvent
from webapp.database import db, now
from webapp.intake.arrival import UploadedFile
from webapp.intake.submission import submit_files
from webapp.operating.models import WorkerProcess
from webapp.operating.operations import Presence, forget_worker, note_presence
from webapp.operating.state import QUEUES, State
from webapp.queueing import BACKGROUND, INFERENCE, URGENT
from webapp.studies.models import Analysis, Priority, Status, Study
from webapp.tenancy import acting_for, unscoped


def submit(app: Flask, account: Account, *, minutes: float, urgent: bool = False) -> None:
    """A study that has waited."""
    with app.app_context(), acting_for(account.organisation_id):
        user = find_user_by_address(account.email)
        study = submit_files(actor=user, files=[UploadedFile("a.jpg", SAMPLE.read_bytes())]).study
        study.priority = Priority.URGENT if urgent else Priority.ROUTINE
        assert study.current_analysis
        study.current_analysis.created_at = now() - timedelta(minutes=minutes)
        db.session.commit()


def fail(app: Flask, account: Account) -> None:
    ids = make_study(app, account)
    with app.app_context(), unscoped():
        db.session.execute(
            update(Analysis)
            .where(Analysis.id == ids.analysis_id)
            .values(status=Status.FAILED, reason="internal")
        )
        db.session.commit()


def presence(name: str, **values: object) -> Presence:
    return Presence(
        name=name,
        started_at=now(),
        version=VERSION,
        device="cuda",
        queues=[INFERENCE],
        concurrency=1,
        **values,  # type: ignore[arg-type]
    )


def metric(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, name
    return float(found[1])


def test_waiting_studies_are_counted_by_queue_and_age(app: Flask, client: FlaskClient) -> None:
    first, second = make_account(app), make_account(app, organisation="Hospital B")
    submit(app, first, minutes=3)
    submit(app, second, minutes=7)  # of every organisation
    submit(app, first, minutes=1, urgent=True)
    make_study(app, first)
    with app.app_context():
        queues = {one.name: one for one in State().queues}
        assert tuple(queues) == QUEUES
        assert (queues[INFERENCE].waiting, queues[URGENT].waiting) == (2, 1)
        assert 400 < (queues[INFERENCE].oldest_seconds or 0) < 440
        assert queues[BACKGROUND].oldest_seconds == 0
        assert queues[INFERENCE].messages is None  # no broker here
    text = client.get("/metrics").text
    assert metric(text, 'sulcus_queue_waiting{queue="inference"}') == 2
    assert 400 < metric(text, 'sulcus_queue_oldest_seconds{queue="inference"}') < 440
    assert metric(text, 'sulcus_analyses_last_hour{status="done"}') == 1
    assert metric(text, 'sulcus_trouble{reason="broker_unavailable"}') == 1
    assert metric(text, 'sulcus_trouble{reason="database_unavailable"}') == 0
    assert metric(text, 'sulcus_storage_bytes{part="free"}') > 0
    assert "sulcus_queue_messages{" not in text  # a gap is no zero


def test_workers_are_seen_until_they_are_silent(app: Flask) -> None:
    job = {"task": "sulcus.classify_study", "job": "x", "seconds": 3.0}
    with app.app_context():
        note_presence(presence("celery@a"))
        note_presence(presence("celery@a", tasks_done=4, doing=[job]))
        note_presence(presence("celery@b"))
        with unscoped():
            db.session.execute(
                update(WorkerProcess)
                .where(WorkerProcess.name == "celery@b")
                .values(seen_at=now() - timedelta(minutes=5))
            )
            db.session.commit()
        first, second = State().workers or ()
        assert (first.is_alive, first.tasks_done, list(first.doing)) == (True, 4, [job])
        assert not second.is_alive
        note_presence(presence("celery@c"), lasts=timedelta(minutes=1))  # forgets b
        assert [one.name for one in State().workers or ()] == ["celery@a", "celery@c"]
        forget_worker("celery@c")
        assert [one.name for one in State().workers or ()] == ["celery@a"]


def test_metrics_go_on_without_the_database(app: Flask, client: FlaskClient) -> None:
    with app.app_context():
        db.session.remove()
        with db.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE worker_process RENAME TO away")
    try:
        text = client.get("/metrics").text
    finally:
        with app.app_context(), db.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE away RENAME TO worker_process")
    assert "sulcus_workers{" not in text
    assert metric(text, 'sulcus_queue_waiting{queue="inference"}') == 0
    assert "sulcus_http_requests_total" in text


def test_page_shows_it_and_begins_failures_again(
    app: Flask, sign_in: Callable[[Account], FlaskClient]
) -> None:
    admin = make_account(app, Role.ADMIN)
    other = make_account(app, organisation="Hospital B")
    for account in (admin, admin, other):
        fail(app, account)
    with app.app_context():
        note_presence(presence("celery@a", doing=[{"task": "sulcus.retrain", "seconds": 120}]))
    browser = sign_in(admin)
    page = browser.get("/admin/operator").text
    assert "retrains a model" in page
    assert "2 min" in page
    assert "celery@a" in page
    assert "uploads are kept, and analysed once it is back" in page
    assert page.count("/retry") == 2
    answer = browser.post("/admin/operator/retries", follow_redirects=True)
    assert "2 studies are analysed again." in answer.text
    with app.app_context(), unscoped():
        states = [one.status for one in db.session.scalars(select(Study))]
        assert sorted(states) == [Status.FAILED, Status.QUEUED, Status.QUEUED]
        acts = db.session.scalars(select(AuditEvent.action)).all()
        assert acts.count("retry_study") == 2
    answer = browser.post("/admin/operator/retries", follow_redirects=True)
    assert answer.text.count("No study has failed.") == 2
