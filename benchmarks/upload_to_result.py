"""How long a clinician waits for one slice, beside the model's own time, measured in one run.

Starts the whole product on embedded defaults (as `make run` does, with a home of its own), uploads
one slice at a time through the API and asks for the result until it is there.

    .venv/bin/python benchmarks/upload_to_result.py [--uploads 20]
"""

import argparse
import contextlib
import os
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import requests

REPOSITORY = Path(__file__).resolve().parent.parent
SAMPLE = REPOSITORY / "ml" / "samples" / "glioma-1.jpg"
EMAIL = "bench@example.org"
PAUSE = threading.Event()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uploads", type=int, default=20)
    uploads = parser.parse_args().uploads
    with tempfile.TemporaryDirectory(prefix="sulcus-bench-") as folder:
        home = Path(folder)
        with product(home) as address:
            session = signed_in(home)
            upload_and_wait(session, address)  # the first one waits for the model to be loaded
            waits = [upload_and_wait(session, address) for _ in range(uploads)]
        own = model_times(home, [study for study, _ in waits])
    report([seconds for _, seconds in waits], own)


@contextlib.contextmanager
def product(home: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"SULCUS_HOME": str(home), "PORT": str(port)}
    log = (home / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "deploy/local.py"], cwd=REPOSITORY, env=environment, stdout=log, stderr=log
    )
    address = f"http://127.0.0.1:{port}"
    try:
        started = time.monotonic()
        wait_for_health(address, process)
        print(f"/healthz answers after        {time.monotonic() - started:6.2f} s")
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def wait_for_health(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"{address}/healthz", timeout=5).ok:
                return
        PAUSE.wait(0.05)
    sys.exit("the product did not start")


def signed_in(home: Path) -> requests.Session:
    flask = [sys.executable, "-m", "flask", "--app", "wsgi"]
    options = {"cwd": REPOSITORY, "env": os.environ | {"SULCUS_HOME": str(home)}, "check": True}
    subprocess.run(
        [*flask, "users", "create", EMAIL, "--role", "clinician", "--password-stdin"],
        input=uuid.uuid4().hex.encode(),
        stdout=subprocess.DEVNULL,
        **options,
    )
    token = subprocess.run(
        [*flask, "tokens", "create", EMAIL], capture_output=True, text=True, **options
    ).stdout.strip()
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {token}"
    return session


def upload_and_wait(session: requests.Session, address: str) -> tuple[str, float]:
    started = time.perf_counter()
    answer = session.post(
        f"{address}/api/v1/studies", files={"files": SAMPLE.read_bytes()}, timeout=30
    )
    answer.raise_for_status()
    study = answer.json()["id"]
    while True:
        found = session.get(f"{address}/api/v1/studies/{study}", timeout=30).json()
        if found["status"] == "done":
            return study, time.perf_counter() - started
        if found["status"] in {"failed", "rejected"}:
            sys.exit(f"the study ended as {found['status']}: {found['reason']}")
        PAUSE.wait(0.02)


def model_times(home: Path, studies: list[str]) -> list[float]:
    """The time inside the predictor (preprocessing, network, heatmap), in seconds."""
    with contextlib.closing(sqlite3.connect(home / "sulcus.sqlite3")) as database:
        rows = dict(database.execute("SELECT study_id, model_ms FROM inference_job").fetchall())
    return [rows[uuid.UUID(study).hex] / 1000 for study in studies]


def report(waits: list[float], own: list[float]) -> None:
    added = [wait - model for wait, model in zip(waits, own, strict=True)]
    print(f"{'of ' + str(len(waits)) + ' uploads':28s} {'median':>8s} {'worst':>8s}")
    for name, values in (
        ("upload to result", waits),
        ("the model's own time", own),
        ("added by the portal", added),
    ):
        print(f"{name:28s} {statistics.median(values):6.3f} s {max(values):6.3f} s")
    ratio = statistics.median(wait / model for wait, model in zip(waits, own, strict=True))
    print(f"{'upload to result / model':28s} {ratio:6.2f} x")


if __name__ == "__main__":
    main()
