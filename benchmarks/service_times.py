"""Processor time that one study costs each part of the portal, for benchmarks/scaling.py.

Processor time and not the clock, so that other work on the machine counts little. Uploads go
through the API with a real Redis; then the worker's own steps run in this process: claim, decode,
heatmap, keep. The network is left out, for scaling.py takes its time as a parameter. With
PostgreSQL its server has to run on this machine; the database is emptied.

    .venv/bin/python -m benchmarks.service_times --database-url postgresql+psycopg://…_test
"""

import argparse
import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import redis
from flask import Flask
from sqlalchemy import text

from ml.labels import LABELS
from ml.serving.explain import overlay_png
from tests.broker import running_broker
from tests.conftest import make_settings, migrate
from tests.dicoms import axial_series
from tests.factories import SAMPLE, make_account, make_api_token
from webapp import create_app
from webapp.accounts.models import Role
from webapp.database import db
from webapp.inference import analyses, claims
from webapp.models_admin.operations import register_model
from webapp.tenancy import unscoped
from worker.decoding import Decoder, batched

SLICES = 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--studies", type=int, default=40)
    options = parser.parse_args()
    if not options.database_url.endswith("test"):
        parser.error("the database is emptied: its name must end in 'test'")
    with tempfile.TemporaryDirectory() as folder, running_broker() as broker:
        settings = make_settings(
            Path(folder), SULCUS_DATABASE_URL=options.database_url, SULCUS_BROKER_URL=broker.url
        )
        empty(options.database_url)
        migrate(settings)
        found = Measured(create_app(settings), broker.url).measure(options.studies)
    print(json.dumps(found, indent=1))


def empty(url: str) -> None:
    from sqlalchemy import create_engine

    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
    engine.dispose()


class Measured:
    """A portal, and the processes beside it whose time is looked at."""

    def __init__(self, app: Flask, broker_url: str) -> None:
        self.app = app
        self.account = make_account(app, Role.CLINICIAN)
        self.token = make_api_token(app, self.account)[1]
        address = broker_url.replace("redis+socket://", "unix://")
        with redis.Redis.from_url(address) as client:
            self.redis = psutil.Process(int(client.info("server")["process_id"]))

    def measure(self, studies: int) -> dict[str, Any]:
        one = [("a.jpg", SAMPLE.read_bytes())]
        self._upload(one)  # imports and caches
        single = self._rounds(studies, lambda: self._upload(one))
        self._work()
        single_work = self._rounds(studies, self._work_on_one)
        series = self._rounds(max(4, studies // 8), lambda: self._upload(new_series()))
        series_work = self._rounds(max(4, studies // 8), self._work_on_one)
        page = self._rounds(studies, self._poll)
        return {
            "upload of one slice": single,
            f"upload of a series of {SLICES}": series,
            "worker beside the model, one slice": single_work,
            f"worker beside the model, series of {SLICES}": series_work,
            "one question for a study's state": page,
            "bytes of one slice kept": self._bytes(),
        }

    def _rounds(self, count: int, act: Callable[[], None]) -> dict[str, float]:
        """Medians over rounds, in milliseconds of processor time, by process."""
        rows = []
        for _ in range(count):
            server = self._database_server()
            before = (time.process_time(), spent(server), spent(self.redis))
            act()
            after = (time.process_time(), spent(server), spent(self.redis))
            rows.append([1000 * (b - a) for a, b in zip(before, after, strict=True)])
        # The kernel counts other processes' time in hundredths of a second: only means tell.
        own, database, broker = zip(*rows, strict=True)
        return {
            "own": round(statistics.median(own), 2),
            "database": round(statistics.fmean(database), 2),
            "broker": round(statistics.fmean(broker), 3),
        }

    def _database_server(self) -> list[psutil.Process]:
        """All backends of this process's connections."""
        with self.app.app_context():
            rows = db.session.execute(
                text("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
            )
            return [psutil.Process(pid) for (pid,) in rows]

    def _upload(self, files: list[tuple[str, bytes]]) -> None:
        import io

        answer = self.app.test_client().post(
            "/api/v1/studies",
            headers={"Authorization": f"Bearer {self.token}"},
            data={"files": [(io.BytesIO(content), name) for name, content in files]},
        )
        assert answer.status_code == 202, answer.text
        self.last = answer.get_json()["id"]

    def _poll(self) -> None:
        answer = self.app.test_client().get(
            f"/api/v1/studies/{self.last}", headers={"Authorization": f"Bearer {self.token}"}
        )
        assert answer.status_code == 200

    def _waiting(self) -> uuid.UUID | None:
        with self.app.app_context(), unscoped():
            return db.session.scalar(
                text("SELECT id FROM analysis WHERE status = 'queued' ORDER BY created_at LIMIT 1")
            )

    def _work_on_one(self) -> None:
        key = self._waiting()
        assert key is not None
        self._work_on(uuid.UUID(str(key)))

    def _work(self) -> None:
        """The first one, which also fills caches."""
        self._work_on_one()

    def _work_on(self, analysis_id: uuid.UUID) -> None:
        """What worker/classify.py does for a study, without the network."""
        with self.app.app_context():
            claim = analyses.claim_analysis(analysis_id)
            assert claim is not None
            blobs, room = self.app.extensions["blobs"], self.app.extensions["room"]
            model = register_model(name="measured", sha256="1" * 64, card={})
            heat = np.random.default_rng(0).random((14, 14), dtype=np.float32)
            heat = cv2.resize(heat, (224, 224))
            answers, decoded = [], []
            with blobs.in_use(), Decoder(blobs, room) as decoder:
                for batch in batched(claim.images, 8):
                    opened = decoder.decode(batch)
                    decoded += [one.decoded for one in opened if one.decoded]
                    with blobs.batch() as kept:
                        answers += [
                            claims.NewPrediction(
                                image_id=one.image.id,
                                label="glioma",
                                probabilities=dict.fromkeys(LABELS, 0.25),
                                prediction_set=["glioma"],
                                in_distribution=True,
                                ood_score=0.1,
                                quality=[],
                                heatmap_key=kept.put(overlay_png(heat, one.shape)),
                            )
                            for one in opened
                        ]
                    analyses.record_progress(claim, images_done=len(answers), decoded=decoded)
                    decoded = []
                analyses.finish_analysis(
                    claim, answers=answers, problems={}, model=model, model_ms=1.0, decoded=decoded
                )

    def _bytes(self) -> int:
        folder = self.app.extensions["settings"].storage_dir
        sizes = [path.stat().st_size for path in folder.glob("??/*")]
        return round(statistics.fmean(sizes))


def new_series() -> list[tuple[str, bytes]]:
    return [(f"{n}.dcm", one) for n, one in enumerate(axial_series(SLICES, size=256))]


def spent(processes: psutil.Process | list[psutil.Process]) -> float:
    """Seconds of processor time; a process that has ended counts no more."""
    found = 0.0
    for one in processes if isinstance(processes, list) else [processes]:
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        found += times.user + times.system
    return found


if __name__ == "__main__":
    main()
