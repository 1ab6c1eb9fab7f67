"""Urgent studies come first in the queue, nothing else waits for good, and long ones give way."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis
from flask import Flask
from kombu import Consumer
from sqlalchemy import update

from tests.broker import Broker
from tests.factories import SAMPLE
from tests.portal import REPOSITORY, Portal
from webapp.accounts.queries import find_user_by_address
from webapp.corrections.operations import Correction, correct_study
from webapp.database import db, now
from webapp.inference.claims import Claim
from webapp.inference.sending import analyses_without_message, send_analyses
from webapp.intake.arrival import UploadedFile
from webapp.intake.submission import submit_files
from webapp.queueing import (
    BACKGROUND,
    DELIVERY,
    HOUSEKEEPING,
    INFERENCE,
    RESEND,
    URGENT,
    URGENT_IN_A_ROW,
    queues_of,
    send_classification,
    send_delivery,
)
from webapp.studies.models import Analysis, Priority, Purpose, Status
from webapp.tenancy import acting_for, unscoped
from worker import giving_way

pytestmark = pytest.mark.integration
only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
CLASSIFICATION = """
from worker.classify import classify_study

classify_study(analysis_id="{analysis_id}")
"""


@pytest.fixture
def queue(broker: Broker, app: Flask) -> Iterator[Flask]:
    """The portal with a broker, inside of its context."""
    with app.app_context():
        yield app


def taken(app: Flask, count: int) -> list[str]:
    """The queues from which a worker takes its next messages, one after the other."""
    celery = app.extensions["celery"]
    order: list[str] = []

    def take(_body: object, message: Any) -> None:
        order.append(message.delivery_info["routing_key"])
        message.ack()

    with celery.connection_for_read() as connection:
        consumer = Consumer(connection, celery.conf.task_queues, callbacks=[take])
        consumer.qos(prefetch_count=1)
        with consumer:
            while len(order) < count:
                connection.drain_events(timeout=20)
    return order


def jobs(app: Flask, name: str) -> list[str]:
    return list(queues_of(app).names(name))


@only_sqlite
def test_urgent_message_is_taken_before_routine_ones_that_wait(queue: Flask) -> None:
    for _number in range(4):
        send_classification(uuid.uuid4())
    send_classification(uuid.uuid4(), queue=URGENT)
    send_classification(uuid.uuid4(), queue=URGENT)
    assert taken(queue, 6) == [URGENT] * 2 + [INFERENCE] * 4


@only_sqlite
def test_nothing_starves_however_many_urgent_ones_wait(queue: Flask) -> None:
    for _number in range(30):
        send_classification(uuid.uuid4(), queue=URGENT)
    for _number in range(2):
        send_classification(uuid.uuid4())
        send_delivery(uuid.uuid4())
        queue.extensions["celery"].send_task(RESEND, retry=False)
    order = taken(queue, 36)
    turns = [name for name in order[:24] if name != URGENT]
    assert order.count(URGENT) == 30
    assert order[:URGENT_IN_A_ROW] == [URGENT] * URGENT_IN_A_ROW
    # Each fourth message is another queue's, and each of the three has its turn.
    assert order[:24][URGENT_IN_A_ROW :: URGENT_IN_A_ROW + 1] == turns
    assert {*turns[:3]} == {*turns[3:]} == {INFERENCE, DELIVERY, HOUSEKEEPING}


@only_sqlite
def test_worker_that_is_told_its_queues_needs_no_urgent_one(queue: Flask) -> None:
    celery = queue.extensions["celery"]
    celery.conf.task_queues = [one for one in celery.conf.task_queues if one.name != URGENT]
    send_classification(uuid.uuid4())
    send_delivery(uuid.uuid4())
    assert {*taken(queue, 2)} == {INFERENCE, DELIVERY}


@only_sqlite
def test_what_may_wait_is_taken_last(queue: Flask) -> None:
    send_classification(uuid.uuid4(), queue=BACKGROUND)
    for _number in range(2):
        send_classification(uuid.uuid4())
        send_delivery(uuid.uuid4())
    order = taken(queue, 5)
    assert {*order[:4]} == {INFERENCE, DELIVERY}
    assert order[4] == BACKGROUND


def submit(portal: Portal, priority: Priority, *, count: int = 1) -> uuid.UUID:
    account = portal.make_user()
    with portal.app.app_context(), acting_for(account.organisation_id):
        files = [UploadedFile(SAMPLE.name, SAMPLE.read_bytes())] * count
        user = find_user_by_address(account.email)
        return submit_files(actor=user, files=files, priority=priority).study.id


def test_message_of_an_urgent_study_waits_in_its_queue(portal: Portal) -> None:
    routine = portal.analysis(submit(portal, Priority.ROUTINE)).id
    urgent = portal.analysis(submit(portal, Priority.URGENT)).id
    lost = portal.analysis(submit(portal, Priority.URGENT)).id
    with portal.app.app_context():
        assert jobs(portal.app, INFERENCE) == [str(routine)]
        assert jobs(portal.app, URGENT) == [str(lost), str(urgent)]
        with redis.Redis.from_url(portal.app.extensions["settings"].redis_url) as client:
            client.lpop(URGENT)
        assert analyses_without_message([routine, urgent, lost]) == [lost]
        send_analyses([lost])
        assert analyses_without_message([routine, urgent, lost]) == []


def test_study_that_becomes_urgent_gets_a_message_in_the_urgent_queue(portal: Portal) -> None:
    account = portal.make_user()
    study_id = portal.submit(account, [SAMPLE])
    analysis_id = portal.analysis(study_id).id
    with portal.app.app_context():
        with acting_for(account.organisation_id):
            correct_study(
                actor=find_user_by_address(account.email),
                study_id=study_id,
                correction=Correction(priority=Priority.URGENT),
            )
        assert jobs(portal.app, URGENT) == [str(analysis_id)]
        assert analyses_without_message([analysis_id]) == []


def classify(portal: Portal, analysis_id: uuid.UUID) -> None:
    program = CLASSIFICATION.format(analysis_id=analysis_id)
    subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env=portal.environment,
        check=True,
        timeout=200,
    )


def ended_at(portal: Portal, study_id: uuid.UUID) -> datetime:
    analysis = portal.analysis(study_id)
    assert (analysis.status, analysis.attempt) == (Status.DONE, 1)
    assert analysis.finished_at is not None
    return analysis.finished_at


def test_urgent_study_is_done_first_though_a_long_one_is_under_way(portal: Portal) -> None:
    routine = submit(portal, Priority.ROUTINE, count=40)
    urgent = submit(portal, Priority.URGENT)
    classify(portal, portal.analysis(routine).id)
    assert ended_at(portal, urgent) < ended_at(portal, routine)
    assert len(portal.predictions(routine)) == 40
    assert len(portal.predictions(urgent)) == 1


def test_small_studies_that_wait_go_through_together_each_with_its_own_answer(
    portal: Portal,
) -> None:
    studies = [submit(portal, Priority.ROUTINE) for _number in range(11)]
    large = submit(portal, Priority.ROUTINE, count=9)
    begun_before = submit(portal, Priority.ROUTINE)
    with portal.app.app_context(), unscoped():
        died = update(Analysis).where(Analysis.study_id == begun_before)
        db.session.execute(died.values(started_at=now(), attempt=1))
        db.session.commit()
    classify(portal, portal.analysis(studies[3]).id)
    said = {repr(one.probabilities) for study in studies for one in portal.predictions(study)}
    assert len(said) == 1  # of the same slice, whatever stood beside it
    assert all(len(portal.predictions(study)) == 1 for study in studies)
    assert all(ended_at(portal, study) for study in studies)
    for alone in (large, begun_before):
        assert portal.study(alone).status is Status.QUEUED


@only_sqlite
def test_shadow_gives_way_to_a_study_that_waits(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(giving_way, "WORTH_IT", timedelta(-1))
    with portal.app.app_context():
        giving_way.Way(claimed(Purpose.SHADOW)).give_if_needed(images_done=1)
    submit(portal, Priority.ROUTINE)
    with portal.app.app_context():
        giving_way.Way(claimed(Purpose.SERVING)).give_if_needed(images_done=1)
        with pytest.raises(giving_way.GaveWay):
            giving_way.Way(claimed(Purpose.SHADOW)).give_if_needed(images_done=1)


def claimed(purpose: Purpose) -> Claim:
    return Claim(
        job_id=uuid.uuid4(), organisation_id=uuid.uuid4(), attempt=1, study_id=uuid.uuid4(),
        study_since=now(), purpose=purpose, candidate_id=None, is_urgent=False, asked_at=now(),
        images=(),
    )  # fmt: skip
