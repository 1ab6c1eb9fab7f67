"""With database and broker there, the portal is ready and sends its jobs."""

import time
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update

from config import Settings
from tests.broker import Broker
from tests.factories import SAMPLE, Account, make_study
from tests.portal import Portal
from tests.waiting import wait_until
from webapp.accounts.queries import find_user_by_address
from webapp.brokers import redis_client
from webapp.database import db, now
from webapp.health import BEAT_SIGN, BUSY_SIGN, WORKER_SIGN
from webapp.intake.arrival import UploadedFile
from webapp.intake.submission import submit_files
from webapp.queueing import send_classification
from webapp.studies.models import Analysis, Status
from webapp.tenancy import acting_for, unscoped

pytestmark = pytest.mark.integration


@pytest.fixture
def broker_url(request: pytest.FixtureRequest) -> str:
    """The run's own broker; that of the portal where a test asks for one."""
    if "portal" in request.fixturenames:
        broker: Broker = request.getfixturevalue("broker")
        return broker.url
    url: str = request.getfixturevalue("redis_url")
    return url


def test_with_a_broker_it_is_ready(client: FlaskClient) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.get_json() == {
        "status": "ok",
        "database": True,
        "queue": True,
        "reasons": [],
        "messages": [],
    }


def test_beat_and_worker_without_a_sign_of_life_are_named(app: Flask, client: FlaskClient) -> None:
    long_ago = time.time() - 600
    with redis_client(app.extensions["settings"]) as broker:
        broker.mset({BEAT_SIGN: long_ago, WORKER_SIGN: long_ago})
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.get_json()["reasons"] == ["beat_silent", "worker_silent"]
        assert "Beat has been silent for 10 min" in answer.get_json()["messages"][0]
        broker.mset({BEAT_SIGN: time.time(), WORKER_SIGN: time.time()})
        assert client.get("/readyz").get_json()["reasons"] == []
        broker.mset({WORKER_SIGN: long_ago, BUSY_SIGN: time.time() - 400})  # a long delivery
        assert client.get("/readyz").get_json()["reasons"] == []
        broker.flushall()


def test_without_any_sign_some_minutes_are_granted(app: Flask, client: FlaskClient) -> None:
    assert client.get("/readyz").status_code == 200
    app.extensions["started_at"] -= 600
    assert client.get("/readyz").get_json()["reasons"] == ["beat_silent", "worker_silent"]


def test_queue_that_nobody_empties_is_named(
    app: Flask, client: FlaskClient, make_user: Callable[..., Account]
) -> None:
    account = make_user()
    earlier = make_study(app, account)
    with app.app_context(), acting_for(account.organisation_id):
        user = find_user_by_address(account.email)
        waits = submit_files(actor=user, files=[UploadedFile("a.jpg", SAMPLE.read_bytes())]).study
        waiting_id = waits.current_analysis_id

    def change(analysis_id: uuid.UUID | None, **values: object) -> None:
        with app.app_context(), unscoped():
            db.session.execute(update(Analysis).where(Analysis.id == analysis_id).values(**values))
            db.session.commit()

    def reasons() -> list[str]:
        found: list[str] = client.get("/readyz").get_json()["reasons"]
        return found

    assert reasons() == []
    long_ago = now() - timedelta(minutes=10)
    change(waiting_id, created_at=long_ago)
    assert reasons() == []  # another was taken just now: it waits for its turn
    change(earlier.analysis_id, started_at=long_ago)
    assert reasons() == ["queue_stalled"]
    lease = now() + timedelta(seconds=20)
    change(earlier.analysis_id, status=Status.RUNNING, lease_until=lease)
    assert reasons() == []  # the worker is busy with a large study


def test_worker_and_beat_leave_signs(portal: Portal) -> None:
    portal.start_worker()
    with redis_client(portal.app.extensions["settings"]) as broker:
        wait_until(
            lambda: all(broker.mget(BEAT_SIGN, WORKER_SIGN)), seconds=150, what="signs of life"
        )


def test_a_message_holds_the_id_of_its_job(app: Flask) -> None:
    settings: Settings = app.extensions["settings"]
    analysis_id = uuid.uuid4()
    with redis.Redis.from_url(settings.redis_url) as broker:
        broker.flushall()
        with app.app_context():
            assert send_classification(analysis_id)
        (message,) = broker.lrange("inference", 0, -1)
        broker.flushall()
    assert b"sulcus.classify_study" in message
