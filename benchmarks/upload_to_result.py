"""Time from upload to result for one slice, compared with the model's own time, in one run.

Starts the whole product on embedded defaults (as `make run` does, with a temporary home), uploads
one slice at a time through the API and polls for the result.

    .venv/bin/python -m benchmarks.upload_to_result [--uploads 20]
"""

import argparse
import contextlib
import sqlite3
import statistics
import tempfile
import time
import uuid
from pathlib import Path

import requests

from benchmarks.product import REPOSITORY, product, signed_in, submit, wait_until_done

SAMPLE = REPOSITORY / "ml" / "samples" / "glioma-1.jpg"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uploads", type=int, default=20)
    uploads = parser.parse_args().uploads
    with tempfile.TemporaryDirectory(prefix="sulcus-bench-") as folder:
        home = Path(folder)
        with product(home) as address:
            session = signed_in(home)
            upload_and_wait(session, address)  # the first one waits until the model is loaded
            waits = [upload_and_wait(session, address) for _ in range(uploads)]
        own = model_times(home, [study for study, _ in waits])
    report([seconds for _, seconds in waits], own)


def upload_and_wait(session: requests.Session, address: str) -> tuple[str, float]:
    started = time.perf_counter()
    study = submit(session, address, [SAMPLE.read_bytes()])
    wait_until_done(session, address, study, pause=0.02)
    return study, time.perf_counter() - started


def model_times(home: Path, studies: list[str]) -> list[float]:
    """The time inside the predictor (preprocessing, network, heatmap), in seconds."""
    with contextlib.closing(sqlite3.connect(home / "sulcus.sqlite3")) as database:
        rows = dict(database.execute("SELECT study_id, model_ms FROM analysis").fetchall())
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
