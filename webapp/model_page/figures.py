"""What was measured of a model, from its card and from the reference set beside it.

Cards come from outside as well: whatever they lack is left out of the page.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml.model_files import find_model_files
from webapp.models_admin.queries import find_candidate
from webapp.models_admin.serving import Overview, first_model_card

Interval = tuple[float, float]
_LONGEST = 2000  # characters of a text that a card brings along
_MOST_TEXTS = 20


@dataclass(frozen=True)
class Recall:
    """Of the slices of one class, the share that was called so."""

    label: str
    share: float
    n: int
    interval: Interval | None


@dataclass(frozen=True)
class Confusion:
    """Slices by what they show (rows) and what they were called (columns)."""

    labels: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Site:
    """Accuracy and coverage on slices of one source.

    Attributes:
        kind: ``source``, by its name; ``patients``, in turn unseen; ``hospital``, where the other
            sources were learnt from.
    """

    kind: str
    name: str
    n: int
    groups: int
    accuracy: float
    coverage: float | None


@dataclass(frozen=True)
class Counted:
    """So many of so many."""

    n: int
    of: int


@dataclass(frozen=True)
class Volumes:
    """What was found in volumes of other hospitals."""

    tumour_slices: Counted
    false_alarms: Counted
    healthy: Counted
    class_right: Counted


@dataclass(frozen=True)
class Bin:
    """Slices whose answer had a probability in one tenth."""

    low: float
    high: float
    n: int
    given: float
    right: float


@dataclass(frozen=True)
class ModelFigures:
    """All that the page shows; None or empty where the card does not say.

    Attributes:
        ece: expected calibration error, 0..1.
        coverage: share of the slices whose true class is in the prediction set.
        bins: of the published reference set; empty for other weights than those it was made with.
        limits: what the maker says, in English.
    """

    name: str
    sha256: str
    created: str
    n: int
    groups: int
    accuracy: float | None
    interval: Interval | None
    recalls: tuple[Recall, ...]
    ece: float | None
    coverage: float | None
    set_size: float | None
    confusion: Confusion | None
    sites: tuple[Site, ...]
    volumes: Volumes | None
    bins: tuple[Bin, ...]
    limits: tuple[str, ...]


def figures_of(found: Overview) -> ModelFigures:
    """Of the model that serves the organisation acted for.

    Raises:
        InvalidModel: the card of the installation's first model cannot be read.
    """
    if found.candidate_id is not None:
        version = find_candidate(found.candidate_id).model_version
        bins = reliability(first_model_card(), sha256=version.sha256)
        return read_figures(version.card, version.name, version.sha256, bins)
    files = find_model_files(first_model_card())
    bins = reliability(first_model_card(), sha256=files.sha256)
    return read_figures(files.card, files.name, files.sha256, bins)


def read_figures(
    card: Mapping[str, Any], name: str, sha256: str, bins: tuple[Bin, ...] = ()
) -> ModelFigures:
    """What a card says, whatever it looks like."""
    metrics = _part(card, "metrics")
    return ModelFigures(
        name=name,
        sha256=sha256,
        created=str(card.get("created", ""))[:32],
        n=_count(metrics, "n"),
        groups=_count(metrics, "groups"),
        accuracy=_number(metrics, "accuracy"),
        interval=_interval(_part(metrics, "intervals_95").get("accuracy")),
        recalls=_recalls(metrics),
        ece=_number(metrics, "ece"),
        coverage=_number(metrics, "coverage"),
        set_size=_number(metrics, "mean_set_size"),
        confusion=_confusion(_part(metrics, "confusion")),
        sites=_sites(card),
        volumes=_volumes(_part(card, "volumes")),
        bins=bins,
        limits=tuple(str(one)[:_LONGEST] for one in _list(card.get("limits"))[:_MOST_TEXTS]),
    )


def _recalls(metrics: Mapping[str, Any]) -> tuple[Recall, ...]:
    intervals = _part(metrics, "intervals_95")
    found = []
    for label, values in _part(metrics, "per_class").items():
        share = _number(values, "recall") if isinstance(values, dict) else None
        if share is not None:
            interval = _interval(intervals.get(f"recall_{label}"))
            found.append(Recall(str(label), share, _count(values, "n"), interval))
    return tuple(found)


def _confusion(found: Mapping[str, Any]) -> Confusion | None:
    labels = tuple(str(one) for one in _list(found.get("labels")))
    rows = tuple(tuple(_list(row)) for row in _list(found.get("matrix")))
    counts = [n for row in rows for n in row]
    is_square = len(rows) == len(labels) > 0 and all(len(row) == len(labels) for row in rows)
    if not is_square or not all(isinstance(n, int) for n in counts):
        return None
    return Confusion(labels, rows)


def _sites(card: Mapping[str, Any]) -> tuple[Site, ...]:
    by_source = _part(_part(card, "metrics"), "by_source")
    validated = _part(card, "cross_validations")
    found = [_site("source", str(name), figures) for name, figures in by_source.items()]
    for kind, key in (("patients", "group"), ("hospital", "against-source")):
        found.append(_site(kind, "", validated.get(key)))
    return tuple(one for one in found if one is not None)


def _site(kind: str, name: str, figures: object) -> Site | None:
    if not isinstance(figures, dict):
        return None
    accuracy = _number(figures, "accuracy")
    if accuracy is None:
        return None
    coverage = _number(figures, "coverage")
    return Site(kind, name, _count(figures, "n"), _count(figures, "groups"), accuracy, coverage)


def _volumes(found: Mapping[str, Any]) -> Volumes | None:
    names = ("tumor_slices_found", "false_alarms", "healthy_false_alarms", "class_right")
    parts = [_part(found, name) for name in names]
    if not all(_count(part, "of") for part in parts):
        return None
    return Volumes(*(Counted(_count(part, "n"), _count(part, "of")) for part in parts))


def reliability(card: Path, *, sha256: str) -> tuple[Bin, ...]:
    """On the published reference set, from the file beside a card if it is of these weights."""
    path = card.with_name(f"{card.stem}.observed.json")  # ml.evaluation.observing
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["weights_sha256"] != sha256:
            return ()
        return tuple(
            Bin(one["from"], one["to"], one["n"], one["given"], one["right"] / one["n"])
            for one in content["reliability"]
        )
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return ()


def _part(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = found.get(name)
    return value if isinstance(value, dict) else {}


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _number(found: Mapping[str, Any], name: str) -> float | None:
    value = found.get(name)
    return float(value) if isinstance(value, int | float) else None


def _count(found: Mapping[str, Any], name: str) -> int:
    value = found.get(name)
    return value if isinstance(value, int) else 0


def _interval(value: object) -> Interval | None:
    ends = _list(value)
    if len(ends) != 2 or not all(isinstance(one, int | float) for one in ends):
        return None
    return float(ends[0]), float(ends[1])
