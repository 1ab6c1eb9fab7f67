"""The explicit list of errors in a collection: files to leave out, and corrected labels.

A CSV file with the columns ``stem`` (the file's name without its ending), ``sha256`` (of the
file), ``label`` and ``reason``. A line applies to the files that match its stem and its hash; at
least one of the two must be given. With a label it corrects theirs, without one it excludes them.
No other step changes a label.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ml.dataset.manifest import Entry, read_rows, write_rows
from ml.errors import InvalidManifest
from ml.labels import Label

BUNDLED_EXCLUSIONS = Path(__file__).with_name("excluded.csv")
_COLUMNS = ("stem", "sha256", "label", "reason")


@dataclass(frozen=True)
class Correction:
    """A line of the list; ``label`` is None to leave the files out."""

    stem: str | None
    sha256: str | None
    label: Label | None
    reason: str

    def speaks_of(self, entry: Entry) -> bool:
        """Whether the line applies to this file."""
        if self.stem is not None and self.stem != entry.path.stem:
            return False
        return self.sha256 is None or self.sha256 == entry.file_hash


@dataclass(frozen=True)
class Change:
    """A change to a file with its reason: the new label, or None if it was left out."""

    entry: Entry
    label: Label | None
    reason: str


@dataclass(frozen=True)
class Corrected:
    """Entries after corrections, the changes, and the lines that matched no file."""

    entries: list[Entry]
    changes: list[Change]
    unused: list[Correction]


def read_corrections(path: Path = BUNDLED_EXCLUSIONS) -> list[Correction]:
    """Read the list; the bundled one covers the public data set.

    Raises:
        InvalidManifest: the file cannot be read or a line has a wrong value.
    """
    return [_correction(row, path, line) for line, row in read_rows(path, {"reason"})]


def read_exclusions(path: Path = BUNDLED_EXCLUSIONS) -> dict[str, str]:
    """File stem -> reason, for a list that only leaves files out, by stem.

    Raises:
        InvalidManifest: also if a line corrects a label or has only a hash.
    """
    corrections = read_corrections(path)
    if any(one.label is not None or one.stem is None for one in corrections):
        raise InvalidManifest(
            f"{path} does more than leave out files by name; apply it with 'dataset merge'."
        )
    return {one.stem: one.reason for one in corrections if one.stem is not None}


def correct(entries: Iterable[Entry], corrections: Sequence[Correction]) -> Corrected:
    """Apply ``corrections``; the first line that applies to a file decides."""
    kept: list[Entry] = []
    changes: list[Change] = []
    used: set[Correction] = set()
    for entry in entries:
        line = next((one for one in corrections if one.speaks_of(entry)), None)
        if line is None:
            kept.append(entry)
            continue
        used.add(line)
        changes.append(Change(entry, line.label, line.reason))
        if line.label is not None:
            kept.append(replace(entry, label=line.label))
    return Corrected(kept, changes, [one for one in corrections if one not in used])


def write_left_out(path: Path, changes: Iterable[Change]) -> None:
    """Write the left-out files as a list of corrections in which labels can be filled in."""
    write_rows(
        path,
        _COLUMNS,
        (
            {
                "stem": change.entry.path.stem,
                "sha256": change.entry.file_hash,
                "reason": change.reason,
            }
            for change in changes
            if change.label is None
        ),
    )


def _correction(row: dict[str, str], path: Path, line: int) -> Correction:
    stem, digest = row.get("stem") or None, (row.get("sha256") or "").lower() or None
    if stem is None and digest is None:
        raise InvalidManifest(f"{path}, line {line}: neither a stem nor a hash names a file.")
    try:
        label = Label(row["label"]) if row.get("label") else None
    except ValueError as error:
        raise InvalidManifest(f"{path}, line {line}: {error}") from error
    return Correction(stem, digest, label, row["reason"])
