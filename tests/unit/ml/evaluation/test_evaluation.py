"""The figures of an evaluation are those that a reader would compute by hand."""

from pathlib import Path

import numpy as np
import pytest

from ml.dataset import Entry
from ml.evaluation.evaluation import Observed, summarise
from ml.labels import LABELS, Label
from ml.serving.predictor import Result

Box = tuple[float, float, float, float]


def observed(
    label: Label,
    said: Label,
    *,
    box: Box | None = None,
    hottest: tuple[int, int] = (0, 0),
    group: str = "p",
    source: str | None = None,
) -> Observed:
    heat = np.zeros((100, 100), np.float32)
    heat[hottest] = 1.0
    probabilities = {one.value: 0.91 if one is said else 0.03 for one in LABELS}
    result = Result(said, probabilities, (said,), 0.5, heat)
    return Observed(Entry(Path("a"), label, group, box=box, source=source), result)


def test_pointing_game_counts_hits_inside_the_box() -> None:
    box = (0.2, 0.4, 0.1, 0.2)
    seen = [
        observed(Label.GLIOMA, Label.GLIOMA, box=box, hottest=(45, 25)),
        observed(Label.GLIOMA, Label.PITUITARY, box=box, hottest=(59, 29)),
        observed(Label.GLIOMA, Label.GLIOMA, box=box, hottest=(25, 45)),
        observed(Label.NO_TUMOR, Label.NO_TUMOR, hottest=(45, 25)),
    ]
    figures = summarise(seen)["pointing_game"]
    assert (figures["hits"], figures["n"]) == (2, 3)
    assert figures["energy_in_box"] == pytest.approx(2 / 3)


def test_pointing_game_is_told_by_size_smallest_first() -> None:
    small, large = (0.4, 0.4, 0.1, 0.1), (0.2, 0.2, 0.6, 0.6)
    seen = [
        observed(Label.GLIOMA, Label.GLIOMA, box=box, hottest=(70, 70))
        for box in [large, small] * 4
    ]
    assert summarise(seen)["pointing_game"]["rate_by_size_quarter"] == [0, 0, 1, 1]


def test_without_boxes_there_is_no_rate() -> None:
    figures = summarise([observed(Label.NO_TUMOR, Label.NO_TUMOR)])["pointing_game"]
    assert figures["rate"] is None
    assert figures["energy_in_box"] is None


def test_summary_counts_what_was_right() -> None:
    seen = [
        observed(label, Label.GLIOMA if label is Label.MENINGIOMA else label, group=f"{n}-{label}")
        for n in range(5)
        for label in LABELS
    ]
    figures = summarise(seen)
    assert figures["accuracy"] == pytest.approx(0.75)
    assert figures["per_class"]["meningioma"]["recall"] == 0
    assert figures["per_class"]["glioma"]["precision"] == pytest.approx(0.5)
    assert figures["per_class"]["meningioma"]["precision"] is None  # nothing was called so
    assert figures["coverage"] == pytest.approx(0.75)
    assert figures["tumor_called_no_tumor"] == 0
    low, high = figures["intervals_95"]["accuracy"]
    assert low < 0.75 < high


def test_class_without_slices_has_no_recall() -> None:
    figures = summarise([observed(Label.GLIOMA, Label.GLIOMA)])
    assert figures["per_class"]["pituitary"] == {
        "recall": None, "precision": None, "f1": None, "n": 0
    }  # fmt: skip
    assert figures["balanced_accuracy"] == 1


def test_figures_are_told_by_source_where_one_is_known() -> None:
    seen = [
        observed(Label.GLIOMA, Label.GLIOMA, source="here"),
        observed(Label.GLIOMA, Label.PITUITARY, source="there", group="q"),
        observed(Label.GLIOMA, Label.GLIOMA, source="there", group="q"),
        observed(Label.GLIOMA, Label.GLIOMA),
    ]
    figures = summarise(seen)
    assert {name: part["n"] for name, part in figures["by_source"].items()} == {
        "here": 1,
        "there": 2,
        "unknown": 1,
    }
    assert figures["by_source"]["there"]["accuracy"] == pytest.approx(0.5)
    assert figures["by_source"]["there"]["groups"] == 1
    assert figures["by_plane"] == {}
