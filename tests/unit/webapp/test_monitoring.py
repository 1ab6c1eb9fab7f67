"""Alive, ready, counting."""

from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from config import Settings
from tests.conftest import make_settings
from webapp import create_app
from webapp.storage import FolderStore


def test_a_running_process_is_alive(client: FlaskClient) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.get_json()) == (200, {"status": "ok"})


def test_without_a_broker_it_is_not_ready_and_says_so(client: FlaskClient) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.get_json() == {
        "status": "not ready",
        "database": True,
        "queue": False,
        "reasons": ["broker_unavailable"],
        "messages": [
            "The queue's server does not answer: uploads are kept, and analysed once it is back."
        ],
    }


def test_full_disk_makes_it_not_ready(app: Flask, client: FlaskClient) -> None:
    settings: Settings = app.extensions["settings"]
    app.extensions["settings"] = settings.model_copy(update={"least_free_bytes": 2**60})
    app.extensions["blobs"] = FolderStore(settings.storage_dir, 2**60)
    reasons = client.get("/readyz").get_json()["reasons"]
    assert "storage_full" in reasons
    assert ("database_disk_full" in reasons) == settings.database_url.startswith("sqlite")


@pytest.mark.parametrize("host", ["10.1.2.3", "10.1.2.3:8000", "[fd00::1]:8000", "[fd00::1]"])
def test_probes_may_call_by_address(tmp_path: Path, host: str) -> None:
    app = create_app(make_settings(tmp_path, SULCUS_TRUSTED_HOSTS="sulcus.example.org"))
    client = app.test_client()
    assert client.get("/healthz", headers={"Host": host}).status_code == 200
    assert client.get("/sign-in", headers={"Host": host}).status_code == 400
    assert client.get("/healthz", headers={"Host": "10.1.2.3.evil.example"}).status_code == 400


def test_requests_are_counted(client: FlaskClient) -> None:
    client.get("/healthz")
    text = client.get("/metrics").text
    assert 'endpoint="monitoring.healthz",method="GET",status="200"' in text


def test_any_word_may_be_a_method_but_not_a_label(client: FlaskClient) -> None:
    client.open("/healthz", method="ZEBRAFINK")
    text = client.get("/metrics").text
    assert "ZEBRAFINK" not in text
    assert 'method="other",status="405"' in text
