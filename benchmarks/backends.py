"""What each broker and each store costs, beside Redis and beside a folder, in one run.

Starts private servers: Redis, Valkey and RabbitMQ (Debian's package), and SeaweedFS for S3, all on
this machine, so that figures show the work and not a network. Prints for each broker the time to
send a message, how many one consumer takes in a second, one at a time as a worker does, and how
long a message waits for an idle consumer; for each store the time to keep and to read one slice,
and a batch of many, each with its ratio to the first line.

    .venv/bin/python -m benchmarks.backends [--messages 1000] [--slices 200]
"""

import argparse
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from flask import Flask
from kombu import Consumer

from tests.broker import running_broker
from tests.conftest import make_settings
from tests.s3 import BUCKET, running_object_server
from webapp import create_app
from webapp.queueing import send_classification
from webapp.storage import BlobStore, open_store

BROKERS = ("redis", "valkey", "rabbitmq")
SLICE = 200_000  # bytes
WAITS = 50  # messages for an idle consumer


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--slices", type=int, default=200)
    options = parser.parse_args()
    rows = {kind: of_broker(kind, options.messages) for kind in BROKERS}
    table("broker", ("ms to send", "taken a second", "ms until taken when idle"), rows)
    rows = {kind: of_store(kind, options.slices) for kind in ("folder", "s3")}
    table("store", ("ms to keep one", "ms to read one", "ms each in a batch"), rows)


def table(first: str, names: tuple[str, ...], rows: dict[str, tuple[float, ...]]) -> None:
    """Print figures, and in brackets their ratio to those of the first row."""
    reference = next(iter(rows.values()))
    print(f"{first:10}" + "".join(f"{name:>28}" for name in names))
    for kind, figures in rows.items():
        cells = (
            f"{one:.2f} ({one / beside:.2f})"
            for one, beside in zip(figures, reference, strict=True)
        )
        print(f"{kind:10}" + "".join(f"{cell:>28}" for cell in cells), flush=True)


def of_broker(kind: str, messages: int) -> tuple[float, ...]:
    """Milliseconds to send, messages taken a second, milliseconds until an idle one takes it."""
    with running_broker(kind) as broker, tempfile.TemporaryDirectory() as folder:
        app = create_app(make_settings(Path(folder), **broker.environment))
        with app.app_context():
            sent = median(seconds(lambda: send_classification(uuid.uuid4()), messages))
        takes = Taking(app, messages)
        takes.until_all()
        waits = Taking(app, WAITS)
        thread = threading.Thread(target=waits.until_all)
        thread.start()
        moments = []
        for _number in range(WAITS):
            time.sleep(0.05)  # it is idle again
            moments.append(time.perf_counter())
            with app.app_context():
                send_classification(uuid.uuid4())
        thread.join()
        idle = median(end - start for start, end in zip(moments, waits.moments, strict=True))
    return sent * 1000, messages / takes.seconds, idle * 1000


class Taking:
    """One consumer that takes so many messages, one at a time."""

    def __init__(self, app: Flask, count: int) -> None:
        self.moments: list[float] = []
        self.seconds = 0.0
        self._celery = app.extensions["celery"]
        self._count = count

    def until_all(self) -> None:
        """Take them."""
        with self._celery.connection_for_read() as connection:
            consumer = Consumer(
                connection, self._celery.conf.task_queues, on_message=self._take, no_ack=False
            )
            consumer.qos(prefetch_count=1)
            started = time.perf_counter()
            with consumer:
                while len(self.moments) < self._count:
                    connection.drain_events(timeout=20)
            self.seconds = time.perf_counter() - started

    def _take(self, message: Any) -> None:
        self.moments.append(time.perf_counter())
        message.ack()


def of_store(kind: str, slices: int) -> tuple[float, ...]:
    """Milliseconds to keep one slice, to read it, and to keep each of a batch."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = {}
        if kind == "s3":
            server = stack.enter_context(running_object_server())
            os.environ.update(server.environment)
            address = {"SULCUS_STORAGE_URL": f"s3://{BUCKET}/measured"}
        store = open_store(make_settings(folder, **address))
        contents = [os.urandom(SLICE) for _number in range(slices)]
        keys: list[str] = []
        kept = median(seconds(lambda: keys.append(store.put(contents[len(keys)])), slices // 2))
        waiting = iter(keys)
        read = median(seconds(lambda: store.get(next(waiting)), len(keys)))
        together = sum(seconds(lambda: keep_all(store, contents[len(keys) :]), 1))
    return kept * 1000, read * 1000, together / (slices - len(keys)) * 1000


def keep_all(store: BlobStore, contents: list[bytes]) -> None:
    """Keep them in one batch."""
    with store.batch() as batch:
        for content in contents:
            batch.put(content)


def seconds(work: Callable[[], object], times: int) -> list[float]:
    """How long each call takes."""
    found = []
    for _number in range(times):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return found


if __name__ == "__main__":
    main()
