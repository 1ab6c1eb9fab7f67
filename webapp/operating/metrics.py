"""The state of the installation for Prometheus. Labels have few values, and name nobody."""

import threading
import time
from collections.abc import Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from webapp.health import Trouble
from webapp.operating.state import QueueState, State, WorkerState


class StateCollector(Collector):
    """Reads the state when it is asked, at most once in ``KEPT`` seconds.

    Who calls ``/metrics`` again and again thus costs database and broker little. It needs an
    application context. What cannot be read is left out: a gap is no zero.
    """

    KEPT = 5.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: list[Metric] = []
        self._until = 0.0

    def collect(self) -> Iterator[Metric]:
        """The gauges."""
        with self._lock:
            if time.monotonic() > self._until:
                self._found = list(self._read())
                self._until = time.monotonic() + self.KEPT
            found = self._found
        yield from found

    def _read(self) -> Iterator[Metric]:
        state = State()
        found = {one.trouble for one in state.findings}
        yield _gauge(
            "sulcus_trouble",
            "1 for each reason why the portal is not ready, as /readyz names it",
            "reason",
            ((one.value, float(one in found)) for one in Trouble),
        )
        yield from _of_queues(state.queues)
        if state.workers is not None:
            yield from _of_workers(state.workers)
        if state.finished is not None:
            yield _gauge(
                "sulcus_analyses_last_hour",
                "Analyses for serving that ended within an hour, by their end",
                "status",
                ((status.value, count) for status, count in state.finished.items()),
            )
        storage = state.storage
        yield _gauge(
            "sulcus_storage_bytes",
            "The disk of the images",
            "part",
            (("used", storage.used), ("free", storage.free)),
        )
        if storage.database is not None:
            size = GaugeMetricFamily("sulcus_database_bytes", "Size of the database")
            size.add_metric([], storage.database)
            yield size


def _of_queues(queues: Iterable[QueueState]) -> Iterator[Metric]:
    shown = list(queues)
    for name, text in (
        ("messages", "Messages in the broker"),
        ("waiting", "Jobs that no worker has"),
        ("oldest_seconds", "Age of the oldest waiting job"),
        ("running", "Jobs that a worker has"),
    ):
        values = ((one.name, getattr(one, name)) for one in shown)
        yield _gauge(f"sulcus_queue_{name}", text, "queue", values)


def _of_workers(workers: Iterable[WorkerState]) -> Iterator[Metric]:
    alive = [one for one in workers if one.is_alive]
    by_device = dict.fromkeys(("auto", "cpu", "cuda"), 0)
    for one in alive:
        by_device[one.device] = by_device.get(one.device, 0) + 1
    yield _gauge("sulcus_workers", "Workers that live, by device", "device", by_device.items())
    busy = GaugeMetricFamily("sulcus_workers_busy", "Workers that live and have a task")
    busy.add_metric([], sum(bool(one.doing) for one in alive))
    yield busy


def _gauge(
    name: str, text: str, label: str, values: Iterable[tuple[str, float | None]]
) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, text, labels=[label])
    for value_of_label, value in values:
        if value is not None:
            gauge.add_metric([value_of_label], value)
    return gauge
