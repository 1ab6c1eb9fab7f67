"""Curate a list of labelled files: apply corrections, remove contradictions, prevent leaks.

Copies are found as by ``python -m ml audit`` (:mod:`ml.dataset.duplicates`). Copies with different
labels contradict each other and are all left out, unless a correction decides. Copies in different
groups would leak, so their groups are merged.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from ml.dataset.corrections import Change, Correction, correct
from ml.dataset.duplicates import Image, Pair, find_pairs, fingerprint
from ml.dataset.manifest import Entry, content_hash
from ml.errors import InvalidManifest, UnreadableImage

_NAME = 12  # hexadecimal digits of a file's hash that name a group


@dataclass(frozen=True)
class Curated:
    """The remaining entries and all changes.

    Attributes:
        corrected: files that a correction relabelled or left out.
        contradicting: files left out because a copy has another label.
        unreadable: files left out because they are not images.
        repeated: files that were listed more than once with the same label; one entry stays.
        joined: groups merged because they share copies, by the remaining name.
        unused: corrections that matched no file.
    """

    entries: list[Entry]
    corrected: list[Change]
    contradicting: list[Change]
    unreadable: list[Change]
    repeated: list[Entry]
    joined: dict[str, list[str]]
    unused: list[Correction]

    @property
    def left_out(self) -> list[Change]:
        """Every file that is missing from ``entries``, except repeated ones."""
        left_out = [change for change in self.corrected if change.label is None]
        return left_out + self.contradicting + self.unreadable


def curate(entries: Iterable[Entry], corrections: Sequence[Correction]) -> Curated:
    """Hash, correct, compare and regroup ``entries``.

    Raises:
        InvalidManifest: a file cannot be opened, or nothing is left.
    """
    hashed = [
        replace(entry, sha256=content_hash(entry.path))
        for entry in tqdm(list(entries), "hashing", unit="file", disable=None)
    ]
    corrected = correct(hashed, corrections)
    once, repeated = _once(corrected.entries)
    readable, images, vectors, unreadable = _fingerprinted(once)
    if not readable:
        raise InvalidManifest("There is no readable image left.")
    pairs = _copies(readable, images, vectors)
    contradicting = _contradicting(readable, pairs)
    regrouped, joined = _regrouped(readable, pairs)
    against = {change.entry for change in contradicting}
    kept = [new for old, new in zip(readable, regrouped, strict=True) if old not in against]
    if not kept:
        raise InvalidManifest("All images contradict each other.")
    return Curated(
        entries=kept,
        corrected=corrected.changes,
        contradicting=contradicting,
        unreadable=unreadable,
        repeated=repeated,
        joined=joined,
        unused=corrected.unused,
    )


def group_of_copies(digests: Iterable[str]) -> str:
    """A name for a group of copies, derived from their contents."""
    return f"dup-{min(digests)[:_NAME]}"


def group_of_file(digest: str) -> str:
    """A name for the group of a single file, derived from its content."""
    return f"file-{digest[:_NAME]}"


def _once(entries: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Keep one entry of each file that is listed repeatedly with the same label."""
    kept: dict[tuple[str, str], Entry] = {}
    repeated = []
    for entry in entries:
        key = str(entry.path.resolve()), entry.label.value
        if key in kept:
            repeated.append(entry)
        else:
            kept[key] = entry
    return list(kept.values()), repeated


def _fingerprinted(
    entries: list[Entry],
) -> tuple[list[Entry], list[Image], list[np.ndarray], list[Change]]:
    readable: list[Entry] = []
    images: list[Image] = []
    vectors: list[np.ndarray] = []
    unreadable: list[Change] = []
    for entry in tqdm(entries, "reading", unit="image", disable=None):
        try:
            digest, vector = fingerprint(entry.path)
        except UnreadableImage as error:
            unreadable.append(Change(entry, None, str(error)))
            continue
        readable.append(entry)
        images.append(Image(str(len(images)), "", entry.label.value, digest))
        vectors.append(vector)
    return readable, images, vectors, unreadable


def _copies(
    entries: list[Entry], images: list[Image], vectors: list[np.ndarray]
) -> list[tuple[int, int, str]]:
    """Pairs of indices of copies, and the kind of copy.

    Files that look alike are copies, and so are files with the same recorded original.
    """
    found = [
        (int(pair.first.path), int(pair.second.path), _kind(pair))
        for pair in find_pairs(images, np.stack(vectors))
    ]
    of_original: dict[tuple[str | None, str], list[int]] = {}
    for number, entry in enumerate(entries):
        if entry.original is not None:
            of_original.setdefault((entry.source, entry.original), []).append(number)
    for members in of_original.values():
        found += [(one, other, "copy by record") for one, other in combinations(members, 2)]
    return found


def _kind(pair: Pair) -> str:
    return {"exact": "exact copy", "near": "near copy", "mirrored": "mirrored copy"}[pair.kind]


def _differ(one: Entry, other: Entry) -> bool:
    """Whether two similar files are recorded as different slices, such as volume neighbours."""
    return (
        one.original is not None
        and other.original is not None
        and one.source == other.source
        and one.original != other.original
    )


def _contradicting(entries: list[Entry], pairs: list[tuple[int, int, str]]) -> list[Change]:
    """Both files of each pair with different labels, each once."""
    found: dict[int, Change] = {}
    for first, second, kind in pairs:
        one, another = entries[first], entries[second]
        if one.label is another.label or _differ(one, another):
            continue
        for here, there in ((first, second), (second, first)):
            other = entries[there]
            reason = (
                f"labelled {entries[here].label.value}, "
                f"but its {kind} {other.path.stem} is labelled {other.label.value}"
            )
            found.setdefault(here, Change(entries[here], None, reason))
    return [found[number] for number in sorted(found)]


def _regrouped(
    entries: list[Entry], pairs: list[tuple[int, int, str]]
) -> tuple[list[Entry], dict[str, list[str]]]:
    """Entries with merged groups where groups share copies."""
    names = sorted({entry.group for entry in entries})
    number = {name: index for index, name in enumerate(names)}
    links = np.array(
        [(number[entries[one].group], number[entries[other].group]) for one, other, _ in pairs],
        np.int64,
    ).reshape(-1, 2)
    graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), (len(names), len(names)))
    _, cluster = connected_components(graph, directed=False)
    members: dict[int, list[str]] = {}
    for name, at in zip(names, cluster, strict=True):
        members.setdefault(int(at), []).append(name)
    joined = {group[0]: group for group in members.values() if len(group) > 1}
    new_name = {name: group[0] for group in members.values() for name in group}
    return [replace(entry, group=new_name[entry.group]) for entry in entries], joined
