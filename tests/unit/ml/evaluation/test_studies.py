"""The figures of study answers are those that a reader would count."""

from pathlib import Path

import numpy as np
import pytest

from ml.dataset import Entry
from ml.evaluation.evaluation import Observed
from ml.evaluation.studies import study_figures
from ml.labels import LABELS, Label
from ml.serving.predictor import Result

GLIOMA, MENINGIOMA, NONE = Label.GLIOMA, Label.MENINGIOMA, Label.NO_TUMOR


def seen(group: str, label: Label, said: Label, *open_for: Label) -> Observed:
    """A slice that is called ``said``; ``open_for`` cannot be ruled out beside it."""
    probabilities = {one.value: 0.91 if one is said else 0.03 for one in LABELS}
    result = Result(said, probabilities, (said, *open_for), 0.5, np.zeros((2, 2), np.float32))
    return Observed(Entry(Path("a"), label, group), result)


def test_each_group_is_a_study() -> None:
    figures = study_figures(
        [
            seen("right", GLIOMA, GLIOMA),
            seen("right", NONE, NONE),  # the tumour does not reach so far
            seen("contradicted", MENINGIOMA, MENINGIOMA),
            seen("contradicted", MENINGIOMA, GLIOMA),
            seen("wrong", NONE, GLIOMA),
            seen("in doubt", GLIOMA, MENINGIOMA, GLIOMA),
            seen("two tumours", GLIOMA, GLIOMA),
            seen("two tumours", MENINGIOMA, MENINGIOMA),
        ]
    )
    assert figures["studies"] == {
        "n": 4, "right": 2, "covered": 3, "mean_set_size": pytest.approx(1.5), "certain": 2,
        "certain_and_right": 1, "contradicted": 1,
        # A meningioma that is called a glioma is a tumour that was found.
        "tumor_found": {"n": 3, "of": 3}, "tumor_free_cleared": {"n": 0, "of": 1},
    }  # fmt: skip


def test_groups_of_different_tumours_are_mixed_up() -> None:
    figures = study_figures(
        [
            seen("a", GLIOMA, GLIOMA),
            seen("b", MENINGIOMA, MENINGIOMA),
            seen("c", MENINGIOMA, GLIOMA),
            seen("d", NONE, NONE),
        ]
    )
    # a and b contradict one another; a and c are both called gliomas.
    assert figures["mixed"] == {"n": 2, "certain": 1, "covered": 1}


def test_nothing_seen_has_no_mean() -> None:
    assert study_figures([])["studies"]["mean_set_size"] is None
