"""Drift: how far the studies of a week lie from those that came before.

Every test has a distance beside its p value: with enough studies any difference is significant.
From a distance is taken what chance alone makes of it at these numbers, so that weeks of few and
of many studies have the same thresholds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist, jensenshannon
from scipy.stats import chi2_contingency, false_discovery_control, fisher_exact, ks_2samp

from ml.labels import LABELS
from ml.serving.observation import (
    ANSWER_STATISTICS,
    FEATURES,
    IMAGE_STATISTICS,
    STATISTICS,
    Family,
    Sample,
)

FEWEST_STUDIES = 20
"""Studies of a week below which nothing is said."""

_MOST_IN_KERNEL = 300  # of each sample; the kernel has the square of their sum
_PERMUTATIONS = (200, 4000)  # the smallest p has to survive the correction for all tests
_DOUBTFUL = 0.02
_KS_OF_CHANCE = 0.8687  # mean of Kolmogorov's distribution
_SEED = 20261123

Matrix = npt.NDArray[np.float64]


class Level(IntEnum):
    """How far a statistic of one week lies from the baseline."""

    LOW = 0  # an alarm may end
    BETWEEN = 1  # neither ends nor raises one
    HIGH = 2  # raises one if it is so in two of three weeks
    EXTREME = 3  # raises one at once


@dataclass(frozen=True)
class Limits:
    """Distances from which a level begins."""

    lower: float
    upper: float
    extreme: float

    def level(self, distance: float, *, is_significant: bool) -> Level:
        """Of a distance; what may well be chance is never high."""
        if distance < self.lower:
            return Level.LOW
        if not is_significant or distance < self.upper:
            return Level.BETWEEN
        return Level.HIGH if distance < self.extreme else Level.EXTREME


@dataclass(frozen=True)
class Thresholds:
    """When a difference counts (docs/decisions/0049 has how they were found).

    Attributes:
        rate: false discovery rate of all tests of a week together (Benjamini and Hochberg 1995).
    """

    rate: float
    curves: Limits  # Kolmogorov and Smirnov's distance
    clouds: Limits  # root of the squared maximum mean discrepancy
    classes: Limits  # Jensen and Shannon's distance, base 2
    shares: Limits  # difference of two shares


OWN = Thresholds(
    rate=0.01,
    curves=Limits(0.15, 0.25, 0.35),
    clouds=Limits(0.10, 0.18, 0.28),
    classes=Limits(0.10, 0.20, 0.30),
    shares=Limits(0.10, 0.20, 0.30),
)
"""Against the installation's own baseline."""
PUBLISHED = Thresholds(
    rate=0.01,
    curves=Limits(0.40, 0.55, 0.70),
    clouds=Limits(0.35, 0.50, 0.65),
    classes=Limits(0.40, 0.60, 0.80),
    shares=Limits(0.30, 0.45, 0.60),
)
"""Against the published reference: hospitals differ from it, and from one another, by nature."""


@dataclass(frozen=True)
class Figure:
    """One statistic of a week beside the baseline.

    Attributes:
        distance: what is left of it without the part of chance, 0 or more.
        p: probability of such a distance or a larger one by chance.
        now, before: mean, or share, of the week and of the baseline.
        limits: that the level was judged by.
    """

    statistic: str
    family: Family
    distance: float
    p: float
    now: float
    before: float
    level: Level = Level.LOW
    limits: Limits | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "statistic": self.statistic,
            "family": self.family.value,
            "distance": round(self.distance, 4),
            "p": float(f"{self.p:.3g}"),
            "now": round(self.now, 4),
            "before": round(self.before, 4),
            "level": int(self.level),
            "limits": [*vars(self.limits).values()] if self.limits else None,
        }


def compare(
    week: Sample, baseline: Sample, thresholds: Thresholds, families: Sequence[Family]
) -> list[Figure]:
    """All statistics of the wanted families that both samples have.

    Args:
        week: one slice a study, as :class:`ml.serving.observation.Sample` says.

    Raises:
        ValueError: a sample is empty.
    """
    if not len(week) or not len(baseline):
        raise ValueError("an empty sample cannot be compared")
    found = [
        (figure, limits)
        for family, (compute, limits) in _tests(thresholds).items()
        if family in families
        for figure, limits in compute(week, baseline, limits)
    ]
    if not found:
        return []
    adjusted = false_discovery_control([figure.p for figure, _limits in found])
    return [
        replace(
            figure,
            level=limits.level(figure.distance, is_significant=p <= thresholds.rate),
            limits=limits,
        )
        for (figure, limits), p in zip(found, adjusted, strict=True)
    ]


def levels_of(figures: Sequence[Mapping[str, Any]]) -> dict[Family, Level]:
    """The highest level of each family among :meth:`Figure.plain`."""
    found: dict[Family, Level] = {}
    for one in figures:
        family = Family(one["family"])
        found[family] = max(found.get(family, Level.LOW), Level(one["level"]))
    return found


Found = Sequence[tuple[Figure, Limits]]
Test = Callable[[Sample, Sample, Limits], Found]


def _tests(thresholds: Thresholds) -> dict[Family, tuple[Test, Limits]]:
    return {
        Family.IMAGE: (lambda *given: [*_image(*given), _image_cloud(given, thresholds)],
                       thresholds.curves),
        Family.FEATURES: (_features, thresholds.clouds),
        Family.LABELS: (_labels, thresholds.classes),
        Family.DOUBT: (lambda *given: [*_answers(*given), *_doubt(given, thresholds)],
                       thresholds.curves),
        Family.OVERRIDES: (_overrides, thresholds.shares),
    }  # fmt: skip


def _image(week: Sample, baseline: Sample, limits: Limits) -> list[tuple[Figure, Limits]]:
    return [(_curve(one, Family.IMAGE, week, baseline), limits) for one in IMAGE_STATISTICS]


def _answers(week: Sample, baseline: Sample, limits: Limits) -> list[tuple[Figure, Limits]]:
    # Of the size of the set, which takes few values, the share of sets of several is tested.
    wanted = [one for one in ANSWER_STATISTICS if one != "set_size"]
    return [(_curve(one, Family.DOUBT, week, baseline), limits) for one in wanted]


def _image_cloud(
    given: tuple[Sample, Sample, Limits], thresholds: Thresholds
) -> tuple[Figure, Limits]:
    week, baseline, _limits = given
    columns = slice(0, len(IMAGE_STATISTICS))
    figure = _cloud("image_together", Family.IMAGE, *_scaled(week, baseline, columns))
    return figure, thresholds.clouds


def _features(week: Sample, baseline: Sample, limits: Limits) -> list[tuple[Figure, Limits]]:
    columns = slice(len(STATISTICS) - FEATURES, len(STATISTICS))
    one, other = _scaled(week, baseline, columns)
    known = ~(np.isnan(one).any(0) | np.isnan(other).any(0))
    if not known.any():
        return []
    return [(_cloud("features", Family.FEATURES, one[:, known], other[:, known]), limits)]


def _labels(week: Sample, baseline: Sample, limits: Limits) -> list[tuple[Figure, Limits]]:
    names = [label.value for label in LABELS]
    counts = np.array([[one.labels.count(name) for name in names] for one in (week, baseline)])
    present = counts[:, counts.sum(0) > 0]
    p = float(chi2_contingency(present).pvalue) if present.shape[1] > 1 else 1.0
    far = float(jensenshannon(counts[0] / len(week), counts[1] / len(baseline), base=2))
    far = 0.0 if np.isnan(far) else far  # of equal shares, by rounding
    chance = np.sqrt((len(names) - 1) / (8 * np.log(2)) * _chance(len(week), len(baseline)))
    tumours = [1 - count[names.index("no_tumor")] / count.sum() for count in counts]
    figure = Figure("labels", Family.LABELS, _beyond(far, float(chance)), p, *tumours)
    return [(figure, limits)]


def _doubt(
    given: tuple[Sample, Sample, Limits], thresholds: Thresholds
) -> list[tuple[Figure, Limits]]:
    week, baseline, _limits = given
    pairs = {
        "several_classes": (week.several, baseline.several),
        "unfamiliar": (week.unfamiliar, baseline.unfamiliar),
    }
    return [
        (
            _share(name, Family.DOUBT, (sum(one), len(one)), (sum(other), len(other))),
            thresholds.shares,
        )
        for name, (one, other) in pairs.items()
    ]


def _overrides(week: Sample, baseline: Sample, limits: Limits) -> list[tuple[Figure, Limits]]:
    if min(week.overrides[1], baseline.overrides[1]) < FEWEST_STUDIES:
        return []
    return [(_share("overrides", Family.OVERRIDES, week.overrides, baseline.overrides), limits)]


def _curve(name: str, family: Family, week: Sample, baseline: Sample) -> Figure:
    one, other = week.column(name), baseline.column(name)
    result = ks_2samp(one, other, method="asymp")
    chance = _KS_OF_CHANCE * np.sqrt(_chance(len(one), len(other)))
    return Figure(
        name,
        family,
        _beyond(float(result.statistic), float(chance)),
        float(result.pvalue),
        float(one.mean()),
        float(other.mean()),
    )


def _cloud(name: str, family: Family, one: Matrix, other: Matrix) -> Figure:
    """Maximum mean discrepancy (Gretton et al. 2012, JMLR 13) with a Gaussian kernel.

    Its width is the median distance; the p value comes from permutations. The estimate has no
    bias, so that nothing of chance has to be taken from it.
    """
    random = np.random.default_rng(_SEED)
    one, other = _some(one, random), _some(other, random)
    squares = cdist(together := np.concatenate([one, other]), together, "sqeuclidean")
    upper = squares[np.triu_indices(len(squares), 1)]
    kernel = np.exp(-squares / max(float(np.median(upper)), 1e-12))
    np.fill_diagonal(kernel, 0)
    squared = _discrepancies(kernel, _member(len(together), len(one)))[0]
    p = 1.0
    for times in _PERMUTATIONS:  # more of them only where a few leave a doubt
        member = np.column_stack(
            [_member(len(together), len(one), random) for _time in range(times)]
        )
        by_chance = _discrepancies(kernel, member)
        p = float((1 + (by_chance >= squared).sum()) / (1 + times))
        if p > _DOUBTFUL:
            break
    return Figure(name, family, float(np.sqrt(max(float(squared), 0.0))), p, 0.0, 0.0)


def _member(all_of_them: int, first: int, random: np.random.Generator | None = None) -> Matrix:
    """(N, 1) 1 for those in the first sample: the first ones, or as many at random."""
    order = np.arange(all_of_them) if random is None else random.permutation(all_of_them)
    return (order < first).astype(np.float64)[:, None]


def _discrepancies(kernel: Matrix, member: Matrix) -> Matrix:
    """Of each column's split into two samples, the squared discrepancy without bias.

    Args:
        kernel: (N, N) with zeros on its diagonal.
        member: (N, P) 1 where one belongs to the first sample, else 0.
    """
    rest = 1 - member
    first, second = member.sum(0), rest.sum(0)
    product = kernel @ member
    within = (member * product).sum(0)
    across = (rest * product).sum(0)
    others = kernel.sum() - within - 2 * across
    result: Matrix = (
        within / (first * (first - 1))
        + others / (second * (second - 1))
        - 2 * across / (first * second)
    )
    return result


def _share(name: str, family: Family, one: tuple[int, int], other: tuple[int, int]) -> Figure:
    """Fisher's exact test of two shares, each as (number, of)."""
    table = [[one[0], one[1] - one[0]], [other[0], other[1] - other[0]]]
    now, before = one[0] / one[1], other[0] / other[1]
    both = (one[0] + other[0]) / (one[1] + other[1])
    # Mean of the difference's absolute value: sqrt(2 / pi) standard deviations.
    chance = np.sqrt(2 / np.pi * both * (1 - both) * _chance(one[1], other[1]))
    p = float(fisher_exact(table).pvalue)
    return Figure(name, family, _beyond(abs(now - before), float(chance)), p, now, before)


def _scaled(week: Sample, baseline: Sample, columns: slice) -> tuple[Matrix, Matrix]:
    """By the baseline's mean and deviation; far outliers count as 5 deviations."""
    one = week.figures[:, columns].astype(np.float64)
    other = baseline.figures[:, columns].astype(np.float64)
    mean, deviation = other.mean(0), np.maximum(other.std(0), 1e-6)
    return np.clip((one - mean) / deviation, -5, 5), np.clip((other - mean) / deviation, -5, 5)


def _some(values: Matrix, random: np.random.Generator) -> Matrix:
    if len(values) <= _MOST_IN_KERNEL:
        return values
    chosen: Matrix = values[random.choice(len(values), _MOST_IN_KERNEL, replace=False)]
    return chosen


def _chance(one: int, other: int) -> float:
    return 1 / one + 1 / other


def _beyond(distance: float, chance: float) -> float:
    return max(0.0, distance - chance)


def is_raised(was_raised: bool, levels: Sequence[Level], *, is_over: bool) -> bool:
    """Whether there is an alarm after the newest week: it rises soon and ends late.

    It is raised by one extreme week, or by two high ones of the last three; it ends with a whole
    week that is low. Between the two it stays as it is.

    Args:
        levels: of the weeks with enough studies, oldest first; the newest may be under way.
        is_over: whether the newest week is over.
    """
    if not levels:
        return was_raised
    newest = levels[-1]
    if was_raised:
        return not (is_over and newest is Level.LOW)
    often = sum(level >= Level.HIGH for level in levels[-3:]) >= 2
    return newest is Level.EXTREME or (newest >= Level.HIGH and often)
