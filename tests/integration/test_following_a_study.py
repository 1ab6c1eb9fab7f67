"""One upload is followed through all processes: in traces, logs, metrics and on the page."""

import json
import socket
import uuid
from pathlib import Path
from typing import Any

import pytest
import requests

from config import VERSION
from tests.collector import Collector, running_collector
from tests.factories import SAMPLE
from tests.portal import Portal
from tests.waiting import wait_until
from webapp.operating.state import State

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]
MARK = "Zebrafink4711"
REQUEST_ID = uuid.uuid4().hex


def lines(portal: Portal, process: str) -> list[dict[str, Any]]:
    (path,) = portal.folder.glob(f"{process}-*.log")
    found = []
    for line in path.read_text().splitlines():
        if line.startswith("{"):
            found.append(json.loads(line))
    return found


def upload(portal: Portal, address: str) -> uuid.UUID:
    token = portal.token(portal.make_user().email)
    answer = requests.post(
        f"{address}/api/v1/studies?note={MARK}",
        headers={"Authorization": f"Bearer {token}", "X-Request-ID": REQUEST_ID},
        files={"files": (f"{MARK}.jpg", SAMPLE.read_bytes())},
        data={"patient_code": MARK, "description": MARK},
        timeout=30,
    )
    assert answer.status_code == 202, answer.text
    assert answer.headers["X-Request-ID"] == REQUEST_ID
    return uuid.UUID(answer.json()["id"])


def check_spans(collector: Collector, analysis_id: uuid.UUID) -> None:
    wait_until(lambda: collector.named("sulcus.classify_study"), seconds=20, what="the last span")
    (upload,) = collector.named("POST /api/v1/studies")
    (sent,) = collector.named("send sulcus.classify_study")
    (task,) = collector.named("sulcus.classify_study")
    (kept,) = collector.named("keep the answer")
    assert {one.trace_id for one in (sent, task, kept)} == {upload.trace_id}
    assert sent.parent_span_id != b""
    assert task.parent_span_id == sent.span_id
    assert kept.parent_span_id == task.span_id
    facts = {one.key: one.value.string_value for one in task.attributes}
    assert facts["sulcus.job"] == str(analysis_id)
    assert facts["sulcus.request"] == REQUEST_ID


def test_upload_is_followed_to_its_result(portal: Portal, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with running_collector() as collector:
        portal.environment |= {
            "SULCUS_OTLP_ENDPOINT": collector.address,
            "SULCUS_LOG_FORMAT": "json",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        address = portal.start_web()
        metrics = {
            "SULCUS_METRICS_PORT": str(port),
            "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
        }
        celery = ["celery", "--quiet", "-A", "worker.app", "worker", "--loglevel", "INFO"]
        options = ["--concurrency", "1", "--without-gossip", "--without-mingle"]
        portal.run("worker", [*celery, *options], **metrics)
        study_id = upload(portal, address)
        portal.wait_for_end(study_id)
        analysis_id = portal.analysis(study_id).id
        check_spans(collector, analysis_id)
        assert MARK.encode() not in collector.everything
        check_metrics(portal, port)
    check_logs(portal, analysis_id)


def check_logs(portal: Portal, analysis_id: uuid.UUID) -> None:
    web, worker = lines(portal, "web"), lines(portal, "worker")
    accesses = [one for one in web if '"POST /api/v1/studies HTTP/1.1" 202' in one["message"]]
    assert REQUEST_ID in accesses[0]["message"]
    (done,) = (one for one in worker if one["message"].startswith(f"analysis {analysis_id}: 1 "))
    assert (done["request_id"], done["job"]) == (REQUEST_ID, str(analysis_id))
    assert done["trace_id"]
    assert MARK not in json.dumps(web + worker)


def check_metrics(portal: Portal, port: int) -> None:
    text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    assert 'sulcus_tasks_total{state="SUCCESS",task="sulcus.classify_study"} 1.0' in text
    assert "sulcus_storage_io_bytes_total" in text
    with portal.app.app_context():
        state = State()
        (known,) = state.workers or ()
        assert (known.is_alive, known.version, known.device) == (True, VERSION, "auto")
        assert "inference" in known.queues
        assert {one.name: one.messages for one in state.queues}["inference"] == 0
