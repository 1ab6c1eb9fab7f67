"""The same behaviour on Redis, Valkey and RabbitMQ: order, resending, readiness, faults."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from kombu import Consumer

from config import Settings
from tests.broker import Broker, RabbitBroker, running_broker
from tests.conftest import make_settings
from tests.portal import SAMPLES, Portal
from tests.waiting import wait_until
from webapp import rabbitmq
from webapp.queueing import (
    BACKGROUND,
    DELIVERY,
    HOUSEKEEPING,
    INFERENCE,
    QUEUES,
    RESEND,
    URGENT,
    URGENT_IN_A_ROW,
    queues_of,
    send_classification,
    send_delivery,
    without_message,
)
from webapp.studies.models import Status

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]
ALL_SAMPLES = sorted(SAMPLES.glob("*.jpg"))


@pytest.fixture(scope="module", params=["redis", "valkey", "rabbitmq"])
def kept_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """One of each kind for all tests here: RabbitMQ takes seconds to start."""
    with running_broker(request.param) as broker:
        yield broker


@pytest.fixture
def broker(kept_broker: Broker) -> Broker:
    """The broker without messages."""
    kept_broker.forget_everything()
    kept_broker.beside.forget_everything()
    return kept_broker


@pytest.fixture
def settings(tmp_path: Path, database_url: str, broker: Broker) -> Settings:
    return make_settings(tmp_path / "home", SULCUS_DATABASE_URL=database_url, **broker.environment)


@pytest.fixture
def queue(app: Flask) -> Iterator[Flask]:
    """The portal, inside of its context."""
    with app.app_context():
        yield app


def stop(broker: Broker) -> None:
    """The broker alone; a Redis beside it goes on."""
    broker.stop_alone() if isinstance(broker, RabbitBroker) else broker.stop()


def start(broker: Broker) -> None:
    broker.start_again() if isinstance(broker, RabbitBroker) else broker.start()


class Taker:
    """Takes messages as a worker does, one at a time."""

    def __init__(self, app: Flask) -> None:
        self.order: list[str] = []
        self.held: list[Any] = []
        celery = app.extensions["celery"]
        self._connection = celery.connection_for_read()
        self._consumer = Consumer(
            self._connection, celery.conf.task_queues, on_message=self._take, no_ack=False
        )
        self._consumer.qos(prefetch_count=1)
        self._consumer.consume()

    def _take(self, message: Any) -> None:
        self.order.append(message.delivery_info["routing_key"])
        self.held.append(message)

    def take(self, seconds: float = 10) -> None:
        """The next message; what was taken before is acknowledged."""
        if self.held:
            self.held.pop().ack()
        before = len(self.order)
        while len(self.order) == before:
            self._connection.drain_events(timeout=seconds)

    def close(self) -> None:
        self._connection.release()


@pytest.fixture
def taker(queue: Flask) -> Iterator[Taker]:
    taker = Taker(queue)
    yield taker
    taker.close()


def test_urgent_comes_first_and_nothing_starves(queue: Flask, taker: Taker) -> None:
    send_classification(uuid.uuid4(), queue=BACKGROUND)
    taker.take()  # busy from here on: what comes is left in the queues
    for _number in range(3):
        send_classification(uuid.uuid4())
    send_delivery(uuid.uuid4())
    queue.extensions["celery"].send_task(RESEND, retry=False)
    for _number in range(8):
        send_classification(uuid.uuid4(), queue=URGENT)
    send_classification(uuid.uuid4(), queue=BACKGROUND)
    for _number in range(14):
        taker.take()
    order = taker.order[1:]
    assert order[:URGENT_IN_A_ROW] == [URGENT] * URGENT_IN_A_ROW
    assert order.index(URGENT) == 0
    assert {order[3], order[7], *order[10:11]} == {INFERENCE, DELIVERY, HOUSEKEEPING}
    assert order[-1] == BACKGROUND


def test_urgent_message_that_comes_while_a_worker_is_busy_is_its_next(
    queue: Flask, taker: Taker
) -> None:
    for _number in range(3):
        send_classification(uuid.uuid4())
    taker.take()
    send_classification(uuid.uuid4(), queue=URGENT)
    taker.take()
    assert taker.order == [INFERENCE, URGENT]


def test_idle_worker_is_told_of_a_message(
    queue: Flask, taker: Taker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No look by the clock: only what is told finds the message.
    monkeypatch.setattr(rabbitmq, "_LOOK_AGAIN", 3600.0)
    with pytest.raises(TimeoutError):
        taker.take(seconds=0.2)
    send_classification(uuid.uuid4())
    taker.take()
    assert taker.order == [INFERENCE]


def test_message_handed_back_is_there_again(queue: Flask, taker: Taker) -> None:
    send_classification(uuid.uuid4())
    taker.take()
    taker.held.pop().reject(requeue=True)
    taker.take()
    assert taker.order == [INFERENCE, INFERENCE]


def test_only_jobs_that_no_message_is_about_are_found(queue: Flask, broker: Broker) -> None:
    analysis, delivery, lost = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    send_classification(analysis)
    send_delivery(delivery)
    assert without_message(INFERENCE, [analysis, lost]) == [lost]
    assert without_message(DELIVERY, [delivery, lost]) == [lost]
    assert not list(queues_of(queue).names(URGENT))


def test_job_whose_message_the_broker_lost_is_found(queue: Flask, broker: Broker) -> None:
    job = uuid.uuid4()
    send_classification(job)
    broker.forget_everything()
    wait_until(lambda: without_message(INFERENCE, [job]) == [job], seconds=10, what="the loss")
    send_classification(job)
    assert without_message(INFERENCE, [job]) == []


def test_message_that_is_taken_shows_what_was_lost_before(queue: Flask, broker: Broker) -> None:
    if not isinstance(broker, RabbitBroker):
        return  # the others are read, not noted
    lost, taken, waits = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    known = queues_of(queue)
    known.sent(INFERENCE, str(lost), 1000.0)  # and the broker lost it
    send_classification(waits)
    assert without_message(INFERENCE, [lost, waits]) == []
    known.taken(INFERENCE, str(taken), 1100.0)
    assert without_message(INFERENCE, [lost, waits]) == [lost]


def test_absent_broker_is_told_and_found_again(
    app: Flask, client: FlaskClient, broker: Broker
) -> None:
    job = uuid.uuid4()
    assert client.get("/readyz").get_json()["reasons"] == []
    stop(broker)
    answer = client.get("/readyz").get_json()
    with app.app_context():
        assert not send_classification(job)
        assert without_message(INFERENCE, [job]) == []
    start(broker)
    assert (answer["queue"], answer["reasons"]) == (False, ["broker_unavailable"])
    assert client.get("/readyz").get_json()["reasons"] == []
    with app.app_context():
        assert send_classification(job)
        assert without_message(INFERENCE, [job]) == []


@pytest.fixture
def portal(broker: Broker, settings: Settings, app: Flask, tmp_path: Path) -> Iterator[Portal]:
    portal = Portal.of(app, settings, broker, tmp_path)
    yield portal
    portal.stop_all()


# With Redis tests/integration/test_worker.py and test_broker_stalls.py do the same.
@pytest.mark.parametrize("kept_broker", ["valkey", "rabbitmq"], indirect=True)
def test_each_study_is_done_once_though_worker_and_broker_die(
    portal: Portal, broker: Broker
) -> None:
    account = portal.make_user()
    worker = portal.start_worker()
    studies = [portal.submit(account, ALL_SAMPLES[:2]) for _number in range(3)]
    wait_until(lambda: portal.study(studies[0]).status.is_final, seconds=90, what="the first study")
    portal.kill(worker)
    studies.append(portal.submit(account, ALL_SAMPLES * 2))
    portal.start_worker()
    stop(broker)
    studies.append(portal.submit(account, ALL_SAMPLES[:1]))
    start(broker)
    studies += [portal.submit(account, ALL_SAMPLES[:1]) for _number in range(2)]
    assert {portal.wait_for_end(one, seconds=150) for one in studies} == {Status.DONE}
    for one in studies:
        predictions = portal.predictions(one)
        assert len({found.image_id for found in predictions}) == len(predictions) > 0
    with portal.app.app_context():
        wait_until(
            lambda: (
                not any(
                    list(queues_of(portal.app).names(name))
                    for name in QUEUES
                    if name != HOUSEKEEPING
                )
            ),
            seconds=30,
            what="empty queues",
        )
