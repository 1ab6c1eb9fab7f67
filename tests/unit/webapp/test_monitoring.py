"""Alive, ready, counting."""

from flask.testing import FlaskClient


def test_a_running_process_is_alive(client: FlaskClient) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.get_json()) == (200, {"status": "ok"})


def test_without_a_broker_it_is_not_ready_and_says_so(client: FlaskClient) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.get_json() == {"status": "not ready", "database": True, "queue": False}


def test_requests_are_counted(client: FlaskClient) -> None:
    client.get("/healthz")
    text = client.get("/metrics").text
    assert 'endpoint="monitoring.healthz",method="GET",status="200"' in text
