"""Measure a predictor on labelled slices: accuracy, calibration, coverage, pointing game."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from ml.dataset import Entry
from ml.dataset.pixels import named, pixels_of
from ml.errors import UnreadableImage
from ml.evaluation.metrics import Floats, Indices, classification_figures
from ml.imaging.pictures import Pixels
from ml.labels import INDEX, LABELS, Label
from ml.preprocess import FloatImage
from ml.serving.predictor import Predictor, Result

BATCH = 16
UNKNOWN = "unknown"

Fractions = tuple[float, float, float, float]  # left, top, width, height


@dataclass(frozen=True)
class Observed:
    """One labelled slice and the predictor's result."""

    entry: Entry
    result: Result

    @property
    def called(self) -> Label:
        """What the slice was called."""
        return self.result.label

    @property
    def right(self) -> bool:
        """Whether it is called what it shows."""
        return self.called is self.entry.label


@dataclass(frozen=True)
class Pointed:
    """The position of the heat relative to the tumour's box.

    Attributes:
        hit: whether the hottest pixel is inside the box.
        energy: share of the heat inside the box, 0..1.
        area: of the box, as a share of the slice.
    """

    hit: bool
    energy: float
    area: float


@dataclass(frozen=True)
class Answer:
    """:class:`Observed` without the heatmap.

    Attributes:
        path: the file's name.
        called: the predicted class, usually the likeliest one.
        probabilities: in the order of :data:`ml.labels.LABELS`.
        pointed: None if the slice has no tumour or no box.
        source, plane: None if the manifest does not have them.
    """

    path: str
    group: str
    label: Label
    called: Label
    probabilities: tuple[float, ...]
    prediction_set: tuple[Label, ...]
    in_distribution: bool
    ood_score: float
    pointed: Pointed | None
    source: str | None = None
    plane: str | None = None

    @classmethod
    def of(cls, observed: Observed) -> "Answer":
        """Reduce the heatmap to its position relative to the box, and keep all else."""
        entry, result = observed.entry, observed.result
        return cls(
            path=entry.path.name,
            group=entry.group,
            label=entry.label,
            called=result.label,
            probabilities=tuple(result.probabilities[label] for label in LABELS),
            prediction_set=result.prediction_set,
            in_distribution=result.in_distribution,
            ood_score=result.ood_score,
            pointed=_pointed(observed),
            source=entry.source,
            plane=entry.plane,
        )


def observe(predictor: Predictor, entries: Sequence[Entry]) -> list[Observed]:
    """Predict all entries in batches.

    Raises:
        UnreadableImage: a file cannot be read or classified; the message names it.
    """
    return list(observe_each(predictor, entries))


def answer(predictor: Predictor, entries: Sequence[Entry]) -> list[Answer]:
    """As :func:`observe`, but no heatmap is kept: memory does not grow with their number.

    Raises:
        UnreadableImage: as for :func:`observe`.
    """
    return [Answer.of(one) for one in observe_each(predictor, entries)]


def observe_each(predictor: Predictor, entries: Sequence[Entry]) -> Iterator[Observed]:
    """As :func:`observe`, one after the other."""
    starts = range(0, len(entries), BATCH)
    for start in tqdm(starts, "evaluating", unit="batch", disable=None):
        batch = entries[start : start + BATCH]
        results = predictor.predict([_pixels(entry) for entry in batch])
        for entry, result in zip(batch, results, strict=True):
            if isinstance(result, UnreadableImage):
                raise UnreadableImage(result.code, f"{entry.path}: {result}")
            yield Observed(entry, result)


def count_same_label(
    observed: Sequence[Observed | Answer], expected: Sequence[Observed | Answer]
) -> int:
    """In how many slices two engines, asked about the same, say the same class."""
    return sum(a.called is b.called for a, b in zip(observed, expected, strict=True))


def summarise(observed: Sequence[Observed]) -> dict[str, Any]:
    """All figures of the contract, with 95 % bootstrap intervals over groups."""
    return summarise_answers([Answer.of(one) for one in observed])


def summarise_answers(answers: Sequence[Answer]) -> dict[str, Any]:
    """As :func:`summarise`, for stored answers."""
    probabilities, wanted = chances_and_classes(answers)
    groups = [one.group for one in answers]
    return classification_figures(probabilities, wanted, groups, called=classes_called(answers)) | {
        "coverage": float(np.mean([one.label in one.prediction_set for one in answers])),
        "coverage_per_class": {
            label.value: _share(
                one.label in one.prediction_set for one in answers if one.label is label
            )
            for label in LABELS
        },
        "mean_set_size": float(np.mean([len(one.prediction_set) for one in answers])),
        "in_distribution": float(np.mean([one.in_distribution for one in answers])),
        "pointing_game": pointing_game([one.pointed for one in answers if one.pointed]),
        "by_source": _by_part(answers, [one.source for one in answers]),
        "by_plane": _by_part(answers, [one.plane for one in answers]),
    }


def chances_and_classes(answers: Sequence[Answer]) -> tuple[Floats, Indices]:
    """Probabilities (N, 4) and true class indices (N,)."""
    probabilities = np.array([one.probabilities for one in answers])
    return probabilities, np.array([INDEX[one.label.value] for one in answers])


def classes_called(answers: Sequence[Answer]) -> Indices:
    """(N,) predicted class indices."""
    return np.array([INDEX[one.called.value] for one in answers])


def accuracy(answers: Sequence[Answer]) -> float:
    """Share of the slices whose predicted class is correct."""
    return float(np.mean([one.called is one.label for one in answers]))


def pointing_game(pointed: Sequence[Pointed]) -> dict[str, Any]:
    """How often the hottest pixel is inside the tumour's box (Zhang et al. 2018, IJCV).

    Over all tumour slices with a box, correct or not, and for each quartile by the box's area,
    smallest first. ``energy_in_box`` is the mean share of the heat inside the box (Wang et al.
    2020, CVPR workshops, "Score-CAM").
    """
    hits = np.array([one.hit for one in pointed], bool)
    by_area = np.argsort([one.area for one in pointed], kind="stable")
    quarters = [hits[part] for part in np.array_split(by_area, 4)] if len(pointed) >= 4 else []
    return {
        "hits": int(hits.sum()),
        "n": len(pointed),
        "rate": float(hits.mean()) if pointed else None,
        "rate_by_size_quarter": [float(part.mean()) for part in quarters],
        "energy_in_box": _mean_or_none([one.energy for one in pointed]),
    }


def _by_part(answers: Sequence[Answer], names: Sequence[str | None]) -> dict[str, Any]:
    """Figures of the answers for each name, and of those without one if others have one."""
    if not any(names):
        return {}
    parts: dict[str, list[Answer]] = defaultdict(list)
    for answer, name in zip(answers, names, strict=True):
        parts[name or UNKNOWN].append(answer)
    return {name: _in_short(parts[name]) for name in sorted(parts)}


def _in_short(answers: Sequence[Answer]) -> dict[str, Any]:
    return {
        "n": len(answers),
        "groups": len({one.group for one in answers}),
        "accuracy": accuracy(answers),
        "coverage": float(np.mean([one.label in one.prediction_set for one in answers])),
        "in_distribution": float(np.mean([one.in_distribution for one in answers])),
    }


def _pointed(observed: Observed) -> Pointed | None:
    box, heat = observed.entry.box, observed.result.heat
    if not box or observed.entry.label is Label.NO_TUMOR:
        return None
    return Pointed(points_into_box(heat, box), energy_in_box(heat, box), box[2] * box[3])


def points_into_box(heat: FloatImage, box: Fractions) -> bool:
    """Whether the hottest pixel of a heatmap is inside the box."""
    height, width = heat.shape
    row, column = np.unravel_index(int(heat.argmax()), (height, width))
    left, top, box_width, box_height = box
    x, y = (column + 0.5) / width, (row + 0.5) / height
    return bool(left <= x <= left + box_width and top <= y <= top + box_height)


def energy_in_box(heat: FloatImage, box: Fractions) -> float:
    """The share of a heatmap's sum inside the box."""
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
    with named(entry.path):
        return pixels_of(entry)
