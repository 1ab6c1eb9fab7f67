"""A data card: the contents of a set of labelled slices, and shortcuts a model could learn."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from ml.dataset.corrections import Correction, correct
from ml.dataset.manifest import Entry, content_hash
from ml.errors import InvalidManifest
from ml.imaging.discretion import hushed
from ml.labels import LABELS

_UNKNOWN = "unknown"
_MANY = 6  # values of a property that the page lists; the others are summed


def describe(
    entries: Sequence[Entry],
    corrections: Sequence[Correction] = (),
    left_out: Sequence[Correction] = (),
) -> dict[str, Any]:
    """The card's figures, ready for JSON.

    ``fingerprints`` gives the distribution over the classes of each property of a file that is not
    anatomy (source, plane, format, colour mode, size). ``giveaway`` is the accuracy of guessing
    the class from that property alone. ``names`` are file names with numbers replaced by a sign.

    Args:
        corrections: the list of known errors; entries about these files are reported.
        left_out: removed files, from :func:`ml.dataset.curation.curate`.

    Raises:
        InvalidManifest: a file is missing or is not a picture.
    """
    files = [_file(entry) for entry in tqdm(entries, "reading", unit="file", disable=None)]
    properties = {
        name: [file[name] for file in files]
        for name in ("source", "plane", "format", "mode", "size")
    }
    groups = Counter(entry.group for entry in entries)
    changes = correct(entries, corrections).changes
    return {
        "slices": len(entries),
        "groups": len(groups),
        "content_sha256": _content([file["sha256"] for file in files], entries),
        "classes": {label.value: _class(entries, label.value) for label in LABELS},
        "group_sizes": _sizes(list(groups.values())),
        "groups_with_several_labels": len(_with_several_labels(entries)),
        "identical_files": len(files) - len({file["sha256"] for file in files}),
        "mirrored": sum(entry.mirrored for entry in entries),
        "with_box": sum(entry.box is not None for entry in entries),
        "with_outline": sum(entry.outline is not None for entry in entries),
        "fingerprints": {
            name: {
                "giveaway": _giveaway(values, entries),
                "slices_by_value_and_class": _by_class(values, entries),
            }
            for name, values in properties.items()
        },
        "names": _by_class([file["name"] for file in files], entries),
        "known_to_be_wrong": [
            {
                "path": change.entry.path.name,
                "label": change.entry.label.value,
                "becomes": change.label.value if change.label else None,
                "reason": change.reason,
            }
            for change in changes
        ],
        "left_out": [{"file": one.stem or one.sha256, "reason": one.reason} for one in left_out],
    }


def page(figures: dict[str, Any], title: str) -> str:
    """The card as Markdown."""
    sizes = figures["group_sizes"]
    lines = [
        f"# Data card: {title}",
        "",
        f"{figures['slices']:,} slices in {figures['groups']:,} groups (patients, and clusters of "
        f"near-copies). A group holds {sizes['median']:g} slices in the median and at most "
        f"{sizes['largest']}; {sizes['single']} groups hold one. "
        f"{figures['groups_with_several_labels']} groups hold slices of several classes.",
        "",
        f"Hash of all files with label and group: `{figures['content_sha256']}`",
        "",
        "## Classes",
        "",
        *_rows(
            ("class", "slices", "groups", "with a box", "with an outline", "mirror images"),
            ((name, *one.values()) for name, one in figures["classes"].items()),
        ),
        "",
        f"{figures['identical_files']} files are byte for byte the same as another one.",
        "",
        "## Fingerprints",
        "",
        "What a file tells of its class without anatomy. Behind each property stands the share of "
        "slices whose class is guessed rightly by it alone; guessing the commonest class for all "
        f"is right for {_commonest(figures):.1%}.",
    ]
    for name, one in figures["fingerprints"].items():
        lines += ["", f"### {name}: {one['giveaway']:.1%}", ""]
        values = list(one["slices_by_value_and_class"].items())
        shown = [(value, *counts.values()) for value, counts in values[:_MANY]]
        rest = [list(counts.values()) for _, counts in values[_MANY:]]
        if rest:
            shown.append((f"{len(rest)} others", *map(sum, zip(*rest, strict=True))))
        lines += _rows((name, *(label.value for label in LABELS)), shown)
    if figures["known_to_be_wrong"]:
        lines += ["", "## Known to be wrong", ""]
        lines += _rows(
            ("file", "labelled", "becomes", "reason"),
            (
                (one["path"], one["label"], one["becomes"] or "left out", one["reason"])
                for one in figures["known_to_be_wrong"]
            ),
        )
    if figures["left_out"]:
        lines += ["", "## Left out", ""]
        lines += _rows(("file", "reason"), (tuple(one.values()) for one in figures["left_out"]))
    return "\n".join(lines) + "\n"


def _file(entry: Entry) -> dict[str, str]:
    try:
        with hushed(), Image.open(entry.path) as image:
            kind, mode, size = image.format or _UNKNOWN, image.mode, image.size
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InvalidManifest(f"{entry.path} is no picture.") from error
    return {
        "source": entry.source or _UNKNOWN,
        "plane": entry.plane or _UNKNOWN,
        "format": kind,
        "mode": mode,
        "size": f"{size[0]} x {size[1]}",
        "name": re.sub(r"\d+", "#", entry.path.stem),
        "sha256": content_hash(entry.path),
    }


def _content(hashes: Iterable[str], entries: Sequence[Entry]) -> str:
    """One hash of all files with their labels and groups, independent of order and names."""
    lines = sorted(
        f"{digest} {entry.label.value} {entry.group}\n"
        for digest, entry in zip(hashes, entries, strict=True)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _class(entries: Sequence[Entry], label: str) -> dict[str, int]:
    mine = [entry for entry in entries if entry.label.value == label]
    return {
        "slices": len(mine),
        "groups": len({entry.group for entry in mine}),
        "with_box": sum(entry.box is not None for entry in mine),
        "with_outline": sum(entry.outline is not None for entry in mine),
        "mirrored": sum(entry.mirrored for entry in mine),
    }


def _sizes(counts: list[int]) -> dict[str, float]:
    return {
        "median": float(np.median(counts)),
        "largest": max(counts),
        "single": sum(count == 1 for count in counts),
    }


def _with_several_labels(entries: Sequence[Entry]) -> set[str]:
    labels: dict[str, set[str]] = {}
    for entry in entries:
        labels.setdefault(entry.group, set()).add(entry.label.value)
    return {group for group, found in labels.items() if len(found) > 1}


def _by_class(values: Sequence[str], entries: Sequence[Entry]) -> dict[str, dict[str, int]]:
    """Value -> class -> slices, the commonest value first."""
    pairs = Counter(
        (value, entry.label.value) for value, entry in zip(values, entries, strict=True)
    )
    return {
        value: {label.value: pairs[value, label.value] for label in LABELS}
        for value, _ in Counter(values).most_common()
    }


def _giveaway(values: Sequence[str], entries: Sequence[Entry]) -> float:
    table = _by_class(values, entries)
    return sum(max(counts.values()) for counts in table.values()) / len(entries)


def _commonest(figures: dict[str, Any]) -> float:
    return float(max(one["slices"] for one in figures["classes"].values()) / figures["slices"])


def _rows(header: Sequence[object], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(map(str, cells))} |" for cells in lines]
