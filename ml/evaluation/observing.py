"""What a model makes of the reference set: to watch for drift, and to draw its reliability.

The file lies beside the model's card and is good for one file of weights alone. It holds no
picture and no name.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ml.dataset import Entry
from ml.errors import InvalidModel
from ml.evaluation.evaluation import observe_each
from ml.files import in_one_piece
from ml.serving.observation import STATISTICS, Sample, observe
from ml.serving.predictor import Predictor, Result

FORMAT = 1
_MOST_OF_A_GROUP = 4
_BINS = 10


@dataclass(frozen=True)
class _Slice:
    """An answer without pixels and heat."""

    group: str
    order: str
    is_right: bool
    result: Mapping[str, Any]
    figures: list[float | None]


def observed_path(card: Path) -> Path:
    """Where the observations of a card's model lie."""
    return card.with_name(f"{card.stem}.observed.json")


def observe_reference(predictor: Predictor, entries: Sequence[Entry]) -> dict[str, Any]:
    """Answer the reference set; the content of the file.

    Of each patient at most four slices are kept, drawn by a hash: slices of one patient are not
    independent. The reliability is that of all slices.

    Raises:
        UnreadableImage: a file cannot be read or classified.
    """
    found = [_slice(one.entry, one.result) for one in observe_each(predictor, entries)]
    kept = _few_of_each(found)
    numbers = {name: number for number, name in enumerate(sorted({one.group for one in found}))}
    return {
        "format": FORMAT,
        "model": predictor.name,
        "weights_sha256": predictor.sha256,
        "engine": predictor.engine,
        "slices": len(found),
        "groups": len(numbers),
        "reliability": _reliability(found),
        "statistics": list(STATISTICS),
        "observations": [
            {
                "group": numbers[one.group],
                "label": one.result["label"],
                "several": len(one.result["prediction_set"]) != 1,
                "unfamiliar": not one.result["in_distribution"],
                "figures": one.figures,
            }
            for one in kept
        ],
    }


def write_observed(observed: Mapping[str, Any], path: Path) -> None:
    """Write the file in one piece, an observation a line."""
    rows = observed["observations"]
    head = json.dumps({**observed, "observations": []}, indent=1)
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    text = head.replace('"observations": []', f'"observations": [\n{lines}\n ]')
    with in_one_piece(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def read_observed(path: Path, *, sha256: str) -> Sample | None:
    """The reference as a sample; None where there is none for these weights.

    Raises:
        InvalidModel: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT or content["statistics"] != list(STATISTICS):
            raise InvalidModel(f"{path.name} was written by another version; observe anew.")
        if content["weights_sha256"] != sha256:
            return None
        rows = content["observations"]
        return Sample(
            figures=np.array([row["figures"] for row in rows], np.float32),
            labels=tuple(str(row["label"]) for row in rows),
            several=tuple(bool(row["several"]) for row in rows),
            unfamiliar=tuple(bool(row["unfamiliar"]) for row in rows),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidModel(f"The file {path.name} cannot be read: {error!r}") from error


def _slice(entry: Entry, result: Result) -> _Slice:
    figures = observe(
        result.image_statistics,
        result.features,
        ood_score=result.ood_score,
        set_size=len(result.prediction_set),
        probabilities=result.probabilities,
    )
    return _Slice(
        entry.group,
        hashlib.sha256(entry.path.name.encode()).hexdigest(),
        result.label is entry.label,
        result.plain(),
        [None if np.isnan(value) else round(float(value), 4) for value in figures],
    )


def _few_of_each(found: Iterable[_Slice]) -> list[_Slice]:
    groups: dict[str, list[_Slice]] = defaultdict(list)
    for one in sorted(found, key=lambda one: one.order):
        if len(groups[one.group]) < _MOST_OF_A_GROUP:
            groups[one.group].append(one)
    return [one for name in sorted(groups) for one in groups[name]]


def _reliability(found: Sequence[_Slice]) -> list[dict[str, Any]]:
    """How often the answer was right, by the probability that was given for it, in tenths."""
    given = [one.result["probabilities"][one.result["label"]] for one in found]
    places = [min(int(value * _BINS), _BINS - 1) for value in given]
    bins = []
    for place in range(_BINS):
        inside = [number for number, one in enumerate(places) if one == place]
        if inside:
            bins.append(
                {
                    "from": place / _BINS,
                    "to": (place + 1) / _BINS,
                    "n": len(inside),
                    "given": round(float(np.mean([given[number] for number in inside])), 4),
                    "right": sum(found[number].is_right for number in inside),
                }
            )
    return bins
