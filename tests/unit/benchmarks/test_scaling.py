"""The simulation agrees with what queues are known to do."""

from dataclasses import replace

import pytest

from benchmarks.scaling import Assumed, Installation, capacities, hourly, mean, through_the_day

SMALL = Assumed(singles=1.0, series=0.0, web_cores=1000, database_cores=1000, storage_gbit=1000.0)


def test_a_day_has_its_studies_and_its_peak() -> None:
    assumed = Assumed()
    rates = hourly(assumed)
    assert sum(rates) * 3600 == pytest.approx(assumed.day)
    assert max(rates) == pytest.approx(assumed.peak * assumed.day / 86_400, rel=0.01)


def test_parts_are_as_busy_as_their_load_says() -> None:
    rate = 0.7 * capacities(4, SMALL)["workers"]
    waits = Installation(4, SMALL, seed=1).run(rate, 3000 / rate)
    assert waits.busy["workers"] == pytest.approx(0.7, abs=0.05)
    assert waits.busy["web"] == pytest.approx(rate * mean(SMALL, "web") / 1000, rel=0.1)


def test_waiting_grows_with_load_and_urgent_studies_wait_less() -> None:
    def waits(load: float) -> tuple[float, float]:
        rate = load * capacities(2, SMALL)["workers"]
        found = Installation(2, SMALL, seed=2).run(rate, 6000 / rate)
        return found.p95, found.urgent_p95

    calm, busy = waits(0.3), waits(0.97)
    assert busy[0] > 1.2 * calm[0]
    assert busy[1] < busy[0]


def test_too_few_workers_end_the_day_with_studies_that_wait() -> None:
    assumed = replace(Assumed(), day=1e6)
    assert max(through_the_day(2, assumed)) > max(through_the_day(4, assumed)) > 0
    assert max(through_the_day(50, assumed)) == 0
