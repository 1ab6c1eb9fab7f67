"""A whole portal for tests: database, broker, blobs and real worker processes."""

import json
import os
import socket
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import requests
from flask import Flask
from sqlalchemy import func, select, text

from config import Settings
from tests.broker import Broker
from tests.factories import Account, make_account
from tests.waiting import wait_until
from tests.warm_start import WarmProcess, run_module
from webapp.accounts.models import Role
from webapp.accounts.operations import create_token
from webapp.accounts.queries import find_user_by_address
from webapp.database import db
from webapp.intake.arrival import UploadedFile
from webapp.intake.submission import submit_files
from webapp.studies.models import Analysis, Image, Prediction, Purpose, Status, Study
from webapp.tenancy import acting_for, unscoped

REPOSITORY = Path(__file__).parents[1]
SAMPLES = REPOSITORY / "ml" / "samples"


@dataclass
class Portal:
    """The application as one process sees it, and the workers that serve it."""

    app: Flask
    environment: dict[str, str]
    folder: Path
    broker: Broker
    address: str = ""  # of the web server, once it is started
    processes: list[WarmProcess] = field(default_factory=list)
    _beats: bool = False

    @classmethod
    def of(cls, app: Flask, settings: Settings, broker: Broker, folder: Path) -> Self:
        """A portal without processes, whose logs go to ``folder``."""
        environment = os.environ | {
            "SULCUS_HOME": str(settings.home),
            "SULCUS_DATABASE_URL": settings.database_url,
            **broker.environment,
            "SULCUS_STORAGE_URL": settings.storage_url,
            "SULCUS_SECRET_KEY": settings.secret_key,
        }
        return cls(app, environment, folder, broker)

    def start_worker(self) -> WarmProcess:
        """Start a worker as `make run` does, and, once, the periodic tasks."""
        if not self._beats:
            self._beats = True
            self._start("beat", "--schedule", str(self.folder / "schedule"), "--pidfile=")
        return self._start("worker", "--concurrency", "1", "--without-gossip", "--without-mingle")

    def start_web(self) -> str:
        """Start the web server as `make run` does; return its address."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        gunicorn = ["gunicorn", "--config", "deploy/gunicorn.conf.py", "wsgi:app"]
        self.run("web", gunicorn, PORT=str(port))
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(f"{address}/healthz"), seconds=60, what="the web server")
        self.address = address
        return address

    def _start(self, kind: str, *options: str) -> WarmProcess:
        celery = ["celery", "--quiet", "-A", "worker.app"]
        return self.run(kind, [*celery, kind, "--loglevel", "INFO", *options])

    def run(self, kind: str, command: list[str], **extra: str) -> WarmProcess:
        """Start a module with its arguments; ``extra`` are further variables."""
        log = self.folder / f"{kind}-{len(self.processes)}.log"
        process = WarmProcess(command, self.environment | extra, log)
        self.processes.append(process)
        return process

    def kill(self, process: WarmProcess) -> None:
        """SIGKILL for the worker and its children, as the kernel does when memory is short."""
        process.kill()

    def stop_all(self) -> None:
        """End what is left."""
        for process in self.processes:
            if process.poll() is None:
                self.kill(process)

    def empty(self) -> None:
        """As it was when only the web server had been started. SQLite alone."""
        for process in self.processes[1:]:
            if process.poll() is None:
                self.kill(process)
        del self.processes[1:]
        self._beats = False
        self.broker.forget_everything()
        with self.app.app_context(), unscoped():
            # A study and its analysis point at one another.
            db.session.execute(text("PRAGMA defer_foreign_keys = ON"))
            for table in reversed(db.metadata.sorted_tables):
                db.session.execute(table.delete())
            db.session.commit()

    def make_user(self, role: Role = Role.CLINICIAN) -> Account:
        """An account in an organisation of its own."""
        return make_account(self.app, role, organisation=f"Hospital {uuid.uuid4().hex}")

    def token(self, email: str) -> str:
        """A new bearer token for an account."""
        with self.app.app_context():
            return create_token(user=find_user_by_address(email), name="test")[1]

    def submit(self, account: Account, paths: list[Path]) -> uuid.UUID:
        """Upload files as one study."""
        with self.app.app_context(), acting_for(account.organisation_id):
            files = [UploadedFile(path.name, path.read_bytes()) for path in paths]
            return submit_files(actor=find_user_by_address(account.email), files=files).study.id

    def analysis(self, study_id: uuid.UUID) -> Analysis:
        """The study's newest analysis for serving, as the database has it now."""
        with self.app.app_context(), unscoped():
            analysis = db.session.scalars(
                select(Analysis)
                .where(Analysis.study_id == study_id, Analysis.purpose == Purpose.SERVING)
                .order_by(Analysis.created_at.desc())
            ).first()
            assert analysis is not None
            return analysis

    def study(self, study_id: uuid.UUID) -> Study:
        """The study, as the database has it now."""
        with self.app.app_context(), unscoped():
            return db.session.get_one(Study, study_id)

    def wait_for_end(self, study_id: uuid.UUID, *, seconds: float = 90) -> Status:
        """Wait until the study is done, failed or rejected."""
        return wait_until(
            lambda: (status := self.study(study_id).status).is_final and status,
            seconds=seconds,
            what="the end of the study",
        )

    def predictions(self, study_id: uuid.UUID) -> list[Prediction]:
        """All answers for serving about the study's images, in their order."""
        with self.app.app_context(), unscoped():
            return list(
                db.session.scalars(
                    select(Prediction)
                    .join(Image)
                    .join(Analysis, Analysis.id == Prediction.analysis_id)
                    .where(Image.study_id == study_id, Analysis.purpose == Purpose.SERVING)
                    .order_by(Image.position)
                )
            )

    def everything(self) -> list[str]:
        """Every row of every table, audit included, as text."""
        with self.app.app_context(), unscoped():
            return [
                str(row)
                for table in db.metadata.sorted_tables
                for row in db.session.execute(select(table))
            ]

    def count(self, model: type) -> int:
        """Rows of a table."""
        with self.app.app_context(), unscoped():
            return db.session.scalar(select(func.count()).select_from(model)) or 0


def _answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=5).ok
    except requests.RequestException:
        return False


def command_line_answers(paths: list[Path]) -> list[dict[str, Any]]:
    """What ``python -m ml predict`` says about files."""
    done = run_module("ml", "predict", "--json", *map(str, paths))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
