"""Measure answers about stacks with uneven steps and gaps, on volumes with slices removed.

The question is whether and how the neighbours of a slice should count if the steps between them
differ (docs/research/notes/0027). The network's answers are those of the whole volume.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml.aggregation import StudyAnswer, answer_study
from ml.evaluation.volume_judging import Judged
from ml.labels import Label
from ml.serving.predictor import Opinion, Predictor

# Ways to weigh the neighbours of a slice, by their names in the figures.
ALONE = "alone"
BY_NUMBER = "by_number"
BY_DISTANCE = "by_distance"
WEIGHINGS = (ALONE, BY_NUMBER, BY_DISTANCE)

_LONGEST_STEP = 3
_BLOCK_SHARE = 1 / 6
_LEAST_BLOCK = 2  # slices
_FEW = (45, 30)  # slices, for volumes that have at least twice as many

Left = Sequence[int]  # numbers of the remaining slices, in order


@dataclass(frozen=True)
class _Answered:
    """A thinned volume: the remaining slices and their answers."""

    slices: Sequence[Judged]
    opinions: Sequence[Opinion]
    answer: StudyAnswer


def measure_thinned(
    predictor: Predictor,
    *,
    glioma: Sequence[Sequence[Judged]],
    healthy: Sequence[Sequence[Judged]],
    times: int,
) -> dict[str, Any]:
    """Figures for each way to remove slices and each way to weigh neighbours.

    Args:
        glioma: volumes with a glioma.
        healthy: volumes without a tumour.
        times: number of random thinnings of each volume in each way.

    Returns:
        For each way to remove slices, for ``alone`` (each slice by itself), ``by_number`` (as if
        the steps were even) and ``by_distance``: for slices ``tumor_slices_found``,
        ``false_alarms`` and ``healthy_false_alarms``, for key slices ``key_slices_on_tumor``, and
        for studies ``called_tumor``, ``class_right``, ``class_in_set`` and
        ``healthy_called_tumor``, each as ``n`` and ``of``.
    """
    left = {id(volume): _left(len(volume), times) for volume in (*glioma, *healthy)}
    ways = dict.fromkeys(way for one in left.values() for way in one)

    def answered(volumes: Sequence[Sequence[Judged]], way: str, weighing: str) -> list[_Answered]:
        return [
            _answer(predictor, volume, numbers, weighing)
            for volume in volumes
            for numbers in left[id(volume)].get(way, [])
        ]

    return {
        way: {
            weighing: _figures(answered(glioma, way, weighing), answered(healthy, way, weighing))
            for weighing in WEIGHINGS
        }
        for way in ways
    }


def share_of(values: Iterable[bool]) -> dict[str, int]:
    """The number of true values as ``n``, and of all as ``of``."""
    listed = list(values)
    return {"n": sum(listed), "of": len(listed)}


def _left(count: int, times: int) -> Mapping[str, list[Left]]:
    """The remaining slices of a volume of ``count``, by the way that others are removed."""
    ways: dict[str, list[Left]] = {}
    for time in range(times):
        chance = np.random.default_rng(time)
        thinned = {
            "a third left out": _some(chance, count, round(count * 2 / 3)),
            "half left out": _some(chance, count, count // 2),
            "a block missing": _without_block(chance, count),
            "steps of one to three": _uneven_steps(chance, count),
        }
        for few in _FEW:
            if count >= 2 * few:
                thinned[f"{few} slices"] = _some(chance, count, few)
        for way, numbers in thinned.items():
            ways.setdefault(way, []).append(numbers)
    return ways


def _some(chance: np.random.Generator, count: int, kept: int) -> Left:
    return [int(one) for one in sorted(chance.choice(count, kept, replace=False))]


def _without_block(chance: np.random.Generator, count: int) -> Left:
    block = max(_LEAST_BLOCK, round(count * _BLOCK_SHARE))
    start = int(chance.integers(1, max(2, count - block)))
    return [one for one in range(count) if not start <= one < start + block]


def _uneven_steps(chance: np.random.Generator, count: int) -> Left:
    steps = chance.integers(1, _LONGEST_STEP + 1, count)
    places = np.cumsum(steps) - steps[0]
    return [int(one) for one in places if one < count]


def _answer(
    predictor: Predictor, volume: Sequence[Judged], numbers: Left, weighing: str
) -> _Answered:
    slices = [volume[number] for number in numbers]
    places: list[float | None] = [None] * len(slices)
    if weighing == BY_DISTANCE:
        places = [float(number) for number in numbers]
    results = [one.result for one in slices]
    opinions: Sequence[Opinion] = results
    if weighing != ALONE:
        opinions = predictor.in_volume(results, places)
    told = [
        one.answered(opinion, in_volume=weighing != ALONE, place=place)
        for one, opinion, place in zip(slices, opinions, places, strict=True)
    ]
    return _Answered(slices, opinions, answer_study(told, predictor.operating_points))


def _figures(glioma: Sequence[_Answered], healthy: Sequence[_Answered]) -> dict[str, Any]:
    said = [pair for one in glioma for pair in zip(one.slices, one.opinions, strict=True)]
    without = [pair for one in healthy for pair in zip(one.slices, one.opinions, strict=True)]
    return {
        "tumor_slices_found": share_of(about.alarm for one, about in said if one.expected),
        "false_alarms": share_of(about.alarm for one, about in said if one.free),
        "key_slices_on_tumor": share_of(
            one.slices[key].tumor_pixels > 0 for one in glioma for key in one.answer.key
        ),
        "called_tumor": share_of(one.answer.label is not Label.NO_TUMOR for one in glioma),
        "class_right": share_of(one.answer.label is Label.GLIOMA for one in glioma),
        "class_in_set": share_of(Label.GLIOMA in one.answer.prediction_set for one in glioma),
        "healthy_false_alarms": share_of(about.alarm for _one, about in without),
        "healthy_called_tumor": share_of(one.answer.label is not Label.NO_TUMOR for one in healthy),
    }
