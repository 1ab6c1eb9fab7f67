"""Drift on samples whose distribution is known, and alarms that rise soon and end late."""

from dataclasses import replace

import numpy as np
import pytest

from ml.evaluation.drift import OWN, PUBLISHED, Figure, Level, compare, is_raised, levels_of
from ml.serving.observation import IMAGE_STATISTICS, STATISTICS, Family, Sample

ALL = list(Family)
LABELS = ("glioma", "meningioma", "no_tumor", "pituitary")


def drawn(studies: int, *, seed: int, several: float = 0.2, overridden: float = 0.1) -> Sample:
    random = np.random.default_rng(seed)
    return Sample(
        figures=random.normal(0, 1, (studies, len(STATISTICS))).astype(np.float32),
        labels=tuple(random.choice(LABELS, studies, p=[0.2, 0.2, 0.5, 0.1])),
        several=tuple(bool(one) for one in random.random(studies) < several),
        unfamiliar=tuple(bool(one) for one in random.random(studies) < 0.02),
        overrides=(round(overridden * studies), studies),
    )


def by_name(figures: list[Figure]) -> dict[str, Figure]:
    return {one.statistic: one for one in figures}


BASELINE = drawn(300, seed=0)


@pytest.mark.parametrize("studies", [20, 60])
def test_weeks_of_the_same_distribution_raise_nothing(studies: int) -> None:
    for seed in range(1, 4):
        figures = compare(drawn(studies, seed=seed), BASELINE, OWN, ALL)
        assert max(one.level for one in figures) <= Level.BETWEEN


def test_one_statistic_that_moved_is_the_one_that_is_named() -> None:
    week = drawn(40, seed=1)
    week.figures[:, STATISTICS.index("sharpness")] -= 3
    figures = by_name(compare(week, BASELINE, OWN, ALL))
    assert figures["sharpness"].level is Level.EXTREME
    assert figures["sharpness"].now < figures["sharpness"].before - 2
    others = set(IMAGE_STATISTICS) - {"sharpness"}
    assert all(figures[name].level <= Level.BETWEEN for name in others)
    assert figures["features"].level is Level.LOW


def test_features_that_moved_together_are_noticed_by_the_kernel() -> None:
    week = drawn(40, seed=1)
    week.figures[:, -16:] += 1
    figures = by_name(compare(week, BASELINE, OWN, ALL))
    assert figures["features"].level >= Level.HIGH
    assert figures["features"].p < 0.01


def test_other_labels_doubt_and_overrides_are_noticed() -> None:
    week = replace(drawn(60, seed=2, several=0.8, overridden=0.6), labels=("pituitary",) * 60)
    figures = by_name(compare(week, BASELINE, OWN, ALL))
    for name in ("labels", "several_classes", "overrides"):
        assert figures[name].level is Level.EXTREME, name


def test_a_small_difference_in_very_many_studies_is_significant_and_no_alarm() -> None:
    week = drawn(2000, seed=3)
    week.figures[:, 0] += 0.2
    found = by_name(compare(week, drawn(2000, seed=4), OWN, [Family.IMAGE]))["brightness"]
    assert found.p < 0.001
    assert found.level <= Level.BETWEEN


def test_against_the_published_reference_the_limits_are_wider() -> None:
    week = drawn(60, seed=5)
    week.figures[:, 0] += 1.2
    own, published = (
        by_name(compare(week, BASELINE, limits, [Family.IMAGE]))["brightness"].level
        for limits in (OWN, PUBLISHED)
    )
    assert own is Level.EXTREME
    assert published <= Level.BETWEEN


def test_features_of_a_network_without_them_are_left_out() -> None:
    week = drawn(40, seed=1)
    week.figures[:, -16:] = np.nan
    assert compare(week, BASELINE, OWN, [Family.FEATURES]) == []


def test_the_level_of_a_family_is_the_highest_of_its_figures() -> None:
    week = drawn(40, seed=1)
    week.figures[:, 0] += 5
    figures = [one.plain() for one in compare(week, BASELINE, OWN, ALL)]
    assert levels_of(figures)[Family.IMAGE] is Level.EXTREME
    assert levels_of(figures)[Family.LABELS] is Level.LOW


@pytest.mark.parametrize(
    ("was", "levels", "is_over", "raised"),
    [
        (False, [3], False, True),  # one extreme week, also under way
        (False, [2], True, False),  # a high one alone is not enough
        (False, [2, 0, 2], True, True),  # two of the last three
        (False, [2, 2, 0], True, False),  # but not while the newest is low
        (False, [2, 0, 0, 2], True, False),
        (True, [3, 1], True, True),  # between the limits it stays
        (True, [3, 0], False, True),  # as long as the week is not over
        (True, [3, 0], True, False),
        (True, [], True, True),  # too few studies end nothing
        (False, [], True, False),
    ],
)
def test_alarms_rise_soon_and_end_late(
    was: bool, levels: list[int], is_over: bool, raised: bool
) -> None:
    assert is_raised(was, [Level(one) for one in levels], is_over=is_over) is raised
