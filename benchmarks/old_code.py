"""An upgrade without downtime, tried out: an earlier revision of the code on the newest schema.

Takes the earlier code from git, lets the present code migrate the database, and then lets the old
web and worker go on: upload, analysis, pages. Then a study that came through the old web is done by
the new worker, and the other way round. The database of PostgreSQL is emptied.

    .venv/bin/python -m benchmarks.old_code --revision REVISION [--database-url postgresql+…_test]
"""

import argparse
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import requests
from sqlalchemy import create_engine, text

from tests.broker import running_broker

NEW = Path(__file__).resolve().parents[1]
SAMPLE = NEW / "ml" / "samples" / "glioma-1.jpg"
WORKER = ["celery", "--quiet", "-A", "worker.app", "worker", "--concurrency", "1"]
EMAIL, PASSWORD = "a@example.org", secrets.token_urlsafe(16)


class Code:
    """One revision of the code, with the settings that both share."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment

    def flask(self, *command: str, said: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "wsgi", *command],
            cwd=self.folder,
            env=self.environment,
            input=said,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        return done.stdout.strip()

    @contextlib.contextmanager
    def running(self, *command: str, **further: str) -> Iterator[None]:
        with (self.folder / "process.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.folder,
                env=self.environment | further,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=60)

    @contextlib.contextmanager
    def web(self) -> Iterator[str]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        gunicorn = ("gunicorn", "--config", "deploy/gunicorn.conf.py", "wsgi:app")
        with self.running(*gunicorn, PORT=str(port)):
            address = f"http://127.0.0.1:{port}"
            wait(lambda: requests.get(f"{address}/healthz", timeout=5).ok)
            yield address


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--revision", required=True, help="of the earlier code, in git")
    parser.add_argument("--database-url")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_broker() as broker:
        home = Path(folder)
        environment = os.environ | {
            "SULCUS_HOME": str(home / "home"),
            "SULCUS_BROKER_URL": broker.url,
            "SULCUS_DATABASE_URL": options.database_url or f"sqlite:///{home}/home/sulcus.sqlite3",
        }
        if options.database_url:
            empty(options.database_url)
        old, new = (
            Code(extracted(options.revision, home / "old"), environment),
            Code(NEW, environment),
        )
        try_out(old, new)


def extracted(revision: str, folder: Path) -> Path:
    folder.mkdir()
    archive = subprocess.run(
        ["git", "archive", revision], cwd=NEW, check=True, stdout=subprocess.PIPE
    )
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return folder


def empty(url: str) -> None:
    if not url.endswith("test"):
        sys.exit("The database is emptied: its name must end in 'test'.")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
    engine.dispose()


def try_out(old: Code, new: Code) -> None:
    old.flask("db", "upgrade")
    old.flask("users", "create", EMAIL, "--role", "admin", "--password-stdin", said=PASSWORD)
    token = old.flask("tokens", "create", EMAIL).splitlines()[-1]
    print(f"old schema: {old.flask('db', 'current').split()[-1]}")
    with old.web() as address:
        with old.running(*WORKER):
            first = study_done(address, token)
            new.flask("db", "upgrade")
            print(
                f"new schema, under running old processes: {new.flask('db', 'current').split()[0]}"
            )
            second = study_done(address, token)
            look(address, [first, second])
            print("old web and old worker on the new schema: a study uploaded, done, and shown")
        with new.web() as newer, new.running(*WORKER):
            third = study_done(address, token)
            print("old web, new worker: done")
            look(newer, [first, second, third])
            print("new web: shows the studies of the old one")
        with new.web() as newer, old.running(*WORKER):
            look(address, [study_done(newer, token)])
            print("new web, old worker: done, and shown by the old web")


def study_done(address: str, token: str) -> str:
    bearer = {"Authorization": f"Bearer {token}"}
    # Another pixel each time: a picture that is known would be the study that is there already.
    content = SAMPLE.read_bytes() + secrets.token_bytes(8)
    sent = requests.post(
        f"{address}/api/v1/studies",
        headers=bearer,
        files={"files": ("a.jpg", content)},
        timeout=60,
    )
    sent.raise_for_status()
    key: str = sent.json()["id"]
    where = f"{address}/api/v1/studies/{key}"
    wait(lambda: requests.get(where, headers=bearer, timeout=20).json()["status"] == "done")
    return key


def look(address: str, studies: list[str]) -> None:
    browser = requests.Session()
    page = browser.get(f"{address}/sign-in", timeout=20)
    csrf = page.text.partition('name="csrf_token" value="')[2].partition('"')[0]
    sent = {"email": EMAIL, "password": PASSWORD, "csrf_token": csrf}
    browser.post(f"{address}/sign-in", data=sent, timeout=20).raise_for_status()
    for path in ("/", "/history", "/admin/jobs", *(f"/studies/{one}" for one in studies)):
        answer = browser.get(f"{address}{path}", timeout=20)
        assert answer.status_code == 200, (path, answer.status_code)
        assert "sign-in" not in answer.url, path


def wait(look_at: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(requests.RequestException):
            if look_at():
                return
        time.sleep(0.2)
    raise SystemExit("waited in vain; the logs are in process.log")


if __name__ == "__main__":
    main()
