"""The reference set: public pictures that no model may learn from, to judge every model on.

A folder with ``manifest.csv`` and ``outlines.json`` (labelled slices of patients that the shipped
model has not learnt from), ``healthy.csv`` (slices of a healthy head from another hospital),
``pictures.csv`` (no brain MRI at all) and ``reference.json``, which holds the hashes of all files.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml.dataset.manifest import Entry, content_hash, read_manifest
from ml.dataset.outlines import read_outlines, with_outlines
from ml.dataset.parts import counted, groups_hash, images_hash
from ml.errors import InvalidManifest

BUNDLED = Path(__file__).parents[1] / "reference"
FORMAT = 1
CARD, README = "reference.json", "README.md"
MANIFEST, OUTLINES = "manifest.csv", "outlines.json"
HEALTHY, PICTURES = "healthy.csv", "pictures.csv"


@dataclass(frozen=True)
class Reference:
    """What was read.

    Attributes:
        sha256: of ``reference.json``, which vouches for all other files.
        slices: labelled, with boxes and outlines.
        healthy: slices of a head without a tumour, from a hospital that no model has learnt from.
        pictures: the list of pictures that are no brain MRI
            (:func:`ml.evaluation.ood.collection.read_collection`).
    """

    sha256: str
    slices: list[Entry]
    healthy: list[Entry]
    pictures: Path

    @property
    def held_out(self) -> list[Entry]:
        """Every slice that nothing may be learnt from, and no copy of it.

        :func:`ml.dataset.further.without_held_out` drops such copies.
        """
        return self.slices + self.healthy


def read_reference(folder: Path = BUNDLED) -> Reference:
    """Read the set, whole and unchanged.

    Raises:
        InvalidManifest: a file is missing, is another than its hash says, or is not listed.
    """
    path = folder / CARD
    try:
        content = path.read_bytes()
        facts = json.loads(content)
        files: dict[str, str] = dict(facts["files"])
        known = facts["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidManifest(f"{path} cannot be read as a reference set: {error!r}") from error
    if not known:
        raise InvalidManifest(f"{path} has the format {facts['format']}; known is {FORMAT}.")
    _check_files(folder, files)
    outlines = read_outlines(folder / OUTLINES)
    return Reference(
        sha256=hashlib.sha256(content).hexdigest(),
        slices=with_outlines(read_manifest(folder / MANIFEST), outlines),
        healthy=read_manifest(folder / HEALTHY),
        pictures=folder / PICTURES,
    )


def seal_reference(folder: Path) -> Path:
    """Write ``reference.json`` for what lies in the folder; return its path.

    Raises:
        InvalidManifest: a file is missing or cannot be read.
    """
    slices = read_manifest(folder / MANIFEST)
    healthy = read_manifest(folder / HEALTHY)
    names = sorted({entry.group for entry in slices})
    facts: dict[str, Any] = {
        "format": FORMAT,
        "counts": counted(slices),
        "labels": dict(sorted(_labels(slices).items())),
        "healthy": counted(healthy),
        "groups_sha256": groups_hash(names),
        "images_sha256": images_hash(slices),
        "groups": names,
        "files": {name: content_hash(folder / name) for name in sorted(_files(folder))},
    }
    path = folder / CARD
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return path


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    there = _files(folder)
    if missing := sorted(files.keys() - there):
        raise InvalidManifest(f"The reference set {folder} lacks {missing[0]}.")
    if further := sorted(there - files.keys()):
        raise InvalidManifest(
            f"The reference set {folder} holds {further[0]}, which is not listed."
        )
    for name, expected in files.items():
        if content_hash(folder / name) != expected:
            raise InvalidManifest(f"{folder / name} has another hash than {CARD} says.")


def _files(folder: Path) -> set[str]:
    """Names of all files that are judged with, seen from the folder."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in found if name not in (CARD, README)}


def _labels(entries: Sequence[Entry]) -> dict[str, int]:
    return {
        label.value: sum(one.label is label for one in entries)
        for label in {entry.label for entry in entries}
    }
