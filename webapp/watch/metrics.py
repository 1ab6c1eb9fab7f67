"""What the watch tells Prometheus: the largest figure of all organisations, without their names."""

from collections.abc import Iterable, Iterator
from datetime import timedelta

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from ml.serving.observation import Family
from webapp.database import db, now
from webapp.tenancy import unscoped
from webapp.watch.models import EVERYTHING, DriftAlarm, DriftRun

_RECENT = timedelta(weeks=2)


class WatchCollector(Collector):
    """Reads the newest weeks whenever it is asked; needs an application context."""

    def collect(self) -> Iterator[Metric]:
        """The gauges; of the statistics that were compared within two weeks."""
        with unscoped():
            runs = db.session.scalars(
                select(DriftRun).where(
                    DriftRun.scope == EVERYTHING, DriftRun.week >= (now() - _RECENT).date()
                )
            ).all()
            open_ones = db.session.execute(
                select(DriftAlarm.family, func.count())
                .where(DriftAlarm.cleared_at.is_(None))
                .group_by(DriftAlarm.family)
            ).all()
        yield _distances(runs)
        yield _alarms({family: int(count) for family, count in open_ones})
        yield _overrides(runs)


def _distances(runs: Iterable[DriftRun]) -> Metric:
    largest: dict[str, float] = {}
    for run in runs:
        for one in run.figures:
            name = str(one["statistic"])
            largest[name] = max(largest.get(name, 0.0), float(one["distance"]))
    gauge = GaugeMetricFamily(
        "sulcus_drift_distance",
        "Distance from the baseline without the part of chance, largest of two weeks",
        labels=["statistic"],
    )
    for name, value in sorted(largest.items()):
        gauge.add_metric([name], value)
    return gauge


def _alarms(counts: dict[str, int]) -> Metric:
    gauge = GaugeMetricFamily("sulcus_drift_alarm", "Open alarms", labels=["family"])
    for family in Family:
        gauge.add_metric([family.value], counts.get(family.value, 0))
    return gauge


def _overrides(runs: Iterable[DriftRun]) -> Metric:
    gauge = GaugeMetricFamily(
        "sulcus_override_ratio", "Share of the studies assessed in two weeks with a disagreement"
    )
    rows = [(run.overridden, run.assessed) for run in runs]
    assessed = sum(of for _number, of in rows)
    if assessed:
        gauge.add_metric([], sum(number for number, _of in rows) / assessed)
    return gauge
