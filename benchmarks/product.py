"""Start the whole product on embedded defaults and call its API, for benchmarks."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

REPOSITORY = Path(__file__).resolve().parent.parent
EMAIL = "bench@example.org"
PASSWORD = uuid.uuid4().hex
PAUSE = threading.Event()


@contextlib.contextmanager
def product(home: Path, **settings: str) -> Iterator[str]:
    """Start the product as `make run` does, with ``home`` as its data folder; yield its URL.

    Args:
        settings: further variables of the environment.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = (
        os.environ
        | {
            "SULCUS_HOME": str(home),
            "PORT": str(port),
            "SULCUS_DICOM_PORT": "0",
        }
        | settings
    )
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
    """Wait until the web server answers; end the program if it does not."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"{address}/healthz", timeout=5).ok:
                return
        PAUSE.wait(0.05)
    sys.exit("the product did not start")


def signed_in(home: Path, email: str = EMAIL, role: str = "clinician") -> requests.Session:
    """A session that carries the bearer token of a new account."""
    flask = [sys.executable, "-m", "flask", "--app", "wsgi"]
    options: dict[str, Any] = {
        "cwd": REPOSITORY,
        "env": os.environ | {"SULCUS_HOME": str(home)},
        "check": True,
    }
    subprocess.run(
        [*flask, "users", "create", email, "--role", role, "--password-stdin"],
        input=PASSWORD.encode(),
        stdout=subprocess.DEVNULL,
        **options,
    )
    token = subprocess.run(
        [*flask, "tokens", "create", email], capture_output=True, text=True, **options
    ).stdout.strip()
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {token}"
    return session


def submit(session: requests.Session, address: str, files: list[bytes]) -> str:
    """Upload files as one study and return its id."""
    parts = [("files", (f"{number}", content)) for number, content in enumerate(files)]
    answer = session.post(f"{address}/api/v1/studies", files=parts, timeout=300)
    answer.raise_for_status()
    identifier: str = answer.json()["id"]
    return identifier


def wait_until_done(session: requests.Session, address: str, study: str, pause: float) -> None:
    """Poll every ``pause`` seconds until the study is done; end the program if it fails."""
    while True:
        found = session.get(f"{address}/api/v1/studies/{study}", timeout=30).json()
        if found["status"] == "done":
            return
        if found["status"] in {"failed", "rejected"}:
            sys.exit(f"the study ended as {found['status']}: {found['reason']}")
        PAUSE.wait(pause)
