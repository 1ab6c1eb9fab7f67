"""Beyond one machine, by simulation: 1 to 1,000 GPU workers, a million studies a day.

A discrete-event simulation (SimPy) of web, database, broker, storage and workers. What the portal
itself takes was measured (benchmarks/service_times.py; MEASURED below). What was not measured is an
assumption: ASSUMED below, each an option, above all what a GPU does. Prints tables; with --plots
draws the pictures of docs/running/scaling.md.

    .venv/bin/python -m benchmarks.scaling [--plots docs/images] [--gpu-slices 1000] …
"""

import argparse
import math
import random
import statistics
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import simpy

# Milliseconds of processor time: benchmarks.service_times on two shared AMD EPYC cores with
# PostgreSQL 15, medians of 40 studies of one slice and 5 series of 24 slices.
MEASURED = {
    "upload": {1: (113.4, 11.5), 24: (278.3, 18.0)},  # slices: (web, database)
    "work": {1: (21.9, 4.75), 24: (148.9, 12.0)},  # slices: (worker beside the model, database)
    "question": (8.4, 1.75),  # a program or page asks for a study's state: (web, database)
    "broker": 0.5,  # a message sent
    "page": 52.0,  # a worklist, docs/running/performance.md
    "blob": 121_657,  # bytes of one file kept
}
WORKERS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
DAY = 86_400.0
URGENT, ROUTINE = 0, 1


@dataclass(frozen=True)
class Assumed:
    """What nobody has measured here; every field is an option of the command."""

    gpu_slices: float = 1000.0  # slices a second that one GPU classifies and explains
    day: float = 1e6  # studies a day
    singles: float = 0.5  # share of studies of one slice
    series: float = 0.4  # share of studies of 24 slices; the rest have 200
    urgent: float = 0.1  # share of urgent studies
    peak: float = 2.2  # the busiest hour beside the mean of the day
    questions: float = 10.0  # times that somebody asks for a study's state
    pages: float = 2.0  # worklists that are opened for a study
    web_cores: int = 64
    database_cores: int = 32  # of one primary server
    storage_gbit: float = 10.0  # a second, reads and writes together
    blobs_written: float = 3.0  # for a slice: source, picture, heatmap
    blobs_read: float = 3.0  # by the worker once, by viewers twice
    network_ms: float = 1.0  # one way between two parts, twice for each step
    gpu_hour: float = 20.0  # price of a GPU with its host in core hours
    target_seconds: float = 60.0  # that nineteen of twenty studies have to be done in


@dataclass(frozen=True)
class Demand:
    """Seconds of each part that a study of so many slices takes; bytes for the storage."""

    slices: int
    web: float
    database_in: float
    database_out: float
    broker: float
    bytes: float
    worker: float


def line(points: dict[int, tuple[float, float]], part: int, slices: int) -> float:
    """Milliseconds, by a straight line through the two sizes that were measured."""
    (low, a), (high, b) = ((n, values[part]) for n, values in sorted(points.items()))
    return a + (b - a) * (slices - low) / (high - low)


def demand(slices: int, assumed: Assumed) -> Demand:
    questions, pages = assumed.questions, assumed.pages
    ask_web, ask_database = MEASURED["question"]  # type: ignore[misc]
    upload, work = MEASURED["upload"], MEASURED["work"]
    # A question's share of the database stands for that of a page, which was not measured apart.
    asked = questions * ask_database + pages * ask_database
    return Demand(
        slices=slices,
        web=(line(upload, 0, slices) + questions * ask_web + pages * MEASURED["page"]) / 1e3,
        database_in=(line(upload, 1, slices) + asked) / 1e3,
        database_out=line(work, 1, slices) / 1e3,
        broker=2 * MEASURED["broker"] / 1e3,  # sent and taken
        bytes=slices * (assumed.blobs_written + assumed.blobs_read) * MEASURED["blob"],
        worker=line(work, 0, slices) / 1e3 + slices / assumed.gpu_slices,
    )


def mix(assumed: Assumed) -> list[tuple[float, Demand]]:
    """Studies by size, with their shares."""
    large = 1 - assumed.singles - assumed.series
    shares = ((assumed.singles, 1), (assumed.series, 24), (large, 200))
    return [(share, demand(slices, assumed)) for share, slices in shares]


def mean(assumed: Assumed, part: str) -> float:
    return sum(share * float(getattr(one, part)) for share, one in mix(assumed))


def capacities(workers: int, assumed: Assumed) -> dict[str, float]:
    """Studies a second that each part can take, were the others endless."""
    return {
        "workers": workers / mean(assumed, "worker"),
        "web": assumed.web_cores / mean(assumed, "web"),
        "database": assumed.database_cores
        / (mean(assumed, "database_in") + mean(assumed, "database_out")),
        "broker": 1 / mean(assumed, "broker"),
        "storage": assumed.storage_gbit * 1e9 / 8 / mean(assumed, "bytes"),
    }


def hourly(assumed: Assumed) -> list[float]:
    """Studies a second in each hour: quiet nights, a peak before noon and one after it."""
    shape = [
        math.exp(-(((hour - 10.5) / 2.2) ** 2)) + 0.8 * math.exp(-(((hour - 14.5) / 2.5) ** 2))
        for hour in range(24)
    ]
    top, average = max(shape), statistics.fmean(shape)
    # A constant below the shape makes the busiest hour the wanted multiple of the mean.
    base = max(0.0, (top - assumed.peak * average) / (assumed.peak - 1))
    total = sum(one + base for one in shape)
    return [assumed.day * (one + base) / total / 3600 for one in shape]


@dataclass(frozen=True)
class Waits:
    """Seconds from upload to result."""

    median: float
    p95: float
    urgent_p95: float
    busy: dict[str, float]  # share of the time


class Installation:
    """The parts as queues: each works on as many studies at once as it has cores."""

    def __init__(self, workers: int, assumed: Assumed, seed: int) -> None:
        self.clock = simpy.Environment()
        self.assumed = assumed
        self.random = random.Random(seed)
        self.sizes = mix(assumed)
        self.web = simpy.Resource(self.clock, assumed.web_cores)
        self.database = simpy.Resource(self.clock, assumed.database_cores)
        self.broker = simpy.Resource(self.clock, 1)
        self.storage = simpy.Resource(self.clock, 1)
        self.workers = simpy.PriorityResource(self.clock, workers)
        self.spent = dict.fromkeys(("web", "database", "broker", "storage", "workers"), 0.0)
        self.done: list[tuple[int, float]] = []

    def run(self, rate: float, seconds: float) -> Waits:
        """Studies come at random at a rate; those of the first fifth only warm the queues up."""
        self.clock.process(self._arrivals(rate, seconds))
        self.clock.run(until=seconds)
        spent = {name: used / seconds / self._size_of(name) for name, used in self.spent.items()}
        self.clock.run()
        waits = sorted(wait for _priority, wait in self.done)
        urgent = sorted(wait for priority, wait in self.done if priority == URGENT)
        return Waits(
            waits[len(waits) // 2],
            waits[int(0.95 * len(waits))],
            urgent[int(0.95 * len(urgent))],
            spent,
        )

    def _size_of(self, name: str) -> int:
        return int(getattr(self, name).capacity)

    def _arrivals(self, rate: float, seconds: float) -> Generator[Any, Any, None]:
        while self.clock.now < seconds:
            yield self.clock.timeout(self.random.expovariate(rate))
            self.clock.process(self._study(is_counted=self.clock.now > seconds / 5))

    def _study(self, *, is_counted: bool) -> Generator[Any, Any, None]:
        begun = self.clock.now
        (need,) = self.random.choices(
            [one for _share, one in self.sizes], [share for share, _one in self.sizes]
        )
        priority = URGENT if self.random.random() < self.assumed.urgent else ROUTINE
        written = self.assumed.blobs_written / (
            self.assumed.blobs_written + self.assumed.blobs_read
        )
        rate = self.assumed.storage_gbit * 1e9 / 8
        yield from self._use("web", self._varied(need.web))
        yield from self._use("storage", need.bytes * written / rate)
        yield from self._use("database", self._varied(need.database_in))
        yield from self._use("broker", self._varied(need.broker))
        yield from self._use("workers", self._varied(need.worker), priority)
        yield from self._use("storage", need.bytes * (1 - written) / rate)
        yield from self._use("database", self._varied(need.database_out))
        if is_counted:
            self.done.append((priority, self.clock.now - begun))

    def _use(
        self, name: str, seconds: float, priority: int | None = None
    ) -> Generator[Any, Any, None]:
        yield self.clock.timeout(2 * self.assumed.network_ms / 1e3)
        part = getattr(self, name)
        asked = part.request(priority=priority) if priority is not None else part.request()
        with asked:
            yield asked
            yield self.clock.timeout(seconds)
        self.spent[name] += seconds

    def _varied(self, seconds: float) -> float:
        """Half of it fixed and half by chance (exponential): a coefficient of variation of 0.5."""
        return seconds / 2 + self.random.expovariate(2 / seconds)


def simulate(workers: int, rate: float, assumed: Assumed, *, studies: int) -> Waits:
    return Installation(workers, assumed, seed=workers).run(rate, studies / rate)


def through_the_day(workers: int, assumed: Assumed) -> list[float]:
    """Studies that wait at the end of each hour of the second day, as a fluid."""
    capacity = min(capacities(workers, assumed).values())
    waiting, found = 0.0, []
    for _day in range(2):
        found = []
        for rate in hourly(assumed):
            waiting = max(0.0, waiting + 3600 * (rate - capacity))
            found.append(waiting)
    return found


@dataclass(frozen=True)
class Step:
    """One row of the ladder."""

    workers: int
    capacity: dict[str, float]
    bottleneck: str
    waits: Waits
    cost: float  # core hours for a thousand studies, at 80 % of the capacity in the peak


def ladder(assumed: Assumed, studies: int) -> list[Step]:
    found = []
    for workers in WORKERS:
        capacity = capacities(workers, assumed)
        bottleneck = min(capacity, key=lambda name: capacity[name])
        rate = 0.8 * capacity[bottleneck]
        waits = simulate(workers, rate, assumed, studies=studies)
        cores = assumed.web_cores + assumed.database_cores + 1
        daily = 24 * (workers * assumed.gpu_hour + cores)
        cost = daily / (rate / assumed.peak * DAY) * 1000
        found.append(Step(workers, capacity, bottleneck, waits, cost))
    return found


def million(assumed: Assumed, studies: int) -> list[tuple[int, float, Waits | None]]:
    """The wanted number of studies a day: workers, load in the peak, waits where it can hold."""
    rate = max(hourly(assumed))
    found: list[tuple[int, float, Waits | None]] = []
    for workers in sorted({*WORKERS, *range(6, 17)}):
        load = rate / capacities(workers, assumed)["workers"]
        held = rate < min(capacities(workers, assumed).values())
        waits = simulate(workers, rate, assumed, studies=studies) if held else None
        found.append((workers, load, waits))
    return found


def report(
    assumed: Assumed, steps: Sequence[Step], rows: Sequence[tuple[int, float, Waits | None]]
) -> None:
    slices = sum(share * one.slices for share, one in mix(assumed))
    print(f"A study has {slices:.1f} slices (mean). One study takes, in milliseconds:")
    for part in ("web", "database_in", "database_out", "broker", "worker"):
        print(f"  {part:14s}{1000 * mean(assumed, part):9.1f}")
    network = slices / assumed.gpu_slices / mean(assumed, "worker")
    print(f"  of the worker's time the GPU has {100 * network:.0f} %")
    print(f"  storage       {mean(assumed, 'bytes') / 1e6:9.1f} MB\n")
    rate = max(hourly(assumed))
    print(f"{assumed.day:,.0f} studies a day, {rate:.1f} a second in the busiest hour:")
    table("GPU workers", "load of the workers", "median", "95th percentile", "urgent, 95th")
    for workers, load, waits in rows:
        if waits is None:
            backlog = max(through_the_day(workers, assumed))
            row(f"{workers:,}", f"{load:.2f}", f"up to {backlog:,.0f} studies wait", "", "")
        else:
            seconds = (waits.median, waits.p95, waits.urgent_p95)
            row(f"{workers:,}", f"{load:.2f}", *(f"{one:.2f} s" for one in seconds))
    print("\nThe most that each step holds, with the other parts as assumed:")
    table(
        "GPU workers", "bottleneck", "studies a day", "95th at 80 %", "next", "core hours for 1,000"
    )
    for step in steps:
        first, second = sorted(step.capacity, key=lambda name: step.capacity[name])[:2]
        row(
            f"{step.workers:,}",
            step.bottleneck,
            f"{step.capacity[first] / assumed.peak * DAY:,.0f}",
            f"{step.waits.p95:.2f} s",
            f"{second}, at {step.capacity[second] / step.capacity[first]:.1f} times",
            f"{step.cost:.2f}",
        )
    print("\nWhat it takes to keep so many workers busy in the peak:")
    table("GPU workers", "studies a day", "web cores", "database cores", "storage", "broker")
    for step in steps:
        held = step.capacity["workers"]
        database = mean(assumed, "database_in") + mean(assumed, "database_out")
        row(
            f"{step.workers:,}",
            f"{held / assumed.peak * DAY:,.0f}",
            f"{held * mean(assumed, 'web'):,.0f}",
            f"{held * database:,.1f}",
            f"{held * mean(assumed, 'bytes') * 8 / 1e9:,.1f} Gbit/s",
            f"{held * mean(assumed, 'broker'):.2f} of one core",
        )
    print(f"\nIf a GPU were slower or faster, workers for {assumed.day:,.0f} a day at 70 % load:")
    table("slices a second of one GPU", "workers", "share of a worker's time that the GPU has")
    for slices in (100.0, 300.0, 1000.0, 3000.0):
        other = replace(assumed, gpu_slices=slices)
        workers = math.ceil(rate * mean(other, "worker") / 0.7)
        share = mean(other, "slices") / slices / mean(other, "worker")
        row(f"{slices:,.0f}", f"{workers:,}", f"{100 * share:.0f} %")


def table(*names: str) -> None:
    row(*names)
    print("|---" * len(names) + "|")


def row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |")


def draw(
    assumed: Assumed,
    steps: Sequence[Step],
    rows: Sequence[tuple[int, float, Waits | None]],
    folder: Path,
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    size = (7.2, 3.8)
    figure, axes = pyplot.subplots(figsize=size, layout="constrained")
    for name in steps[0].capacity:
        axes.loglog(
            [one.workers for one in steps],
            [one.capacity[name] / assumed.peak * DAY for one in steps],
            marker="o" if name == "workers" else "",
            label=name,
        )
    axes.axhline(assumed.day, color="grey", linestyle=":", label=f"{assumed.day:,.0f} a day")
    axes.set(xlabel="GPU workers", ylabel="studies a day", title="What each part can take")
    axes.legend()
    figure.savefig(folder / "scaling-capacity.png", dpi=110)

    figure, axes = pyplot.subplots(figsize=size, layout="constrained")
    held = [(workers, waits) for workers, _load, waits in rows if waits]
    for label, values in (
        ("95th percentile", [one.p95 for _n, one in held]),
        ("urgent, 95th percentile", [one.urgent_p95 for _n, one in held]),
        ("median", [one.median for _n, one in held]),
    ):
        axes.loglog([n for n, _one in held], values, marker="o", label=label)
    axes.set(
        xlabel="GPU workers",
        ylabel="seconds from upload to result",
        title=f"{assumed.day:,.0f} studies a day, the busiest hour",
    )
    axes.legend()
    figure.savefig(folder / "scaling-waits.png", dpi=110)

    figure, axes = pyplot.subplots(figsize=size, layout="constrained")
    enough = min(n for n, _one in held)
    for workers in sorted({max(1, enough - 3), max(1, enough - 2), max(1, enough - 1), enough}):
        axes.plot(range(1, 25), through_the_day(workers, assumed), label=f"{workers} workers")
    axes.set(
        xlabel="hour of the second day", ylabel="studies that wait", title="With too few workers"
    )
    axes.legend()
    figure.savefig(folder / "scaling-backlog.png", dpi=110)

    figure, axes = pyplot.subplots(figsize=size, layout="constrained")
    axes.loglog([one.workers for one in steps], [one.cost for one in steps], marker="o")
    axes.set(
        xlabel="GPU workers",
        ylabel="core hours for 1,000 studies",
        title="Cost at 80 % of what the bottleneck takes",
    )
    figure.savefig(folder / "scaling-cost.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for field in fields(Assumed):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default
        )
    parser.add_argument("--studies", type=int, default=20_000, help="simulated for each row")
    parser.add_argument("--plots", type=Path)
    given = vars(parser.parse_args())
    assumed = Assumed(**{field.name: given[field.name] for field in fields(Assumed)})
    begun = time.perf_counter()
    steps, rows = ladder(assumed, given["studies"]), million(assumed, given["studies"])
    report(assumed, steps, rows)
    if given["plots"]:
        draw(assumed, steps, rows, given["plots"])
    print(f"\nSimulated in {time.perf_counter() - begun:.0f} s.")


if __name__ == "__main__":
    main()
