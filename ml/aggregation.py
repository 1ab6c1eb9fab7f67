"""From the answers about slices to the answer about the study. Never imports torch."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ml.labels import DECISION_THRESHOLD, INDEX, Label
from ml.operating_points import USUAL, OperatingPoints

MOST_KEY_SLICES = 3
# From where on a slice is no neighbour, in usual steps at least (before, itself, behind: 1, 2, 1).
_LEAST_REACH = 2.0
# The next slice to each side counts half as much as a slice itself, however large the step to it,
# as long as it is within reach; farther away less, as the distance grows
# (docs/research/notes/0027).
_NEXT = 0.5
# Steps that differ from the usual one by no more are called even, as in ml.imaging.series.
_EVEN = 0.1
_USUAL_HEAD = 75  # percentile of the head's share of the volume's slices
# No slice speaks louder than 1000 to 1, however sure it is.
_SUREST = 0.999
# So many confident slices name a class for the study wherever they lie.
_SEVERAL = 2

Values = npt.NDArray[np.float64]  # (N,)
Rows = npt.NDArray[np.float64]  # (N, 4), in the order of LABELS


@dataclass(frozen=True)
class SliceAnswer:
    """What the model says about one slice.

    Attributes:
        series: slices with the same value belong together and stand in order.
        in_volume: whether the slices before and behind it are its neighbours in the head.
        label: what it is called.
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
        key: positions of the key slices in what was given, the most telling first; never empty.
            They show ``label``.
        contradicting: positions of slices that rule out what the study is said to have: the most
            telling one of each other tumour.
        label: what the study is said to have.
        prediction_set: the classes that cannot be ruled out for the study, in the order of the
            first key slice's probabilities: those of that slice and of the contradicting ones, and
            every class that confident slices name (docs/research/notes/0026). It holds ``label``.
            Where the first key slice, with its neighbours in a stack, does not rather speak for a
            tumour, it is only the least clean of all, and "no tumour" is in the set, whatever the
            slice alone says.
        in_distribution_share: share of slices that look like the brain MRI the model has learnt.
    """

    key: tuple[int, ...]
    contradicting: tuple[int, ...]
    label: Label
    prediction_set: tuple[Label, ...]
    in_distribution_share: float


def emptiness(head_shares: Sequence[float], points: OperatingPoints = USUAL) -> list[float]:
    """How far each slice of a volume is from showing brain; above 1 it shows none.

    At the volume's ends, whatever its plane, lie slices of scalp, skull, ears or the tip of the
    nose: bright blobs on black, which a network that has learnt whole heads calls anything. Where
    an ellipsoid's section falls to a third of its largest one, 18 % of its half axis are left,
    which in a head are scalp, skull and hardly any brain (docs/research/notes/0021).

    Args:
        head_shares: in 0..1, of the slices' area, the head; at least one.

    Returns:
        An out-of-distribution score of each slice, up to 33.
    """
    shares = np.asarray(head_shares, np.float64)
    usual = float(np.percentile(shares, _USUAL_HEAD))
    if usual <= 0:
        return [0.0] * len(shares)
    return [float(one) for one in points.brain_from / np.maximum(shares / usual, 0.01)]


def uneven(places: Sequence[float | None] | Values | None) -> Values | None:
    """The places of a stack's slices where they say more than their order.

    Args:
        places: of each slice in order, millimetres along the normal.

    Returns:
        (N,) the same; None where the steps are even or a place is unknown, so that the slices'
        numbers stand for their places.
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
    """The probabilities of a stack's slices, each in the light of the ones before and behind it.

    A volume differs from the single pictures that the probabilities were calibrated on. Its slices
    were not picked to show something: ``points.tumor_share`` of them are taken to show a tumour,
    where the collection holds ``tumor_share``. And a tumour mostly reaches into the neighbouring
    slices, which a false alarm often does not. So the log-odds of a tumour are the weighted mean of
    the neighbourhood's, moved from the one share to the other; which kind of tumour it would be is
    what the neighbourhood says on the average.

    The mean of log-odds and not of probabilities, so that a small tumour that one slice alone shows
    clearly cannot be ruled out by its neighbours.

    A slice without brain speaks for itself alone, and of such slices
    ``points.tumor_share_without_brain`` are taken to show a tumour.

    Args:
        alone: (N, 4), in the order of ``LABELS``, of neighbouring slices in order.
        tumor_share: in 0..1, of the slices that the probabilities were calibrated on.
        brain: (N,) which of them show brain; all without it.
        places: of each, millimetres along the stack's normal; even without them (:func:`uneven`).

    Returns:
        (N, 4) likewise; each row sums to 1.
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
    """The mean of neighbouring rows, the log-odds of a tumour moved."""
    none = INDEX[Label.NO_TUMOR]
    tumor = np.clip(1 - alone[:, none], 1 - _SUREST, _SUREST)
    likely = 1 / (1 + np.exp(-(mean(_log_odds(tumor)) + moved)))
    kinds = np.stack([mean(column) for column in np.maximum(alone, 1e-9).T], 1)
    kinds[:, none] = 0
    together = likely[:, None] * kinds / kinds.sum(1, keepdims=True)
    together[:, none] = 1 - likely
    return np.asarray(together)


def _moved(before: float, after: float) -> float:
    """What is added to log-odds where another share is expected beforehand."""
    return float(_log_odds(np.array(after)) - _log_odds(np.array(before)))


def borne_out(
    together: Rows,
    tumor_by_localisation: Sequence[float | None],
    *,
    places: Sequence[float | None] | Values | None = None,
    points: OperatingPoints = USUAL,
) -> tuple[Rows, list[bool]]:
    """What is left of a volume's tumours where the places have a say.

    The slice as a whole is swayed by its level in the head: necks, of which the collection holds
    none, look like anything to it. A tumour whose places speak for it somewhere in the volume is
    believed wherever the wholes see it. Where in the whole volume they nowhere do, no slice is
    more likely to show a tumour than its places with its neighbours' say.

    Args:
        together: (N, 4) of :func:`with_neighbours`, for the slices that show brain.
        tumor_by_localisation: of the same slices; None where the network does not judge places,
            which then have nothing to say against a tumour.
        places: of the same slices, as for :func:`with_neighbours`.

    Returns:
        (N, 4) likewise, and for each slice whether its neighbourhood's places rather say tumour.
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
    """The set, and "no tumour", likeliest first: for a tumour that nothing else bears out."""
    return _likeliest_first([*prediction_set, Label.NO_TUMOR], probabilities)


def answer_study(slices: Sequence[SliceAnswer], points: OperatingPoints = USUAL) -> StudyAnswer:
    """Find the finding of a study: its slices, its class, and the classes not ruled out.

    A tumour reaches through several neighbouring slices of a stack and a false alarm often
    through one alone, so in stacks the tumour probability is the mean of a slice's neighbourhood,
    of what shows brain; what shows none (:func:`emptiness`) speaks for nothing. It is that of the
    places, where the network judges them: the slice as a whole is swayed by its level in the head,
    which for each class is its own in the training data. Pictures that came one by one have no
    neighbours and speak for themselves, as wholes. Slices that do not look like brain MRI come
    last (docs/research/notes/0011).

    The finding lies around the slice that speaks most for a tumour and is called one; in its stack
    it ends where a slice does not rather speak for a tumour. Of the classes that its slices are
    called, the study is said to have the likeliest on the average over them, and the key slices
    are those so called that speak most for a tumour.

    A slice is confident of a tumour that it is called with a probability of one half or more.
    Every class that a confident slice of the finding names cannot be ruled out, nor can one that
    several confident slices name anywhere, nor what a slice leaves open that contradicts the study
    (docs/research/notes/0024, 0026).

    Args:
        slices: at least one, those of a series together and in order.
        points: those of the model that the answers are of.
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
    """Of the tumours that the slices are called, the likeliest on the average; None without any."""
    return max(
        dict.fromkeys(Label(one.label) for one in finding if _is_called_tumor(one)),
        key=lambda label: sum(one.probabilities[label.value] for one in finding),
        default=None,
    )


def _contradicting(
    label: str, suspicious: Sequence[int], slices: Sequence[SliceAnswer]
) -> list[int]:
    """Of ``suspicious``, the first of each other class that rule out ``label`` and no tumour."""
    found: dict[str, int] = {}
    for i in suspicious:
        if {label, Label.NO_TUMOR}.isdisjoint(slices[i].prediction_set):
            found.setdefault(slices[i].label, i)
    return list(found.values())


def _named(slices: Sequence[SliceAnswer], *, by: int) -> set[str]:
    """The tumours that so many of the slices are confidently called."""
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
    """(N, N) how much each other slice counts in the mean of one, a row.

    Weights fall off evenly to both sides. The neighbourhood is a part of the head and not a number
    of slices: in a volume of one slice a millimetre the next one is nearly the same picture, and
    says nothing new. Distances count in usual steps, and not in the file's millimetres, which
    converters drop or make up.

    Args:
        count: of slices that show brain, N.
        places: (N,) of them, along the normal; their numbers where None.
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
    # At the ends it is over fewer slices, not over zeros.
    return np.asarray(weights @ values / weights.sum(1))
