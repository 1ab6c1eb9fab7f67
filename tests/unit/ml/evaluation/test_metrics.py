"""Figures of a classifier are those that a reader would compute by hand."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ml.evaluation.metrics import (
    bootstrap_intervals,
    classification_figures,
    expected_calibration_error,
    tumor_auroc,
)
from ml.labels import INDEX, Label


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    probabilities = np.tile([0.8, 0.1, 0.05, 0.05], (10, 1))
    wanted = np.array([0] * 6 + [1] * 4)
    assert expected_calibration_error(probabilities, wanted) == pytest.approx(0.2)


def test_tumor_auroc_agrees_with_scikit_learn_also_where_chances_are_equal() -> None:
    random = np.random.default_rng(1)
    chances = random.dirichlet(np.ones(4), 200).round(1)
    wanted = random.integers(0, 4, 200)
    no_tumor = INDEX[Label.NO_TUMOR]
    expected = roc_auc_score(wanted != no_tumor, 1 - chances[:, no_tumor])
    assert tumor_auroc(chances, wanted) == pytest.approx(expected)


def test_interval_of_one_group_has_no_width_and_of_many_has() -> None:
    values = np.array([0.0, 1.0] * 50)
    figures = {"mean": lambda chosen: float(values[chosen].mean())}
    assert bootstrap_intervals(["a"] * 100, figures)["mean"] == [0.5, 0.5]
    low, high = bootstrap_intervals([str(n) for n in range(100)], figures)["mean"]
    assert low < 0.5 < high


def test_groups_are_drawn_whole() -> None:
    """Two groups that are right and wrong throughout can only give 0, a half or 1."""
    values = np.array([1.0] * 10 + [0.0] * 10)
    seen = set()

    def mean(chosen: np.ndarray) -> float:
        seen.add(float(values[chosen].mean()))
        return 0.0

    bootstrap_intervals(["right"] * 10 + ["wrong"] * 10, {"mean": mean})
    assert seen == {0.0, 0.5, 1.0}


def test_what_slices_were_called_counts_and_not_the_likeliest_class() -> None:
    chances = np.array([[0.4, 0.0, 0.6, 0.0], [0.1, 0.0, 0.9, 0.0]])
    wanted = np.array([INDEX[Label.GLIOMA], INDEX[Label.NO_TUMOR]])
    assert classification_figures(chances, wanted, ["p", "q"])["tumor_called_no_tumor"] == 1
    figures = classification_figures(chances, wanted, ["p", "q"], called=wanted)
    assert figures["tumor_called_no_tumor"] == 0
    assert figures["intervals_95"]["accuracy"] == [1, 1]


def test_without_healthy_slices_there_is_no_auroc_and_the_figures_are_json() -> None:
    wanted = np.array([INDEX[Label.GLIOMA], INDEX[Label.PITUITARY]])
    figures = classification_figures(np.eye(4)[wanted], wanted, ["p", "q"])
    assert json.loads(json.dumps(figures))["auroc_tumor"] is None
    assert "auroc_tumor" not in figures["intervals_95"]
    assert figures["accuracy"] == 1
