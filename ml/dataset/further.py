"""Further training slices without copies of held-out slices, which would bias measurements."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ml.dataset.duplicates import Image, find_pairs, fingerprint
from ml.dataset.manifest import Entry

_log = logging.getLogger(__name__)

_HELD_OUT, _FURTHER = "held out", "further"
_NAMED = 3  # files that a message names


@dataclass(frozen=True)
class Further:
    """What may be trained on, and how many slices were left out, by reason.

    Attributes:
        dropped: why each file was left out.
    """

    entries: list[Entry] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    dropped: dict[Path, str] = field(default_factory=dict)


def without_held_out(further: Sequence[Entry], held_out: Sequence[Entry]) -> Further:
    """Leave out groups that contain a copy, near copy or mirror image of a held-out slice.

    Slices whose group has the name of a held-out group are left out too. Left-out slices are
    counted and logged. Reading takes about 5 ms per slice; :mod:`ml.dataset.duplicates` describes
    how copies are found.

    Args:
        further: slices of a manifest that is given twice appear twice.

    Raises:
        UnreadableImage: a file is not a readable image.
    """
    if not further:
        return Further()
    names = {entry.group for entry in held_out}
    reasons = {entry.group: "group of the same name" for entry in further if entry.group in names}
    copied = _copied(further, held_out)
    for entry in further:
        if entry.path in copied:
            reasons.setdefault(entry.group, f"group with copies ({copied[entry.path]})")
    left_out = [entry for entry in further if entry.group in reasons]
    if left_out:
        _log.warning(
            "%d of %d further slices are left out, such as %s: their groups hold copies of slices "
            "that are held out.",
            len(left_out),
            len(further),
            ", ".join(sorted({entry.path.name for entry in left_out})[:_NAMED]),
        )
    return Further(
        [entry for entry in further if entry.group not in reasons],
        dict(Counter(reasons[entry.group] for entry in left_out)),
        {entry.path: reasons[entry.group] for entry in left_out},
    )


def _copied(further: Sequence[Entry], held_out: Sequence[Entry]) -> dict[Path, str]:
    """Files of ``further`` that copy a held-out file, with the kind of copy."""
    part_of = {entry.path: _HELD_OUT for entry in held_out}
    part_of |= {entry.path: _FURTHER for entry in further}
    images, vectors = [], []
    for path, part in part_of.items():
        digest, vector = fingerprint(path)
        images.append(Image(str(path), part, "", digest))
        vectors.append(vector)
    # A held-out file is in only one part.
    copied: dict[Path, str] = {
        entry.path: "exact" for entry in held_out if part_of[entry.path] == _FURTHER
    }
    for pair in find_pairs(images, np.stack(vectors)):
        if pair.crosses_parts:
            one = pair.first if pair.first.part == _FURTHER else pair.second
            copied.setdefault(Path(one.path), str(pair.kind))
    return copied
