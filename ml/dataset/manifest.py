"""Read a manifest: a CSV file that lists labelled slices, one a line.

Columns: ``path`` (relative to the manifest's folder) and ``label``; optional ``group`` (images of
one patient; without it every file stands for itself), ``figshare_id`` and ``mirrored`` (which
slice of the figshare set the file copies), ``box_x, box_y, box_w, box_h`` (the tumour's bounding
box as fractions of width and height). Other columns are left alone.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ml.errors import InvalidManifest
from ml.labels import Label

BUNDLED_EXCLUSIONS = Path(__file__).with_name("excluded.csv")
_BOX_COLUMNS = ("box_x", "box_y", "box_w", "box_h")


@dataclass(frozen=True)
class Entry:
    """One labelled slice.

    Attributes:
        path: the image file.
        label: what it shows.
        group: images that share it may not be separated between training and validation.
        original: identifier of the slice that this file copies; a file and its mirror image
            have the same one. None where nothing is known.
        mirrored: whether the file is the left-right mirror image of ``original``.
        box: tumour bounding box (left, top, width, height) as fractions of the file's width
            and height, or None.
        outline: polygon around the tumour, points (x, y) as fractions of the file's width and
            height, or None.
    """

    path: Path
    label: Label
    group: str
    original: str | None = None
    mirrored: bool = False
    box: tuple[float, float, float, float] | None = None
    outline: tuple[tuple[float, float], ...] | None = None


def read_manifest(path: Path, *, excluded: Iterable[str] = ()) -> list[Entry]:
    """Read ``path``, leaving out the files whose stem is in ``excluded``.

    Raises:
        InvalidManifest: the file cannot be read, lacks a column, or a line has a wrong value.
    """
    left_out = frozenset(excluded)
    entries = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if missing := {"path", "label"} - set(reader.fieldnames or ()):
                raise InvalidManifest(f"{path} lacks the column {' and '.join(sorted(missing))}.")
            for row in reader:
                entry = _entry(row, path, reader.line_num)
                if entry.path.stem not in left_out:
                    entries.append(entry)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidManifest(f"{path} cannot be read: {error}") from error
    if not entries:
        raise InvalidManifest(f"{path} lists no images.")
    return entries


def read_exclusions(path: Path = BUNDLED_EXCLUSIONS) -> dict[str, str]:
    """Read the explicit list of files that are left out: file stem -> reason."""
    with path.open(newline="", encoding="utf-8") as file:
        return {row["stem"]: row["reason"] for row in csv.DictReader(file)}


def _entry(row: dict[str, str], manifest: Path, line: int) -> Entry:
    try:
        label = Label(row["label"])
        box = _box(row)
    except ValueError as error:
        raise InvalidManifest(f"{manifest}, line {line}: {error}") from error
    file = manifest.parent / row["path"]
    if not file.is_file():
        raise InvalidManifest(f"{manifest}, line {line}: there is no file {file}.")
    return Entry(
        path=file,
        label=label,
        group=row.get("group") or str(row["path"]),
        original=row.get("figshare_id") or None,
        mirrored=row.get("mirrored") == "1",
        box=box,
    )


def _box(row: dict[str, str]) -> tuple[float, float, float, float] | None:
    values = [row.get(column) for column in _BOX_COLUMNS]
    if not all(values):
        return None
    left, top, width, height = (float(value) for value in values if value)
    return left, top, width, height
