"""Slices of a snapshot that show none of the classes: a list of their own, without a label.

Nothing learns from them. They tell whether a model calls unfamiliar what it has no class for.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ml.dataset.manifest import content_hash, read_rows, relative_path, spacing_in, write_rows
from ml.dataset.pixels import named
from ml.dataset.provenance import COLUMNS as PROVENANCE
from ml.dataset.provenance import Provenance, cells_of, provenance_in
from ml.errors import InvalidManifest
from ml.imaging import read_path, square_pixels
from ml.imaging.slices import Pixels

LIST = "out_of_scope.csv"
COLUMNS = (
    "path", "group", "sha256", "finding", "row_spacing", "column_spacing", "pixel_aspect",
    *PROVENANCE,
)  # fmt: skip

_FINDING = re.compile(r"[a-z_]{0,64}")


@dataclass(frozen=True)
class OutOfScope:
    """One slice on which readers agree that it shows none of the classes.

    Attributes:
        path: of the PNG, which is named by its content.
        group: the patient's pseudonym.
        finding: what it is, as a key; empty where readers differ or used words of their own.
        spacing: millimetres between pixel centres as (row, column); of a list that was read
            also their proportion alone.
        pixel_aspect: height of a pixel over its width, where ``spacing`` is not known.
    """

    path: Path
    group: str
    sha256: str
    finding: str
    provenance: Provenance
    spacing: tuple[float, float] | None = None
    pixel_aspect: float | None = None

    def pixels(self) -> Pixels:
        """The picture, resampled to square pixels; raises :class:`UnreadableImage`."""
        with named(self.path):
            found = read_path(self.path)[0]
            return square_pixels(replace(found, spacing=self.spacing or found.spacing))


@dataclass(frozen=True)
class OutOfScopeSlice:
    """As :class:`OutOfScope`, before it is written.

    Attributes:
        content: the PNG file.
    """

    content: bytes
    group: str
    finding: str
    provenance: Provenance
    spacing: tuple[float, float] | None = None
    pixel_aspect: float | None = None

    def written(self, path: Path, sha256: str) -> OutOfScope:
        """The same as a file; nothing is written here."""
        return OutOfScope(
            path=path,
            group=self.group,
            sha256=sha256,
            finding=self.finding,
            provenance=self.provenance,
            spacing=self.spacing,
            pixel_aspect=self.pixel_aspect,
        )


def write_out_of_scope(folder: Path, rows: Iterable[OutOfScope]) -> str:
    """Write the list, ordered by hash; returns the hash of the file."""
    path = folder / LIST
    ordered = sorted(rows, key=lambda one: one.sha256)
    write_rows(path, COLUMNS, [_cells(one, folder) for one in ordered])
    return content_hash(path)


def read_out_of_scope(folder: Path, sha256: str) -> list[OutOfScope]:
    """Read the list without looking at the pictures.

    Args:
        sha256: of the file, as the snapshot says.

    Raises:
        InvalidManifest: it is not what was written, or a line is wrong.
    """
    path = folder / LIST
    if content_hash(path) != sha256:
        raise InvalidManifest(f"{path} is not what was written: its hash differs.")
    rows = read_rows(path, set(COLUMNS))
    return [_row(cells, folder, f"{path}, line {line}") for line, cells in rows]


def _cells(one: OutOfScope, folder: Path) -> dict[str, object]:
    down, across = one.spacing or ("", "")
    return {
        "path": relative_path(one.path, folder),
        "group": one.group,
        "sha256": one.sha256,
        "finding": one.finding,
        "row_spacing": down,
        "column_spacing": across,
        "pixel_aspect": "" if one.spacing or not one.pixel_aspect else one.pixel_aspect,
        **cells_of(one.provenance),
    }


def _row(cells: Mapping[str, str], folder: Path, where: str) -> OutOfScope:
    if not _FINDING.fullmatch(cells["finding"]):
        raise InvalidManifest(f"{where}: the finding is no key.")
    try:
        spacing = spacing_in(cells)
    except ValueError as error:
        raise InvalidManifest(f"{where}: {error}") from error
    return OutOfScope(
        path=folder / cells["path"],
        group=cells["group"],
        sha256=cells["sha256"],
        finding=cells["finding"],
        provenance=provenance_in(cells, where),
        spacing=spacing,
    )
