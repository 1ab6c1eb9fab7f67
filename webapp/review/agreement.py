"""How far readers agree: Cohen's and Fleiss' kappa and Krippendorff's alpha, with intervals.

All three are functions of sums over what was read, so they are computed from one table of counts
for each patient. Intervals come from a bootstrap over patients (2,000 draws, 95 %): slices of one
patient resemble each other, and drawing slices would make the intervals too narrow.

The formulas are written out here, a few lines each. The packages that have them would bring SciPy
and pandas into the web image (scikit-learn, statsmodels), or the terms of the GPL (krippendorff).

Sources: J. Cohen, Educational and Psychological Measurement 20 (1960), 37-46; J. L. Fleiss,
Psychological Bulletin 76 (1971), 378-382; K. Krippendorff, Computing Krippendorff's
Alpha-Reliability (2011), nominal data with values missing.
"""

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

DRAWS = 2000
_FEWEST_PATIENTS = 2
"""Below them no interval: there is nothing to draw from."""

Counts = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """One reader's diagnosis of one slice, or of one study as a whole.

    Attributes:
        unit: what was read.
        month: ``2026-07``.
    """

    unit: uuid.UUID
    patient_id: uuid.UUID
    reader_id: uuid.UUID
    label: str
    month: str = ""


@dataclass(frozen=True)
class Estimate:
    """A coefficient: 1 for perfect agreement, 0 for what chance gives.

    Attributes:
        value: None where there is nothing to compute it from: no unit with two readings, or all
            readings the same.
        interval: of 95 %; None where patients are too few.
        units: number with at least two readings.
    """

    value: float | None
    interval: tuple[float, float] | None
    units: int


@dataclass(frozen=True)
class Agreement:
    """How far readers agree about a set of readings."""

    alpha: Estimate
    fleiss: Estimate


def agreement(readings: Sequence[Reading]) -> Agreement:
    """Fleiss' kappa and Krippendorff's alpha; both take different numbers of readers a unit.

    Fleiss' kappa is his where all units have the same number of readings; otherwise shares are
    taken over all readings, and the units' agreements are averaged.
    """
    tables = _tables(readings)
    return Agreement(
        alpha=_estimate(tables, _coincidences, _alpha),
        fleiss=_estimate(tables, _fleiss_sums, _fleiss),
    )


def agreement_by_class(readings: Sequence[Reading]) -> dict[str, Agreement]:
    """For each diagnosis: how far readers agree whether it is that one or another."""
    return {
        label: agreement([_either(one, label) for one in readings])
        for label in sorted({one.label for one in readings})
    }


def agreement_by_month(readings: Sequence[Reading]) -> dict[str, Agreement]:
    """By the month in which a unit was last read."""
    last: dict[uuid.UUID, str] = {}
    for one in readings:
        last[one.unit] = max(one.month, last.get(one.unit, ""))
    months: dict[str, list[Reading]] = defaultdict(list)
    for one in readings:
        months[last[one.unit]].append(one)
    return {month: agreement(months[month]) for month in sorted(months)}


def kappa_by_pair(
    readings: Iterable[Reading],
) -> dict[tuple[uuid.UUID, uuid.UUID], Estimate]:
    """Cohen's kappa of every two readers who have read a unit in common."""
    found: dict[tuple[uuid.UUID, uuid.UUID], list[tuple[uuid.UUID, str, str]]] = defaultdict(list)
    for unit in _by_unit(readings):
        for first, second in combinations(sorted(unit, key=lambda one: one.reader_id), 2):
            both = (first.patient_id, first.label, second.label)
            found[first.reader_id, second.reader_id].append(both)
    return {pair: _cohen_of(both) for pair, both in found.items()}


def cohen_kappa(confusion: npt.ArrayLike) -> float | None:
    """Cohen's kappa of a square table of counts; None if both readers know one label alone."""
    return _value(_cohen(np.asarray(confusion, np.float64)[None])[0])


def fleiss_kappa(counts: npt.ArrayLike) -> float | None:
    """Fleiss' kappa of a table of units by labels; None if all readings are the same."""
    return _value(_fleiss(_fleiss_sums(np.asarray(counts, np.float64)).sum(0)[None])[0])


def krippendorff_alpha(counts: npt.ArrayLike) -> float | None:
    """Krippendorff's alpha (nominal) of a table of units by labels; None if there is one label."""
    return _value(_alpha(_coincidences(np.asarray(counts, np.float64)).sum(0)[None])[0])


def _cohen_of(both: Sequence[tuple[uuid.UUID, str, str]]) -> Estimate:
    labels = sorted({label for _patient, *said in both for label in said})
    number = {label: n for n, label in enumerate(labels)}
    tables: dict[uuid.UUID, Counts] = {}
    for patient_id, first, second in both:
        table = tables.setdefault(patient_id, np.zeros((1, len(labels), len(labels))))
        table[0, number[first], number[second]] += 1
    return _estimate(list(tables.values()), lambda table: table, _cohen, units=len(both))


def _either(one: Reading, label: str) -> Reading:
    said = label if one.label == label else "another"
    return Reading(one.unit, one.patient_id, one.reader_id, said, one.month)


def _by_unit(readings: Iterable[Reading]) -> list[list[Reading]]:
    units: dict[uuid.UUID, list[Reading]] = defaultdict(list)
    for one in readings:
        units[one.unit].append(one)
    return [unit for unit in units.values() if len(unit) > 1]


def _tables(readings: Sequence[Reading]) -> list[Counts]:
    """For each patient (units, labels): how often each label was given."""
    number = {label: n for n, label in enumerate(sorted({one.label for one in readings}))}
    rows: dict[uuid.UUID, list[Counts]] = defaultdict(list)
    for unit in _by_unit(readings):
        row = np.zeros(len(number))
        for one in unit:
            row[number[one.label]] += 1
        rows[unit[0].patient_id].append(row)
    return [np.stack(some) for some in rows.values()]


def _estimate(
    tables: Sequence[Counts],
    sums_of: Callable[[Counts], Counts],
    figure: Callable[[Counts], Counts],
    *,
    units: int | None = None,
) -> Estimate:
    """A figure of the sums over all patients, and of sums over patients who are drawn.

    Args:
        tables: of each patient.
        sums_of: for each unit of a table what is to be added up.
        figure: of added-up counts, many at a time; NaN where there is none.
    """
    if units is None:
        units = sum(len(table) for table in tables)
    if not tables:
        return Estimate(None, None, 0)
    sums = np.stack([sums_of(table).sum(axis=0) for table in tables])
    value = _value(figure(sums.sum(axis=0)[None])[0])
    if value is None or len(sums) < _FEWEST_PATIENTS:
        return Estimate(value, None, units)
    weights = np.random.default_rng(0).multinomial(  # the same page twice, the same interval
        len(sums), np.full(len(sums), 1 / len(sums)), DRAWS
    )
    drawn = figure(np.tensordot(weights.astype(np.float64), sums, axes=1))
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Estimate(value, None, units)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(value, (float(low), float(high)), units)


def _coincidences(counts: Counts) -> Counts:
    """(units, labels) to (units, labels, labels), Krippendorff's coincidences of each unit."""
    size = counts.sum(axis=1)
    pairs = counts[:, :, None] * counts[:, None, :]
    pairs -= counts[:, :, None] * np.eye(counts.shape[1])
    return np.asarray(
        np.where(size > 1, 1 / np.maximum(size - 1, 1), 0.0)[:, None, None] * pairs, np.float64
    )


def _alpha(coincidences: Counts) -> Counts:
    """(draws, labels, labels) to (draws,)."""
    shares = coincidences.sum(axis=2)
    total = shares.sum(axis=1)
    agreeing = np.trace(coincidences, axis1=1, axis2=2)
    by_chance = total**2 - (shares**2).sum(axis=1)
    return 1 - _divided((total - 1) * (total - agreeing), by_chance)


def _fleiss_sums(counts: Counts) -> Counts:
    """(units, labels) to (units, labels + 2): the counts, the unit's agreement, and one."""
    size = counts.sum(axis=1)
    same = _divided((counts**2).sum(axis=1) - size, size * (size - 1))
    return np.column_stack([counts, same, np.ones(len(counts))])


def _fleiss(sums: Counts) -> Counts:
    """(draws, labels + 2) to (draws,)."""
    counts, same, units = sums[:, :-2], sums[:, -2], sums[:, -1]
    shares = _divided(counts, counts.sum(axis=1, keepdims=True))
    by_chance = (shares**2).sum(axis=1)
    return _divided(_divided(same, units) - by_chance, 1 - by_chance)


def _cohen(confusion: Counts) -> Counts:
    """(draws, labels, labels) to (draws,)."""
    total = confusion.sum(axis=(1, 2))
    observed = _divided(np.trace(confusion, axis1=1, axis2=2), total)
    first, second = confusion.sum(axis=2), confusion.sum(axis=1)
    by_chance = _divided((first * second).sum(axis=1), total**2)
    return _divided(observed - by_chance, 1 - by_chance)


def _divided(above: Counts, below: Counts) -> Counts:
    """NaN where nothing is to be divided by; chance alone may explain everything."""
    above, below = np.broadcast_arrays(above, below)
    out = np.full(above.shape, np.nan)
    np.divide(above, below, out=out, where=np.abs(below) > 1e-12)
    return out


def _value(figure: np.float64 | float) -> float | None:
    return float(figure) if np.isfinite(figure) else None


def mean_of_pairs(
    kappas: Mapping[tuple[uuid.UUID, uuid.UUID], Estimate], reader_id: uuid.UUID
) -> float | None:
    """A reader's mean kappa with the others, weighted by what they read in common."""
    own = [
        (one.value, one.units)
        for pair, one in kappas.items()
        if reader_id in pair and one.value is not None
    ]
    total = sum(units for _value, units in own)
    return sum(value * units for value, units in own) / total if total else None
