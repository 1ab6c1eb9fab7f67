"""However long no worker is there, the queue holds one message for each job and each sweep."""

import json
import subprocess
import sys
import uuid
from collections import Counter
from typing import Any

import pytest
import redis
from flask import Flask

from config import Settings
from tests.broker import Broker
from tests.factories import SAMPLE
from tests.portal import REPOSITORY, Portal
from webapp.queueing import (
    DELIVERY,
    HOUSEKEEPING,
    INFERENCE,
    PURGE,
    RESEND,
    ROLL_OUT,
    SWEEP,
    TEND,
    WATCH,
    send_classification,
    send_delivery,
    without_message,
)

pytestmark = pytest.mark.integration
# Nothing has waited for long in a test: here each sweep looks at all that waits.
SWEEPS = """
from datetime import timedelta
from webapp.brokers import redis_client
from webapp.queueing import INFERENCE
from webapp import leases
from worker.app import flask_app
from worker.housekeeping import resend_lost_jobs

leases.RESEND_AFTER = timedelta(0)
with redis_client(flask_app.extensions["settings"]) as broker:
    for sweep in range(20):
        if sweep == 10:
            broker.flushall()
        resend_lost_jobs()
        print(broker.llen(INFERENCE))
"""
ROUNDS_OF_BEAT = """
from webapp.brokers import redis_client
from webapp.health import BEAT_SIGN
from worker.app import app, flask_app
from worker.beat import Scheduler

scheduler = Scheduler(app, schedule_filename="{file}")
with redis_client(flask_app.extensions["settings"]) as broker:
    for _round in range(3):
        broker.delete(BEAT_SIGN)
        for entry in scheduler.schedule.values():
            scheduler.apply_async(entry)
        print(broker.exists(BEAT_SIGN))
scheduler.close()
"""


def _printed(portal: Portal, program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env=portal.environment,
        check=True,
        timeout=120,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout.split()


def _headers(app: Flask, queue: str) -> list[dict[str, Any]]:
    settings: Settings = app.extensions["settings"]
    with redis.Redis.from_url(settings.redis_url) as client:
        return [json.loads(message)["headers"] for message in client.lrange(queue, 0, -1)]


def _jobs(app: Flask) -> Counter[str]:
    """How many messages each job has."""
    return Counter(headers["job"] for headers in _headers(app, INFERENCE))


def test_only_jobs_without_a_message_are_sent_again(portal: Portal) -> None:
    account = portal.make_user()
    studies = [portal.submit(account, [SAMPLE]) for _number in range(4)]
    one_each = Counter(str(portal.analysis(study).id) for study in studies)
    assert _jobs(portal.app) == one_each
    # Ten sweeps while their messages wait, and ten after the broker has lost them.
    assert _printed(portal, SWEEPS) == ["4"] * 20
    assert _jobs(portal.app) == one_each


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_periodic_task_that_waits_is_not_sent_again(portal: Portal) -> None:
    signs = _printed(portal, ROUNDS_OF_BEAT.format(file=portal.folder / "schedule"))
    assert signs == ["1"] * 3  # beat lives, though there was nothing to send
    kinds = Counter(headers["task"] for headers in _headers(portal.app, HOUSEKEEPING))
    assert kinds == {RESEND: 1, SWEEP: 1, PURGE: 1, ROLL_OUT: 1, WATCH: 1, TEND: 1}
    assert not _headers(portal.app, INFERENCE) + _headers(portal.app, DELIVERY)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_jobs_of_each_kind_are_found_in_their_queue(broker: Broker, app: Flask) -> None:
    analysis, delivery, lost = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    settings: Settings = app.extensions["settings"]
    with app.app_context():
        send_classification(analysis)
        send_delivery(delivery)
        with redis.Redis.from_url(settings.redis_url) as client:
            client.lpush(INFERENCE, *[json.dumps({"headers": {}})] * 2500)
        assert without_message(INFERENCE, [analysis, lost]) == [lost]
        assert without_message(DELIVERY, [delivery, lost]) == [lost]
        broker.stop()
        assert without_message(INFERENCE, [analysis, lost]) == []
