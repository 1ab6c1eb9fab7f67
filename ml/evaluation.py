"""Measure a predictor on labelled slices: accuracy, calibration, coverage, pointing game."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from ml.dataset import Entry
from ml.errors import UnreadableImage
from ml.imaging import read_path
from ml.imaging.pictures import Pixels
from ml.labels import INDEX, LABELS, Label
from ml.metrics import classification_figures
from ml.predictor import Predictor, Result
from ml.preprocess import FloatImage

BATCH = 16

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
    """All figures of the contract, with 95 % bootstrap intervals over groups."""
    wanted = np.array([INDEX[one.entry.label.value] for one in observed])
    probabilities = np.array([[one.result.probabilities[c] for c in LABELS] for one in observed])
    groups = [one.entry.group for one in observed]
    return classification_figures(probabilities, wanted, groups) | {
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
        "in_distribution": float(np.mean([one.result.in_distribution for one in observed])),
        "pointing_game": pointing_game(observed),
    }


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
    hits = np.array([_hits(heat, box) for heat, box in boxed], bool)
    by_area = np.argsort([width * height for _, (_, _, width, height) in boxed], kind="stable")
    quarters = [hits[part] for part in np.array_split(by_area, 4)] if len(boxed) >= 4 else []
    return {
        "hits": int(hits.sum()),
        "n": len(boxed),
        "rate": float(hits.mean()) if boxed else None,
        "rate_by_size_quarter": [float(part.mean()) for part in quarters],
        "energy_in_box": _mean_or_none([_energy(heat, box) for heat, box in boxed]),
    }


def _hits(heat: FloatImage, box: Fractions) -> bool:
    height, width = heat.shape
    row, column = np.unravel_index(int(heat.argmax()), (height, width))
    left, top, box_width, box_height = box
    x, y = (column + 0.5) / width, (row + 0.5) / height
    return bool(left <= x <= left + box_width and top <= y <= top + box_height)


def _energy(heat: FloatImage, box: Fractions) -> float:
    height, width = heat.shape
    left, top, box_width, box_height = box
    rows = slice(round(top * height), round((top + box_height) * height))
    columns = slice(round(left * width), round((left + box_width) * width))
    return float(heat[rows, columns].sum() / max(float(heat.sum()), 1e-6))


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
