"""With database and broker there, the portal is ready and sends its jobs."""

import uuid

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from config import Settings
from webapp.queueing import send_classification

pytestmark = pytest.mark.integration


@pytest.fixture
def broker_url(redis_url: str) -> str:
    return redis_url


def test_with_a_broker_it_is_ready(client: FlaskClient) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.get_json() == {"status": "ok", "database": True, "queue": True}


def test_a_message_holds_the_id_of_its_job(app: Flask) -> None:
    settings: Settings = app.extensions["settings"]
    analysis_id = uuid.uuid4()
    with redis.Redis.from_url(settings.redis_url) as broker:
        broker.flushall()
        with app.app_context():
            assert send_classification(analysis_id)
        (message,) = broker.lrange("celery", 0, -1)
        broker.flushall()
    assert b"sulcus.classify_study" in message
