"""Measure the answers about studies of single pictures, computed as in the portal."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ml.aggregation import SliceAnswer, StudyAnswer, answer_study
from ml.evaluation.evaluation import Observed
from ml.labels import Label


@dataclass(frozen=True)
class _Judged:
    """One group as a study, or two groups mixed into one study.

    Attributes:
        shown: the true classes of its slices.
    """

    shown: set[Label]
    answer: StudyAnswer

    @property
    def is_certain(self) -> bool:
        return len(self.answer.prediction_set) == 1

    @property
    def is_right(self) -> bool:
        return self.answer.label in self.shown

    @property
    def holds_all(self) -> bool:
        return self.shown <= set(self.answer.prediction_set)


def study_figures(observed: Sequence[Observed]) -> dict[str, Any]:
    """Figures of the study answers; each group of slices is a study of single pictures.

    In a group with a tumour, slices without one do not count; groups with two are left out.

    Returns:
        ``studies``, of the groups: their number ``n``, in how many the class is ``right``, in how
        many it is in the prediction set (``covered``), ``mean_set_size``, how many are
        ``certain`` of one class, how many of these are right (``certain_and_right``), and how many
        hold slices that contradict the answer (``contradicted``); besides as ``n`` and ``of``,
        of the groups with a tumour those that are called one, whichever (``tumor_found``), and of
        the groups without those that are called none (``tumor_free_cleared``). ``mixed``, of
        every two groups with different tumours taken for one study: their number ``n``, how many
        are ``certain`` of one class, and in how many sets both tumours are (``covered``).
    """
    groups: dict[str, list[Observed]] = defaultdict(list)
    for one in observed:
        groups[one.entry.group].append(one)
    known = [group for group in groups.values() if len(_tumors(group)) <= 1]
    alone = [_judge(group) for group in known]
    mixed = [
        _judge(one + other)
        for one, other in combinations([group for group in known if _tumors(group)], 2)
        if _tumors(one) != _tumors(other)
    ]
    return {
        "studies": {
            "n": len(alone),
            "right": sum(one.is_right for one in alone),
            "covered": sum(one.holds_all for one in alone),
            "mean_set_size": _mean_set_size(alone),
            "certain": sum(one.is_certain for one in alone),
            "certain_and_right": sum(one.is_certain and one.is_right for one in alone),
            "contradicted": sum(bool(one.answer.contradicting) for one in alone),
            "tumor_found": _called_tumor(alone, shown=True, called=True),
            "tumor_free_cleared": _called_tumor(alone, shown=False, called=False),
        },
        "mixed": {
            "n": len(mixed),
            "certain": sum(one.is_certain for one in mixed),
            "covered": sum(one.holds_all for one in mixed),
        },
    }


def _judge(slices: Sequence[Observed]) -> _Judged:
    answer = answer_study(
        [
            SliceAnswer(
                series=0,
                in_volume=False,
                label=one.result.label,
                probabilities=one.result.probabilities,
                prediction_set=one.result.prediction_set,
                in_distribution=one.result.in_distribution,
            )
            for one in slices
        ]
    )
    shown = _tumors(slices) or {Label.NO_TUMOR}
    return _Judged(shown, answer)


def _called_tumor(judged: Sequence[_Judged], *, shown: bool, called: bool) -> dict[str, int]:
    """The count of studies with or without a tumour that are called tumour or no tumour."""
    asked = [one for one in judged if (one.shown != {Label.NO_TUMOR}) is shown]
    return {
        "n": sum((one.answer.label != Label.NO_TUMOR) is called for one in asked),
        "of": len(asked),
    }


def _tumors(slices: Sequence[Observed]) -> set[Label]:
    return {one.entry.label for one in slices} - {Label.NO_TUMOR}


def _mean_set_size(judged: Sequence[_Judged]) -> float | None:
    if not judged:
        return None
    return float(np.mean([len(one.answer.prediction_set) for one in judged]))
