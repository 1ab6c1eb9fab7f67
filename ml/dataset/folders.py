"""Read labelled files from folders that are named after the classes."""

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from ml.dataset.corrections import Correction
from ml.dataset.curation import Curated, curate, group_of_copies, group_of_file
from ml.dataset.duplicates import SUFFIXES
from ml.dataset.manifest import Entry
from ml.errors import InvalidManifest
from ml.labels import Label

_TUMOR = re.compile(r"tumou?rs?$")
# Folder names without blanks, punctuation and the word tumour.
_NAMES = {
    "glioma": Label.GLIOMA,
    "gliomas": Label.GLIOMA,
    "meningioma": Label.MENINGIOMA,
    "meningiomas": Label.MENINGIOMA,
    "pituitary": Label.PITUITARY,
    "pituitaryadenoma": Label.PITUITARY,
    "no": Label.NO_TUMOR,
    "none": Label.NO_TUMOR,
    "healthy": Label.NO_TUMOR,
    "normal": Label.NO_TUMOR,
}


@dataclass(frozen=True)
class FolderSet:
    """Curated files, and the number of images in each folder that no class is named after."""

    curated: Curated
    unknown: dict[str, int]


def from_folders(
    root: Path, corrections: list[Correction], *, source: str | None = None
) -> FolderSet:
    """List the images below ``root``, labelled by the nearest folder named after a class.

    Other folder levels (Training, Testing, patients) are ignored: copies of each other form a
    group, and every other file is its own group.

    Raises:
        InvalidManifest: there is no image in a folder named after a class.
    """
    entries = []
    unknown: Counter[str] = Counter()
    for path in sorted(one for one in root.rglob("*") if one.suffix.lower() in SUFFIXES):
        label = _label_of(path.relative_to(root).parent)
        if label is None:
            unknown[str(path.parent.relative_to(root))] += 1
        else:
            entries.append(Entry(path, label, group=str(path.relative_to(root)), source=source))
    if not entries:
        names = ", ".join(label.value for label in Label)
        raise InvalidManifest(f"{root} holds no images in folders named by class ({names}).")
    curated = curate(entries, corrections)
    return FolderSet(_named_by_content(curated), dict(unknown))


def folder_label(name: str) -> Label | None:
    """The class that a folder is named after, in one of the common spellings, or None."""
    letters = re.sub(r"[^a-z]", "", name.lower())
    return _NAMES.get(_TUMOR.sub("", letters))


def _label_of(folder: Path) -> Label | None:
    labels = (folder_label(name) for name in reversed(folder.parts))
    return next((label for label in labels if label is not None), None)


def _named_by_content(curated: Curated) -> Curated:
    """Name groups by their contents, so that manifests of two collections can be merged."""
    members: dict[str, list[str]] = {}
    for entry in curated.entries:
        members.setdefault(entry.group, []).append(entry.sha256 or "")
    names = {
        group: group_of_copies(digests) if len(digests) > 1 else group_of_file(digests[0])
        for group, digests in members.items()
    }
    renamed = [replace(entry, group=names[entry.group]) for entry in curated.entries]
    joined = {names[group]: copies for group, copies in curated.joined.items() if group in names}
    return replace(curated, entries=renamed, joined=joined)
