"""Studies of one slice through the whole portal, beside the bare engine, in one run.

Starts the product on embedded defaults (one web process, one worker), on the cores that the
clients and the engine use as well. Several clients upload one-slice studies through the API as
fast as they are accepted, until all are done. Prints how many studies a second that is beside
what the engine alone does with the same slices at its best batch, how long an upload takes, and
where the processor time goes. The engine is measured before and after, and the better rate
counts. Also prints how long one slice takes while nobody else is there.

    .venv/bin/python -m benchmarks.throughput [--studies 500] [--clients 8 40]
"""

import argparse
import contextlib
import itertools
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import requests

from benchmarks.product import PAUSE, REPOSITORY, product, signed_in, submit, wait_until_done
from benchmarks.series_to_result import WEB, WORKER, cpu_seconds, peak_memory
from ml.imaging import read_bytes, square_pixels
from ml.serving.predictor import Predictor

SAMPLES = sorted((REPOSITORY / "ml" / "samples").glob("*.jpg"))
BATCHES = (1, 8, 16, 32)
ALONE = 20  # uploads while nobody else is there


class Rate(NamedTuple):
    """What the engine does alone.

    Attributes:
        batch: the one with the most slices a second.
        a_slice: seconds of processor time for one slice at that batch.
        latency: median seconds of one slice at batch 1.
    """

    batch: int
    slices_a_second: float
    a_slice: float
    latency: float


class Load(NamedTuple):
    """What came of one round of uploads."""

    studies_a_second: float
    uploads: list[float]
    web: float
    worker: float
    client: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--clients", type=int, nargs="+", default=[8, 40])
    options = parser.parse_args()
    files = pictures()
    before = engine_alone(list(itertools.islice(files, 64)))
    with tempfile.TemporaryDirectory(prefix="sulcus-bench-") as folder:
        home = Path(folder)
        with product(home) as address:
            session = signed_in(home)
            first = submit(session, address, [next(files)])
            wait_until_done(session, address, first, pause=0.05)
            waits = [alone(session, address, next(files)) for _ in range(ALONE)]
            loads = {
                clients: load(
                    home, address, session, list(itertools.islice(files, options.studies)), clients
                )
                for clients in options.clients
            }
            memory = peak_memory(home, WEB), peak_memory(home, WORKER)
    after = engine_alone(list(itertools.islice(files, 64)))
    tell(max(before, after, key=lambda one: one.slices_a_second), waits, loads, memory)


def pictures() -> Iterator[bytes]:
    """Slices of which no two are the same file."""
    pixels = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in SAMPLES]
    for number in itertools.count():
        slice_ = pixels[number % len(pixels)].copy()
        marks = np.array([number >> (8 * place) & 255 for place in range(3)], np.uint8)
        slice_[0, :3] = marks
        yield cv2.imencode(".png", slice_)[1].tobytes()


def engine_alone(files: Sequence[bytes]) -> Rate:
    """The predictor on decoded slices, at each batch."""
    predictor = Predictor.load()
    predictor.warm_up()
    slices = [square_pixels(read_bytes(content)[0]) for content in files]
    found = []
    latency = statistics.median(_seconds(predictor, slices[:1]) for _ in range(20))
    for batch in BATCHES:
        started, used = time.perf_counter(), time.process_time()
        for start in range(0, len(slices), batch):
            predictor.predict(slices[start : start + batch])
        wall, cpu = time.perf_counter() - started, time.process_time() - used
        found.append(Rate(batch, len(slices) / wall, cpu / len(slices), latency))
    return max(found, key=lambda one: one.slices_a_second)


def _seconds(predictor: Predictor, slices: Sequence[object]) -> float:
    started = time.perf_counter()
    predictor.predict(slices)  # type: ignore[arg-type]
    return time.perf_counter() - started


def alone(session: requests.Session, address: str, content: bytes) -> float:
    """Seconds from an upload to its result."""
    started = time.perf_counter()
    study = submit(session, address, [content])
    wait_until_done(session, address, study, pause=0.005)
    return time.perf_counter() - started


def load(
    home: Path, address: str, session: requests.Session, files: Sequence[bytes], clients: int
) -> Load:
    """Upload each file as a study, and wait until all are done."""
    done, uploads = count_done(home), []
    token = session.headers["Authorization"]

    def upload(share: Sequence[bytes]) -> None:
        with requests.Session() as own:
            own.headers["Authorization"] = token
            for content in share:
                begun = time.perf_counter()
                submit(own, address, [content])
                uploads.append(time.perf_counter() - begun)

    before = cpu_seconds(home, WEB), cpu_seconds(home, WORKER), sum(os.times()[:2])
    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(upload, [files[number::clients] for number in range(clients)]))
    while count_done(home) < done + len(files):
        PAUSE.wait(0.05)
    wall = time.perf_counter() - started
    after = cpu_seconds(home, WEB), cpu_seconds(home, WORKER), sum(os.times()[:2])
    web, worker, client = ((end - begin) / len(files) for begin, end in zip(before, after))  # noqa: B905
    return Load(len(files) / wall, uploads, web, worker, client)


def count_done(home: Path) -> int:
    """Analyses that are done, read from the database, which costs the product nothing."""
    with contextlib.closing(sqlite3.connect(home / "sulcus.sqlite3", timeout=30)) as database:
        found: int = database.execute(
            "SELECT count(*) FROM analysis WHERE status = 'done'"
        ).fetchone()[0]
    return found


def tell(
    engine: Rate, waits: Sequence[float], loads: dict[int, Load], memory: tuple[float, float]
) -> None:
    print(f"{'the engine alone':42s} {engine.slices_a_second:8.1f} slices/s, batch {engine.batch}")
    wait = statistics.median(waits)
    print(f"{'one slice, nobody else there':42s} {wait * 1000:8.0f} ms")
    print(f"{'  over the engine':42s} {(wait - engine.latency) * 1000:8.0f} ms")
    for clients, found in loads.items():
        share = found.studies_a_second / engine.slices_a_second
        worst = sorted(found.uploads)[int(0.95 * (len(found.uploads) - 1))]
        print(f"{clients} clients, {len(found.uploads)} studies")
        print(f"{'  studies':42s} {found.studies_a_second:8.1f} a second")
        print(f"{'  share of the engine':42s} {100 * share:8.0f} %")
        print(f"{'  p95 of an upload':42s} {worst * 1000:8.0f} ms")
        for name, seconds in (
            ("web", found.web),
            ("worker", found.worker),
            ("  of that the engine", engine.a_slice),
            ("clients", found.client),
        ):
            print(f"{'  processor time a study, ' + name:42s} {seconds * 1000:8.1f} ms")
    print(f"{'peak memory, web and worker':42s} {memory[0]:5.0f} and {memory[1]:.0f} MB")


if __name__ == "__main__":
    main()
