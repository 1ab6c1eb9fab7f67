"""Read and write a manifest: a CSV file with one labelled slice per line.

Columns: ``path`` (relative to the manifest's folder) and ``label``; optional ``group`` (images of
one patient; by default every file is its own group), ``figshare_id`` and ``mirrored`` (which
slice of the figshare set the file copies) or ``original`` (the same for other sets),
``box_x, box_y, box_w, box_h`` (the tumour's bounding box as fractions of width and height),
``source`` (the set that the slice comes from), ``plane``, ``sha256`` (of the file), and
``row_spacing`` with ``column_spacing`` (millimetres between neighbouring rows and columns) or
``pixel_aspect`` (height of a pixel over its width) if the file does not contain them. Other
columns are ignored.
"""

import csv
import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml.dataset.planes import figshare_plane
from ml.errors import InvalidManifest
from ml.labels import Label

FIGSHARE = "figshare"
COLUMNS = (
    "path",
    "label",
    "group",
    "figshare_id",
    "original",
    "mirrored",
    "box_x",
    "box_y",
    "box_w",
    "box_h",
    "source",
    "plane",
    "sha256",
    "row_spacing",
    "column_spacing",
)
_BOX_COLUMNS = ("box_x", "box_y", "box_w", "box_h")
_ROUNDING = 0.01  # fraction by which a box may extend over the edge
_LARGEST_SPACING = 1000.0  # mm
_MOST_STRETCHED = 100.0  # height of a pixel over its width, or the inverse


@dataclass(frozen=True)
class Entry:
    """One labelled slice.

    Attributes:
        path: the image file.
        label: what it shows.
        group: images of one group must not be split between training and validation.
        original: identifier of the slice that this file copies; a file and its mirror image
            have the same one. None if unknown.
        mirrored: whether the file is the left-right mirror image of ``original``.
        box: tumour bounding box (left, top, width, height) as fractions of the file's width
            and height, or None.
        outline: polygon around the tumour, points (x, y) as fractions of the file's width and
            height, or None.
        source: the set that the slice comes from; ``figshare`` if it has a figshare identifier.
        plane: ``axial``, ``coronal`` or ``sagittal``, from the manifest or, for slices of the
            figshare set, from their identifier.
        sha256: hash of the file from the manifest; see :func:`content_hash`.
        spacing: millimetres between pixel centres as (row, column), or in units of the shorter
            side if only the proportions are known; None if the manifest has none.
    """

    path: Path
    label: Label
    group: str
    original: str | None = None
    mirrored: bool = False
    box: tuple[float, float, float, float] | None = None
    outline: tuple[tuple[float, float], ...] | None = None
    source: str | None = None
    plane: str | None = None
    sha256: str | None = None
    spacing: tuple[float, float] | None = None

    @property
    def file_hash(self) -> str:
        """SHA-256 of the file: as the manifest says, or computed."""
        return self.sha256 or content_hash(self.path)


def read_manifest(path: Path, *, excluded: Iterable[str] = ()) -> list[Entry]:
    """Read ``path``, leaving out the files whose stem is in ``excluded``.

    Raises:
        InvalidManifest: the file cannot be read, lacks a column, or a line has a wrong value.
    """
    left_out = frozenset(excluded)
    entries = [_entry(row, path, line) for line, row in read_rows(path, {"path", "label"})]
    entries = [entry for entry in entries if entry.path.stem not in left_out]
    if not entries:
        raise InvalidManifest(f"{path} lists no images.")
    return entries


def read_rows(path: Path, wanted: set[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a CSV file with their numbers; cells that a line lacks are empty.

    Raises:
        InvalidManifest: the file cannot be read or lacks one of the ``wanted`` columns.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            if missing := wanted - set(reader.fieldnames or ()):
                raise InvalidManifest(f"{path} lacks the column {' and '.join(sorted(missing))}.")
            for row in reader:
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidManifest(f"{path} cannot be read: {error}") from error


def write_manifest(path: Path, entries: Iterable[Entry]) -> None:
    """Write what :func:`read_manifest` reads; paths are relative to the manifest's folder."""
    write_rows(path, COLUMNS, (_row(entry, path.parent) for entry in entries))


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a CSV file; cells that a row lacks are empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def relative_path(path: Path, folder: Path) -> str:
    """``path`` as seen from ``folder``, with forward slashes."""
    return Path(os.path.relpath(path, folder)).as_posix()


def spacing_in(row: Mapping[str, str]) -> tuple[float, float] | None:
    """The spacing (row, column) of a line; see :class:`Entry`.

    Raises:
        ValueError: it is invalid.
    """
    words = row.get("row_spacing"), row.get("column_spacing"), row.get("pixel_aspect")
    down, across, aspect = (float(one) if one else None for one in words)
    if down is not None and across is not None:
        spacing = down, across
    elif down is not None or across is not None:
        raise ValueError("row_spacing and column_spacing go together")
    elif aspect is not None:
        if not 0 < aspect < math.inf:
            raise ValueError("the pixel_aspect is no proportion")
        spacing = max(1.0, aspect), max(1.0, 1 / aspect)
    else:
        return None
    # NaN compares as false.
    if not all(0 < one <= _LARGEST_SPACING for one in spacing) or not (
        1 / _MOST_STRETCHED <= spacing[0] / spacing[1] <= _MOST_STRETCHED
    ):
        raise ValueError("the spacing of its pixels is impossible")
    return spacing


def content_hash(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits.

    Raises:
        InvalidManifest: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidManifest(f"{path} cannot be read: {error.strerror}") from error


def _entry(row: dict[str, str], manifest: Path, line: int) -> Entry:
    try:
        label = Label(row["label"])
        box = _box(row)
        spacing = spacing_in(row)
    except ValueError as error:
        raise InvalidManifest(f"{manifest}, line {line}: {error}") from error
    file = manifest.parent / row["path"]
    if not file.is_file():
        raise InvalidManifest(f"{manifest}, line {line}: there is no file {file}.")
    figshare = row.get("figshare_id")
    return Entry(
        path=file,
        label=label,
        group=row.get("group") or row["path"],
        original=figshare or row.get("original") or None,
        mirrored=row.get("mirrored") == "1",
        box=box,
        source=row.get("source") or (FIGSHARE if figshare else None),
        plane=row.get("plane") or (figshare_plane(figshare) if figshare else None),
        sha256=row.get("sha256") or None,
        spacing=spacing,
    )


def _row(entry: Entry, folder: Path) -> dict[str, object]:
    row: dict[str, object] = {
        "path": relative_path(entry.path, folder),
        "label": entry.label.value,
        "group": entry.group,
        "figshare_id" if entry.source == FIGSHARE else "original": entry.original or "",
        "mirrored": int(entry.mirrored) if entry.original else "",
        "source": entry.source or "",
        "plane": entry.plane or "",
        "sha256": entry.sha256 or "",
    }
    if entry.spacing is not None:
        row |= dict(zip(("row_spacing", "column_spacing"), entry.spacing, strict=True))
    if entry.box is not None:
        row |= {
            column: f"{value:.4f}" for column, value in zip(_BOX_COLUMNS, entry.box, strict=True)
        }
    return row


def _box(row: dict[str, str]) -> tuple[float, float, float, float] | None:
    values = [row.get(column) for column in _BOX_COLUMNS]
    if not all(values):
        return None
    left, top, width, height = (float(value) for value in values if value)
    edges = left, top, left + width, top + height
    inside = all(math.isfinite(edge) and -_ROUNDING <= edge <= 1 + _ROUNDING for edge in edges)
    if not inside or width <= 0 or height <= 0:
        raise ValueError("the box does not lie inside the image")
    return left, top, width, height
