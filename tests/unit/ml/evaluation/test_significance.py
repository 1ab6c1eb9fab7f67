"""Differences between classifiers are those of the textbooks."""

import numpy as np
import pytest

from ml.evaluation.significance import difference, holm, mcnemar


def test_mcnemar_is_a_fair_coin_s_chance() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(5, 5) == 1
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(1, 9) == pytest.approx(2 * 11 / 1024)


def test_holm_multiplies_by_what_is_left_and_never_falls() -> None:
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.9})
    assert corrected == pytest.approx({"a": 0.04, "c": 0.09, "b": 0.09, "d": 0.9})
    assert holm({"one": 0.6, "two": 0.7}) == {"one": 1.0, "two": 1.0}


def test_interval_allows_for_slices_of_one_patient() -> None:
    """Twenty slices that differ are convincing from twenty patients, and not from two."""
    reference = np.zeros(40, bool)
    right = np.arange(40) < 20
    many = difference(right, reference, [str(n) for n in range(40)])
    few = difference(right, reference, ["a"] * 10 + ["b"] * 10 + ["c"] * 10 + ["d"] * 10)
    assert many.accuracy == few.accuracy == 0.5
    assert (many.only_this, many.only_reference) == (20, 0)
    assert many.low > 0.3
    assert few.low == 0
    assert many.p == few.p
