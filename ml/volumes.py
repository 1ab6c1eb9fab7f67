"""From the answers about slices to the answer about the study. Never imports torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ml.labels import INDEX, Label

MOST_KEY_SLICES = 3
# How much the slice before, the slice itself and the one behind it count (binomial smoothing).
_NEIGHBOURHOOD = (1.0, 2.0, 1.0)
# Of a volume's slices, how many show a tumour, before anything is known about it. It decides
# between missed tumours and false alarms (docs/decisions/0019).
_TUMOR_SHARE = 0.26
_SUSPICIOUS = 0.5
# No slice speaks louder than 1000 to 1, however sure it is.
_SUREST = 0.999


@dataclass(frozen=True)
class SliceAnswer:
    """What the model says about one slice.

    Attributes:
        series: slices with the same value belong together and stand in order.
        in_volume: whether the slices before and behind it are its neighbours in the head.
        probabilities: by class name; they sum to 1.
        tumor_by_places: probability of a tumour by the places of the slice alone, where the
            network judges them.
    """

    series: int
    in_volume: bool
    probabilities: Mapping[str, float]
    in_distribution: bool
    tumor_by_places: float | None = None

    @property
    def tumor(self) -> float:
        """Probability of a tumour of any class."""
        return 1.0 - self.probabilities[Label.NO_TUMOR.value]

    @property
    def label(self) -> str:
        """The likeliest class."""
        return max(self.probabilities, key=lambda name: self.probabilities[name])


@dataclass(frozen=True)
class StudyAnswer:
    """The answer about a study.

    Attributes:
        key: positions of the key slices in what was given, the most telling first; never empty.
        in_distribution_share: share of slices that look like the brain MRI the model has learnt.
        suspicious: whether the first key slice, with its neighbours in a volume, speaks rather
            for a tumour than against one. Where it does not, it is only the least clean of all,
            and "no tumour" cannot be ruled out for the study, whatever the slice alone says.
    """

    key: tuple[int, ...]
    in_distribution_share: float
    suspicious: bool


def with_neighbours(
    alone: npt.NDArray[np.float64], *, tumor_share: float
) -> npt.NDArray[np.float64]:
    """The probabilities of a volume's slices, each in the light of the ones before and behind it.

    A volume differs from the single pictures that the probabilities were calibrated on. Its slices
    were not picked to show something: one in four is taken to show a tumour, where the
    collection holds ``tumor_share``. And a tumour mostly reaches into the neighbouring slices,
    which a false alarm often does not. So the log-odds of a tumour are the weighted mean of the
    neighbourhood's, moved from the one share to the other; which kind of tumour it would be is
    what the neighbourhood says on the average.

    The mean of log-odds and not of probabilities, so that a small tumour that one slice alone shows
    clearly cannot be ruled out by its neighbours.

    Args:
        alone: (N, 4), in the order of ``LABELS``, of neighbouring slices in order.
        tumor_share: in 0..1, of the slices that the probabilities were calibrated on.

    Returns:
        (N, 4) likewise; each row sums to 1.
    """
    none = INDEX[Label.NO_TUMOR]
    tumor = np.clip(1 - alone[:, none], 1 - _SUREST, _SUREST)
    usual = _log_odds(np.array(_TUMOR_SHARE)) - _log_odds(np.array(tumor_share))
    odds = _neighbourhood_mean(_log_odds(tumor)) + usual
    likely = 1 / (1 + np.exp(-odds))
    kinds = np.stack([_neighbourhood_mean(column) for column in np.maximum(alone, 1e-9).T], 1)
    kinds[:, none] = 0
    together = likely[:, None] * kinds / kinds.sum(1, keepdims=True)
    together[:, none] = 1 - likely
    return np.asarray(together)


def borne_out(tumor_by_places: Sequence[float | None]) -> list[bool]:
    """Whether the places of each slice of a volume, with its neighbours', rather say tumour.

    Args:
        tumor_by_places: of neighbouring slices in order; None where the network does not judge
            places, which then have nothing to say against a tumour.
    """
    known = [one for one in tumor_by_places if one is not None]
    if len(known) < len(tumor_by_places):
        return [True] * len(tumor_by_places)
    return [bool(one >= _SUSPICIOUS) for one in _neighbourhood_mean(np.array(known))]


def with_no_tumor(
    prediction_set: Sequence[str], probabilities: Mapping[str, float]
) -> tuple[Label, ...]:
    """The set, and "no tumour", likeliest first: for a tumour that nothing else bears out."""
    possible = {Label.NO_TUMOR, *map(Label, prediction_set)}
    return tuple(sorted(possible, key=lambda one: (-probabilities[one.value], one)))


def answer_study(slices: Sequence[SliceAnswer]) -> StudyAnswer:
    """Choose the key slices: the one that speaks most for a tumour, and others of its class.

    A tumour reaches through several neighbouring slices of a volume and a false alarm often
    through one alone, so in volumes the tumour probability is averaged over a slice and its two
    neighbours. It is that of the places, where the network judges them: the slice as a whole
    is swayed by its level in the head, which for each class is its own in the training data.
    Pictures that came one by one have no neighbours and speak for themselves, as wholes. Slices
    that do not look like brain MRI come last.

    The study is said to have what its first key slice shows (docs/decisions/0011), so the others
    show the same class, and in its volume the same finding: between them and the first every slice
    speaks for a tumour.

    Args:
        slices: at least one, those of a series together and in order.
    """
    strength = np.concatenate(
        [_strength([slices[i] for i in indices]) for indices in _by_series(slices)]
    )
    familiar = np.array([item.in_distribution for item in slices])
    order = np.lexsort((np.arange(len(slices)), -strength, ~familiar))
    first = int(order[0])
    elsewhere = _apart_from(first, slices, strength >= _SUSPICIOUS)
    others = [
        int(i)
        for i in order[1:]
        if familiar[i]
        and strength[i] >= _SUSPICIOUS
        and slices[i].label == slices[first].label
        and i not in elsewhere
    ]
    key = [first, *others[: MOST_KEY_SLICES - 1]]
    return StudyAnswer(
        key=tuple(key),
        in_distribution_share=float(familiar.mean()),
        suspicious=bool(strength[first] >= _SUSPICIOUS),
    )


def _apart_from(
    first: int, slices: Sequence[SliceAnswer], suspicious: npt.NDArray[np.bool_]
) -> set[int]:
    """Slices of the volume of ``first`` with one between it and them that is not suspicious."""
    if not slices[first].in_volume:
        return set()
    same = [i for i, item in enumerate(slices) if item.series == slices[first].series]
    start = end = first
    while start - 1 in same and suspicious[start - 1]:
        start -= 1
    while end + 1 in same and suspicious[end + 1]:
        end += 1
    return {i for i in same if not start <= i <= end}


def _by_series(slices: Sequence[SliceAnswer]) -> list[list[int]]:
    groups: list[list[int]] = []
    for index, item in enumerate(slices):
        if groups and slices[groups[-1][-1]].series == item.series:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _strength(series: Sequence[SliceAnswer]) -> npt.NDArray[np.float64]:
    if not series[0].in_volume:
        return np.array([item.tumor for item in series])
    tumor = np.array(
        [item.tumor if item.tumor_by_places is None else item.tumor_by_places for item in series]
    )
    return _neighbourhood_mean(tumor)


def _log_odds(share: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(np.log(share / (1 - share)))


def _neighbourhood_mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    # At the ends the mean is over fewer slices, not over zeros.
    return _smoothed(values) / _smoothed(np.ones_like(values))


def _smoothed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.convolve(values, _NEIGHBOURHOOD, "full")[1:-1]
