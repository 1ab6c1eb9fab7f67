"""Combine the answers about slices into the answer about a study. Never imports torch."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ml.labels import DECISION_THRESHOLD, INDEX, Label
from ml.operating_points import USUAL, OperatingPoints

MOST_KEY_SLICES = 3
# Smallest reach of a neighbourhood in usual steps: one slice on each side (weights 1, 2, 1).
_LEAST_REACH = 2.0
# Weight of the next slice on each side relative to the slice itself, whatever the step to it, as
# long as it is within reach. Farther slices weigh less (docs/research/notes/0027).
_NEXT = 0.5
# Steps count as even if they differ from the usual one by no more, as in ml.imaging.series.
_EVEN = 0.1
_USUAL_HEAD = 75  # percentile of the head's share of the volume's slices
# Limits the odds of one slice to about 1000 to 1.
_SUREST = 0.999
# So many confident slices add their class to the study's set, wherever they lie.
_SEVERAL = 2

Values = npt.NDArray[np.float64]  # (N,)
Rows = npt.NDArray[np.float64]  # (N, 4), in the order of LABELS


@dataclass(frozen=True)
class SliceAnswer:
    """The model's answer about one slice.

    Attributes:
        series: slices with the same value belong together and are in order.
        in_volume: whether the slices before and after it are its neighbours in the head.
        label: the predicted class.
        probabilities: by class name; they sum to 1.
        prediction_set: the classes that cannot be ruled out.
        tumor_by_localisation: probability of a tumour by the places of the slice alone, where the
            network judges them.
        head_share: of the slice's area, the head.
        place: millimetres along the normal of its stack, where known; where that of one slice is
            not, the steps of its series count as even.
    """

    series: int
    in_volume: bool
    label: str
    probabilities: Mapping[str, float]
    prediction_set: Sequence[str]
    in_distribution: bool
    tumor_by_localisation: float | None = None
    head_share: float = 1.0
    place: float | None = None

    @property
    def tumor(self) -> float:
        """Probability of a tumour of any class."""
        return 1.0 - self.probabilities[Label.NO_TUMOR.value]


@dataclass(frozen=True)
class StudyAnswer:
    """The answer about a study.

    Attributes:
        key: indices of the key slices in the input, the most significant first; never empty.
            They show ``label``.
        contradicting: indices of slices whose prediction set excludes ``label``: the most
            significant one of each other tumour class.
        label: the predicted class of the study.
        prediction_set: the classes that cannot be ruled out for the study, ordered by the
            probabilities of the first key slice. It is the union of the sets of that slice and of
            the contradicting ones, and of every class that confident slices name
            (docs/research/notes/0026). It contains ``label``. It contains "no tumour" if the
            tumour probability of the first key slice and its neighbours in a stack is below one
            half, whatever the slice alone says.
        in_distribution_share: share of slices that resemble the brain MRI of the training data.
    """

    key: tuple[int, ...]
    contradicting: tuple[int, ...]
    label: Label
    prediction_set: tuple[Label, ...]
    in_distribution_share: float


def emptiness(head_shares: Sequence[float], points: OperatingPoints = USUAL) -> list[float]:
    """Score each slice of a volume for the absence of brain; above 1 it shows none.

    In every plane the slices at the ends of a volume show scalp, skull, ears or the tip of the
    nose: bright blobs on black, on which a network trained on whole heads is unreliable. Where the
    section of an ellipsoid falls to a third of its largest one, 18 % of the half axis remain. In a
    head these are scalp, skull and hardly any brain (docs/research/notes/0021).

    Args:
        head_shares: share in 0..1 of each slice's area that the head covers; at least one.

    Returns:
        An out-of-distribution score for each slice, at most 33.
    """
    shares = np.asarray(head_shares, np.float64)
    usual = float(np.percentile(shares, _USUAL_HEAD))
    if usual <= 0:
        return [0.0] * len(shares)
    return [float(one) for one in points.brain_from / np.maximum(shares / usual, 0.01)]


def uneven(places: Sequence[float | None] | Values | None) -> Values | None:
    """The positions of a stack's slices if the steps between them are uneven.

    Args:
        places: position of each slice in order, in millimetres along the normal.

    Returns:
        (N,) the same; None if the steps are even or a position is unknown. The slice numbers then
        serve as positions.
    """
    if places is None or any(place is None for place in places):
        return None
    known = np.asarray(places, np.float64)
    steps = np.diff(known)
    if not len(steps) or (usual := float(np.median(steps))) == 0:
        return None
    return None if np.all(np.abs(steps / usual - 1) <= _EVEN) else known


def with_neighbours(
    alone: Rows,
    *,
    tumor_share: float,
    brain: npt.NDArray[np.bool_] | None = None,
    places: Sequence[float | None] | Values | None = None,
    points: OperatingPoints = USUAL,
) -> Rows:
    """The probabilities of a stack's slices, each averaged with its neighbours.

    A volume differs in two ways from the single pictures that the probabilities were calibrated
    on. Its slices were not selected: the prior of a tumour is ``points.tumor_share``, not the
    ``tumor_share`` of the collection. And a tumour usually extends into the neighbouring slices,
    while a false alarm often does not. So the log-odds of a tumour are the weighted mean over the
    neighbourhood, shifted from one prior to the other. The class of the tumour follows the
    neighbourhood's mean probabilities.

    Log-odds are averaged, not probabilities, so that neighbours cannot rule out a small tumour that
    a single slice shows clearly.

    A slice without brain has no neighbours; its prior is ``points.tumor_share_without_brain``.

    Args:
        alone: (N, 4), in the order of ``LABELS``, of neighbouring slices in order.
        tumor_share: share in 0..1 of tumours in the slices used for calibration.
        brain: (N,) which slices show brain; all if None.
        places: positions in millimetres along the stack's normal; None for even steps
            (:func:`uneven`).

    Returns:
        (N, 4), in the order of ``LABELS``; each row sums to 1.
    """
    shown = np.ones(len(alone), bool) if brain is None else brain
    apart = uneven(places)
    near = _neighbours(int(shown.sum()), None if apart is None else apart[shown], points)
    together = np.empty_like(alone)
    together[shown] = _expected(
        alone[shown], lambda values: _mean(near, values), _moved(tumor_share, points.tumor_share)
    )
    together[~shown] = _expected(
        alone[~shown], lambda values: values, _moved(tumor_share, points.tumor_share_without_brain)
    )
    return together


def _expected(alone: Rows, mean: Callable[[Values], Values], moved: float) -> Rows:
    """The mean of neighbouring rows, with the log-odds of a tumour shifted by ``moved``."""
    none = INDEX[Label.NO_TUMOR]
    tumor = np.clip(1 - alone[:, none], 1 - _SUREST, _SUREST)
    likely = 1 / (1 + np.exp(-(mean(_log_odds(tumor)) + moved)))
    kinds = np.stack([mean(column) for column in np.maximum(alone, 1e-9).T], 1)
    kinds[:, none] = 0
    together = likely[:, None] * kinds / kinds.sum(1, keepdims=True)
    together[:, none] = 1 - likely
    return np.asarray(together)


def _moved(before: float, after: float) -> float:
    """The shift of log-odds for a change of the prior."""
    return float(_log_odds(np.array(after)) - _log_odds(np.array(before)))


def borne_out(
    together: Rows,
    tumor_by_localisation: Sequence[float | None],
    *,
    places: Sequence[float | None] | Values | None = None,
    points: OperatingPoints = USUAL,
) -> tuple[Rows, list[bool]]:
    """Limit a volume's tumour probabilities by the localisation head.

    The whole-slice head depends on the level in the head: it is unreliable on necks, which the
    collection lacks. If the localisation head confirms a tumour anywhere in the volume, the
    whole-slice probabilities stay. Otherwise no slice's tumour probability may exceed that of the
    localisation head over its neighbourhood.

    Args:
        together: (N, 4) of :func:`with_neighbours`, for the slices that show brain.
        tumor_by_localisation: of the same slices; None where the network does not judge places,
            which then have nothing to say against a tumour.
        places: of the same slices, as for :func:`with_neighbours`.

    Returns:
        (N, 4), and for each slice whether the localisation head finds a tumour more likely than
        not in its neighbourhood.
    """
    known = [one for one in tumor_by_localisation if one is not None]
    if len(known) < len(tumor_by_localisation):
        return together, [True] * len(together)
    by_places = _mean(_neighbours(len(known), uneven(places), points), np.array(known))
    suspicious = by_places >= DECISION_THRESHOLD
    if suspicious.any():
        return together, suspicious.tolist()
    tumor = 1 - together[:, INDEX[Label.NO_TUMOR]]
    left = together * (np.minimum(tumor, by_places) / tumor)[:, None]
    left[:, INDEX[Label.NO_TUMOR]] = 1 - np.minimum(tumor, by_places)
    return left, suspicious.tolist()


def with_no_tumor(
    prediction_set: Sequence[str], probabilities: Mapping[str, float]
) -> tuple[Label, ...]:
    """The set with "no tumour" added, likeliest first: for an unconfirmed tumour."""
    return _likeliest_first([*prediction_set, Label.NO_TUMOR], probabilities)


def answer_study(slices: Sequence[SliceAnswer], points: OperatingPoints = USUAL) -> StudyAnswer:
    """Determine the finding of a study: its slices, its class, and the classes not ruled out.

    A tumour extends through several neighbouring slices of a stack, a false alarm often through
    only one. So in stacks the tumour probability is averaged over the neighbouring slices that
    show brain; slices without brain (:func:`emptiness`) do not count. The probability is that of
    the localisation head if the network has one: the whole-slice head depends on the level in the
    head, which in the training data differs between classes. Single pictures have no neighbours
    and use their whole-slice probability. Slices that do not look like brain MRI rank last
    (docs/research/notes/0011).

    The finding is the run of slices around the most suspicious slice that is classified as a
    tumour. In a stack it ends at the first slice whose tumour probability is below one half. The
    study's class is the one with the highest mean probability among the classes of these slices.
    The key slices are the most suspicious slices of that class.

    A slice is confident if its tumour class has a probability of at least one half. The set holds
    every class that a confident slice of the finding has, every class that several confident
    slices have anywhere, and the sets of the contradicting slices
    (docs/research/notes/0024, 0026).

    Args:
        slices: at least one; slices of a series are adjacent and in order.
        points: the operating points of the model that gave the answers.
    """
    series = [[slices[i] for i in indices] for indices in _by_series(slices)]
    strength = np.concatenate([_strength(one, points) for one in series])
    brain = np.concatenate([_shows_brain(one, points) for one in series])
    familiar = np.array([item.in_distribution for item in slices])
    order = np.lexsort((np.arange(len(slices)), -strength, ~familiar))
    suspicious = [int(i) for i in order if familiar[i] and strength[i] >= DECISION_THRESHOLD]
    first = next((i for i in suspicious if _is_called_tumor(slices[i])), int(order[0]))
    elsewhere = _apart_from(first, slices, strength >= DECISION_THRESHOLD)
    finding = [i for i in suspicious if i not in elsewhere] or [first]
    label = _class_of([slices[i] for i in finding]) or Label(slices[first].label)
    key = [i for i in finding if slices[i].label == label][:MOST_KEY_SLICES]
    contradicting = _contradicting(label, suspicious, slices)
    possible = {label, *slices[key[0]].prediction_set}
    possible.update(*(slices[i].prediction_set for i in contradicting))
    possible.update(_named([slices[i] for i in finding if familiar[i]], by=1))
    possible.update(
        _named([slices[i] for i in np.flatnonzero(familiar & brain).tolist()], by=_SEVERAL)
    )
    if strength[key[0]] < DECISION_THRESHOLD:
        possible.add(Label.NO_TUMOR)
    return StudyAnswer(
        key=tuple(key),
        contradicting=tuple(contradicting),
        label=label,
        prediction_set=_likeliest_first(possible, slices[key[0]].probabilities),
        in_distribution_share=float(familiar.mean()),
    )


def _is_called_tumor(one: SliceAnswer) -> bool:
    return one.label != Label.NO_TUMOR


def _class_of(finding: Sequence[SliceAnswer]) -> Label | None:
    """The tumour class of the slices with the highest mean probability; None without a tumour."""
    return max(
        dict.fromkeys(Label(one.label) for one in finding if _is_called_tumor(one)),
        key=lambda label: sum(one.probabilities[label.value] for one in finding),
        default=None,
    )


def _contradicting(
    label: str, suspicious: Sequence[int], slices: Sequence[SliceAnswer]
) -> list[int]:
    """Per class, the first of ``suspicious`` whose set has neither ``label`` nor no tumour."""
    found: dict[str, int] = {}
    for i in suspicious:
        if {label, Label.NO_TUMOR}.isdisjoint(slices[i].prediction_set):
            found.setdefault(slices[i].label, i)
    return list(found.values())


def _named(slices: Sequence[SliceAnswer], *, by: int) -> set[str]:
    """The tumour classes that at least ``by`` slices have with confidence."""
    confident = Counter(
        one.label
        for one in slices
        if _is_called_tumor(one) and one.probabilities[one.label] >= DECISION_THRESHOLD
    )
    return {label for label, count in confident.items() if count >= by}


def _likeliest_first(
    labels: Iterable[str], probabilities: Mapping[str, float]
) -> tuple[Label, ...]:
    return tuple(sorted(map(Label, {*labels}), key=lambda one: (-probabilities[one.value], one)))


def _apart_from(
    first: int, slices: Sequence[SliceAnswer], suspicious: npt.NDArray[np.bool_]
) -> set[int]:
    """Slices in the volume of ``first`` that a slice without suspicion separates from it."""
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


def _shows_brain(series: Sequence[SliceAnswer], points: OperatingPoints) -> npt.NDArray[np.bool_]:
    if not series[0].in_volume:
        return np.ones(len(series), bool)
    return np.array(emptiness([item.head_share for item in series], points)) <= 1


def _strength(series: Sequence[SliceAnswer], points: OperatingPoints) -> npt.NDArray[np.float64]:
    if not series[0].in_volume:
        return np.array([item.tumor for item in series])
    tumor = np.array(
        [
            item.tumor if item.tumor_by_localisation is None else item.tumor_by_localisation
            for item in series
        ]
    )
    brain = _shows_brain(series, points)
    apart = uneven([item.place for item in series])
    strength = np.zeros(len(series))
    near = _neighbours(int(brain.sum()), None if apart is None else apart[brain], points)
    strength[brain] = _mean(near, tumor[brain])
    return strength


def _log_odds(share: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(np.log(share / (1 - share)))


def _neighbours(count: int, places: Values | None, points: OperatingPoints) -> Rows:
    """(N, N) weights: row i weighs all slices in the mean of slice i.

    Weights fall off symmetrically. The neighbourhood is a share of the head, not a number of
    slices: with a slice per millimetre the next slice is nearly the same picture and adds no
    information. Distances are in usual steps, not in the file's millimetres, which converters may
    drop or invent.

    Args:
        count: number N of slices that show brain.
        places: (N,) positions along the normal; the slice numbers if None.
    """
    steps = np.arange(count, dtype=np.float64)
    if places is not None and count > 1 and (usual := float(np.median(np.diff(places)))) != 0:
        steps = (places - places[0]) / usual
    reach = max(_LEAST_REACH, (float(np.ptp(steps)) + 1) * points.neighbour_reach)
    apart = np.abs(steps[:, None] - steps)
    weights = np.maximum(0.0, 1 - apart / reach)
    number = np.arange(count)
    beside = np.abs(number[:, None] - number) == 1
    weights[beside] = np.maximum(
        weights[beside], _NEXT * np.minimum(1.0, reach / np.maximum(apart[beside], 1e-9))
    )
    return np.asarray(weights)


def _mean(weights: Rows, values: Values) -> Values:
    # At the ends fewer slices are averaged; there is no zero padding.
    return np.asarray(weights @ values / weights.sum(1))
