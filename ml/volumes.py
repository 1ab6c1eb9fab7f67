"""From the answers about slices to the answer about the study. Never imports torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ml.labels import Label

MOST_KEY_SLICES = 3
_NEIGHBOURHOOD = 3  # slices that a volume's tumour probability is averaged over
_SUSPICIOUS = 0.5


@dataclass(frozen=True)
class SliceAnswer:
    """What the model says about one slice.

    Attributes:
        series: slices with the same value belong together and stand in order.
        in_volume: whether the slices before and behind it are its neighbours in the head.
        probabilities: by class name; they sum to 1.
    """

    series: int
    in_volume: bool
    probabilities: Mapping[str, float]
    in_distribution: bool

    @property
    def tumor(self) -> float:
        """Probability of a tumour of any class."""
        return 1.0 - self.probabilities[Label.NO_TUMOR.value]


@dataclass(frozen=True)
class StudyAnswer:
    """The answer about a study.

    Attributes:
        key: positions of the key slices in what was given, the most telling first; never empty.
        in_distribution_share: share of slices that look like the brain MRI the model has learnt.
    """

    key: tuple[int, ...]
    in_distribution_share: float


def answer_study(slices: Sequence[SliceAnswer]) -> StudyAnswer:
    """Choose the key slices.

    A tumour reaches through several neighbouring slices of a volume and a false alarm often
    through one alone, so in volumes the tumour probability is averaged over a slice and its two
    neighbours. Pictures that came one by one have no neighbours and speak for themselves. Slices
    that do not look like brain MRI come last.

    Args:
        slices: at least one, those of a series together and in order.
    """
    strength = np.concatenate(
        [_strength([slices[i] for i in indices]) for indices in _by_series(slices)]
    )
    familiar = np.array([item.in_distribution for item in slices])
    order = np.lexsort((np.arange(len(slices)), -strength, ~familiar))
    key = [int(order[0])]
    key += [int(i) for i in order[1:MOST_KEY_SLICES] if familiar[i] and strength[i] >= _SUSPICIOUS]
    return StudyAnswer(key=tuple(key), in_distribution_share=float(familiar.mean()))


def _by_series(slices: Sequence[SliceAnswer]) -> list[list[int]]:
    groups: list[list[int]] = []
    for index, item in enumerate(slices):
        if groups and slices[groups[-1][-1]].series == item.series:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _strength(series: Sequence[SliceAnswer]) -> npt.NDArray[np.float64]:
    tumor = np.array([item.tumor for item in series])
    if not series[0].in_volume:
        return tumor
    window = np.ones(min(_NEIGHBOURHOOD, len(tumor)))
    # At the ends the average is over fewer slices, not over zeros.
    return np.convolve(tumor, window, "same") / np.convolve(np.ones_like(tumor), window, "same")
