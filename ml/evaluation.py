"""Measure a predictor on labelled slices: accuracy, calibration, coverage, pointing game."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)
from tqdm import tqdm

from ml.dataset import Entry
from ml.errors import UnreadableImage
from ml.imaging import read_path
from ml.imaging.pictures import Pixels
from ml.labels import INDEX, LABELS, Label
from ml.predictor import Predictor, Result
from ml.preprocess import FloatImage

BATCH = 16
_ECE_BINS = 15
_RESAMPLES = 1000
_INTERVAL = (2.5, 97.5)

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Fractions = tuple[float, float, float, float]  # left, top, width, height


@dataclass(frozen=True)
class Observed:
    """One labelled slice and what the predictor said about it."""

    entry: Entry
    result: Result


def observe(predictor: Predictor, entries: Sequence[Entry]) -> list[Observed]:
    """Predict all entries in batches.

    Raises:
        UnreadableImage: a file cannot be read or classified; the message names it.
    """
    observed: list[Observed] = []
    starts = range(0, len(entries), BATCH)
    for start in tqdm(starts, "evaluating", unit="batch", disable=None):
        batch = entries[start : start + BATCH]
        results = predictor.predict([_pixels(entry) for entry in batch])
        for entry, result in zip(batch, results, strict=True):
            if isinstance(result, UnreadableImage):
                raise UnreadableImage(result.code, f"{entry.path}: {result}")
            observed.append(Observed(entry, result))
    return observed


def summarise(observed: Sequence[Observed]) -> dict[str, Any]:
    """All figures of the contract, with 95 % bootstrap intervals over groups.

    A group is resampled as a whole, because slices of one patient resemble each other.
    """
    wanted = np.array([INDEX[one.entry.label.value] for one in observed])
    probabilities = np.array([[one.result.probabilities[c] for c in LABELS] for one in observed])
    said = probabilities.argmax(axis=1)
    present = sorted(set(wanted.tolist()))
    precision, recall, f1, support = precision_recall_fscore_support(
        wanted, said, labels=range(len(LABELS)), zero_division=0.0
    )
    return {
        "n": len(observed),
        "groups": len({one.entry.group for one in observed}),
        "accuracy": float((wanted == said).mean()),
        "balanced_accuracy": float(balanced_accuracy_score(wanted, said)),
        "per_class": {
            label.value: {
                "recall": float(recall[i]),
                "precision": float(precision[i]),
                "f1": float(f1[i]),
                "n": int(support[i]),
            }
            for i, label in enumerate(LABELS)
        },
        "confusion": {
            "labels": [label.value for label in LABELS],
            "rows_are": "true class",
            "matrix": confusion_matrix(wanted, said, labels=range(len(LABELS))).tolist(),
        },
        "intervals_95": _intervals(observed, wanted, said, present),
        "ece": expected_calibration_error(probabilities, wanted),
        "nll": float(
            -np.log(np.clip(probabilities[np.arange(len(wanted)), wanted], 1e-12, 1)).mean()
        ),
        "coverage": float(
            np.mean([one.entry.label in one.result.prediction_set for one in observed])
        ),
        "coverage_per_class": {
            label.value: _share(
                one.entry.label in one.result.prediction_set
                for one in observed
                if one.entry.label is label
            )
            for label in LABELS
        },
        "mean_set_size": float(np.mean([len(one.result.prediction_set) for one in observed])),
        "auroc_tumor": _tumor_auroc(probabilities, wanted),
        "tumor_called_no_tumor": _missed_tumors(wanted, said),
        "in_distribution": float(np.mean([one.result.in_distribution for one in observed])),
        "pointing_game": pointing_game(observed),
    }


def expected_calibration_error(probabilities: Floats, wanted: Indices) -> float:
    """Mean gap between confidence and accuracy over 15 bins of confidence (Guo et al. 2017)."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == wanted
    bins = np.minimum((confidence * _ECE_BINS).astype(int), _ECE_BINS - 1)
    gaps = [
        (bins == b).mean() * abs(correct[bins == b].mean() - confidence[bins == b].mean())
        for b in np.unique(bins)
    ]
    return float(np.sum(gaps))


def pointing_game(observed: Sequence[Observed]) -> dict[str, Any]:
    """How often the hottest pixel lies inside the tumour's box (Zhang et al. 2018, IJCV).

    Of all slices whose manifest line has a box, right or wrong answers alike; also for each
    quarter of them by the box's area, smallest first. ``energy_in_box`` is the mean share of the
    heat that lies inside the box (Wang et al. 2020, CVPR workshops, "Score-CAM").
    """
    boxed = [
        (one.result.heat, one.entry.box)
        for one in observed
        if one.entry.box and one.entry.label is not Label.NO_TUMOR
    ]
    hits = np.array([points_into_box(heat, box) for heat, box in boxed], bool)
    by_area = np.argsort([width * height for _, (_, _, width, height) in boxed], kind="stable")
    quarters = [hits[part] for part in np.array_split(by_area, 4)] if len(boxed) >= 4 else []
    return {
        "hits": int(hits.sum()),
        "n": len(boxed),
        "rate": float(hits.mean()) if boxed else None,
        "rate_by_size_quarter": [float(part.mean()) for part in quarters],
        "energy_in_box": _mean_or_none([energy_in_box(heat, box) for heat, box in boxed]),
    }


def points_into_box(heat: FloatImage, box: Fractions) -> bool:
    height, width = heat.shape
    row, column = np.unravel_index(int(heat.argmax()), (height, width))
    left, top, box_width, box_height = box
    x, y = (column + 0.5) / width, (row + 0.5) / height
    return bool(left <= x <= left + box_width and top <= y <= top + box_height)


def energy_in_box(heat: FloatImage, box: Fractions) -> float:
    height, width = heat.shape
    left, top, box_width, box_height = box
    rows = slice(round(top * height), round((top + box_height) * height))
    columns = slice(round(left * width), round((left + box_width) * width))
    return float(heat[rows, columns].sum() / max(float(heat.sum()), 1e-6))


def _intervals(
    observed: Sequence[Observed], wanted: Indices, said: Indices, present: list[int]
) -> dict[str, list[float]]:
    groups = np.array([one.entry.group for one in observed])
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    random = np.random.default_rng(0)

    def recall(index: int) -> Callable[[Indices], float]:
        return lambda chosen: _recall(wanted[chosen], said[chosen], index)

    figures: dict[str, Callable[[Indices], float]] = {
        "accuracy": lambda chosen: float((wanted[chosen] == said[chosen]).mean()),
        "balanced_accuracy": lambda chosen: float(
            np.nanmean([_recall(wanted[chosen], said[chosen], index) for index in present])
        ),
        **{f"recall_{LABELS[index].value}": recall(index) for index in present},
    }
    drawn: dict[str, list[float]] = {name: [] for name in figures}
    for _ in range(_RESAMPLES):
        picked = random.integers(0, len(members), len(members))
        chosen = np.concatenate([members[number] for number in picked])
        for name, figure in figures.items():
            drawn[name].append(figure(chosen))
    return {
        name: [float(value) for value in np.nanpercentile(values, _INTERVAL)]
        for name, values in drawn.items()
    }


def _recall(wanted: Indices, said: Indices, index: int) -> float:
    mine = wanted == index
    return float((said[mine] == index).mean()) if mine.any() else float("nan")


def _tumor_auroc(probabilities: Floats, wanted: Indices) -> float | None:
    no_tumor = INDEX[Label.NO_TUMOR]
    has_tumor = wanted != no_tumor
    if has_tumor.all() or not has_tumor.any():
        return None
    return float(roc_auc_score(has_tumor, 1 - probabilities[:, no_tumor]))


def _missed_tumors(wanted: Indices, said: Indices) -> float | None:
    no_tumor = INDEX[Label.NO_TUMOR]
    has_tumor = wanted != no_tumor
    return float((said[has_tumor] == no_tumor).mean()) if has_tumor.any() else None


def _share(values: Iterable[bool]) -> float | None:
    listed = list(values)
    return sum(listed) / len(listed) if listed else None


def _mean_or_none(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _pixels(entry: Entry) -> Pixels:
    try:
        return read_path(entry.path)[0].pixels
    except UnreadableImage as error:
        raise UnreadableImage(error.code, f"{entry.path}: {error}") from error
