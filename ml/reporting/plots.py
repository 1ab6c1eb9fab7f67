"""Plots of training and evaluation, as PNG files."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix, roc_curve

from ml.evaluation.evaluation import Answer, chances_and_classes, classes_called
from ml.evaluation.metrics import Floats, Indices
from ml.labels import LABELS

_BINS = 10  # of the reliability diagram
_DPI = 120


def plot_training(log: Path, out: Path) -> None:
    """Loss and held-out accuracy of each epoch, from ``log.csv``."""
    with log.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) for row in rows]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    loss.plot(epochs, [float(row["loss"]) for row in rows], marker="o")
    loss.set(xlabel="epoch", ylabel="training loss")
    accuracy.plot(epochs, [float(row["held_out_accuracy"]) for row in rows], marker="o")
    accuracy.set(xlabel="epoch", ylabel="held-out accuracy")
    figure.savefig(out, dpi=_DPI)


def plot_answers(answers: Sequence[Answer], folder: Path) -> None:
    """``confusion.png``, ``reliability.png`` and ``roc.png``."""
    probabilities, wanted = chances_and_classes(answers)
    with _plot(folder / "confusion.png") as axes:
        _confusion(axes, classes_called(answers), wanted)
    with _plot(folder / "reliability.png") as axes:
        _reliability(axes, probabilities, wanted)
    with _plot(folder / "roc.png") as axes:
        _roc(axes, probabilities, wanted)


def plot_intervals(
    intervals: Mapping[str, tuple[float, float, float]], words: str, out: Path
) -> None:
    """Plot the figure of each row with its interval: value, low, high."""
    figure = Figure(figsize=(7, 0.8 + 0.4 * len(intervals)), layout="constrained")
    axes = figure.subplots()
    for place, (value, low, high) in enumerate(intervals.values()):
        axes.plot([low, high], [place, place], color="tab:blue")
        axes.plot(value, place, marker="o", color="tab:blue")
    axes.set_yticks(range(len(intervals)), list(intervals))
    axes.invert_yaxis()
    axes.set_xlabel(words)
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(out, dpi=_DPI)


@contextmanager
def _plot(path: Path) -> Iterator[Axes]:
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    yield figure.subplots()
    figure.savefig(path, dpi=_DPI)


def _confusion(axes: Axes, called: Indices, wanted: Indices) -> None:
    counts = confusion_matrix(wanted, called, labels=range(len(LABELS)))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [label.value.replace("_", " ") for label in LABELS]
    axes.set_xticks(range(len(LABELS)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(LABELS)), names)
    axes.set(xlabel="answer", ylabel="truth")
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour)


def _reliability(axes: Axes, probabilities: Floats, wanted: Indices) -> None:
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == wanted
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    used = np.unique(bins)
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--")
    axes.plot(
        [confidence[bins == one].mean() for one in used],
        [right[bins == one].mean() for one in used],
        marker="o",
    )
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))


def _roc(axes: Axes, probabilities: Floats, wanted: Indices) -> None:
    for index, label in enumerate(LABELS):
        mine = wanted == index
        if mine.any() and not mine.all():
            false, true, _ = roc_curve(mine, probabilities[:, index])
            axes.plot(false, true, label=label.value.replace("_", " "))
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--")
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    axes.legend()
