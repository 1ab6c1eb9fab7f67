"""Snapshots: what readers agreed about, frozen in a folder, to retrain and to judge models on.

Format 1, and format 2, which has the second list::

    snapshot.json       what it is, with the hashes of all that follows
    manifest.csv        a line a slice: label, patient's group, part, fold, and who said so
    out_of_scope.csv    slices of none of the classes (:mod:`ml.dataset.out_of_scope`)
    images/SHA256.png   the slices of both, named by their content

A group (a patient, as a pseudonym) lies in one part as a whole. Which one follows from its name
alone, so that a patient who is held out today is held out of every later snapshot, too.
"""

import datetime
import hashlib
import json
import re
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, cast, get_args

from ml.dataset.feedback import Polygon, polygon_in
from ml.dataset.further import without_held_out
from ml.dataset.manifest import Entry, content_hash, read_rows, spacing_in, write_rows
from ml.dataset.out_of_scope import (
    OutOfScope,
    OutOfScopeSlice,
    read_out_of_scope,
    write_out_of_scope,
)
from ml.dataset.parts import images_hash
from ml.dataset.provenance import COLUMNS as PROVENANCE
from ml.dataset.provenance import Provenance, cells_of, provenance_in
from ml.errors import InvalidManifest
from ml.files import folder_in_one_piece
from ml.labels import LABELS, Label

FORMATS = (1, 2)
SOURCE = "snapshot"
FOLDS = 10
HOLDOUT_FOLDS = 2  # groups of the folds below are held out
CARD, MANIFEST, IMAGES = "snapshot.json", "manifest.csv", "images"
REPEATED, CONTRADICTING = "listed twice", "same image, other label or patient"
COLUMNS = (
    "path", "label", "group", "part", "fold", "sha256", "region",
    "row_spacing", "column_spacing", "pixel_aspect",
    *PROVENANCE,
)  # fmt: skip
_ADDED = {"model_shown"}  # later than the first snapshots, which do not have them

_SHA256 = re.compile(r"[0-9a-f]{64}")

Part = Literal["training", "holdout"]


@dataclass(frozen=True)
class AgreedSlice:
    """One slice as it goes into a snapshot.

    Attributes:
        content: the PNG file.
        group: the patient's pseudonym.
        region: the tumour's outline as fractions of width and height.
        spacing: millimetres between pixel centres as (row, column).
        pixel_aspect: height of a pixel over its width, where ``spacing`` is not known.
    """

    content: bytes
    label: Label
    group: str
    provenance: Provenance
    region: Polygon | None = None
    spacing: tuple[float, float] | None = None
    pixel_aspect: float | None = None


@dataclass(frozen=True)
class PlanStamp:
    """Which plan of change a snapshot was taken under."""

    version: int
    sha256: str


@dataclass(frozen=True)
class Snapshot:
    """A folder that was read and is what its hashes say.

    Attributes:
        training, holdout: what may be learnt from, and what models are judged on.
        facts: the content of ``snapshot.json``.
        provenance: of each slice with a label, by the hash of its file (``Entry.sha256``).
        out_of_scope: slices of none of the classes, which nothing learns from.
    """

    id: str
    plan_version: int
    training: list[Entry]
    holdout: list[Entry]
    facts: dict[str, Any]
    provenance: Mapping[str, Provenance] = field(default_factory=dict)
    out_of_scope: Sequence[OutOfScope] = ()


def fold_of(group: str) -> int:
    """The fold of a group, 0..9; the same in every snapshot."""
    return int(hashlib.sha256(f"fold:{group}".encode()).hexdigest()[:8], 16) % FOLDS


def part_of(group: str, locked: Collection[str] = ()) -> Part:
    """Where a group lies: in the part that is held out by its fold, or if it is ``locked``."""
    return "holdout" if fold_of(group) < HOLDOUT_FOLDS or group in locked else "training"


def write_snapshot(
    folder: Path,
    slices: Iterable[AgreedSlice],
    *,
    plan: PlanStamp,
    out_of_scope: Iterable[OutOfScopeSlice] = (),
    left_out: Mapping[str, int] | None = None,
    locked: Collection[str] = (),
    held_out: Sequence[Entry] = (),
    created_at: datetime.datetime | None = None,
    snapshot_id: uuid.UUID | None = None,
) -> Snapshot:
    """Write a snapshot in one piece.

    An image that comes twice is kept once; one that comes with two labels or for two patients is
    left out, and so are groups of the training part that hold a copy, near copy or mirror image
    of a slice that is held out. All of that is counted in ``left_out``, and such copies are listed
    in ``snapshot.json``.

    Args:
        folder: must not be there yet.
        slices: may be a generator; one is held in memory at a time.
        out_of_scope: slices of none of the classes, which go on a list of their own; as ``slices``.
        left_out: how many slices the caller left out, by reason.
        locked: groups that are held out whatever their fold.
        held_out: further slices that no model may learn from, such as the reference set.
        snapshot_id: by default a new one.

    Raises:
        InvalidManifest: the folder is there, or no slice is left.
        UnreadableImage: a content is no image.
    """
    if folder.exists():
        raise InvalidManifest(f"There is a snapshot {folder} already.")
    with folder_in_one_piece(folder) as partial:
        (partial / IMAGES).mkdir()
        every, reasons = _kept(partial, chain(slices, out_of_scope), locked)
        kept = {sha256: row for sha256, row in every.items() if isinstance(row, _Row)}
        others = [row for row in every.values() if isinstance(row, OutOfScope)]
        without = without_held_out(_part(kept, "training"), [*held_out, *_part(kept, "holdout")])
        for sha256 in [digest for digest, row in kept.items() if row.path in without.dropped]:
            kept.pop(sha256).path.unlink()
        facts = _write(partial, kept, others, plan, created_at) | {
            "id": str(snapshot_id or uuid.uuid4()),
            "left_out": dict(Counter(left_out or {}) + reasons + Counter(without.left_out)),
            "copies": {path.stem: why for path, why in sorted(without.dropped.items())},
        }
        (partial / CARD).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return read_snapshot(folder)


def read_snapshot(folder: Path) -> Snapshot:
    """Read a snapshot and check it against its hashes.

    Raises:
        InvalidManifest: it is not complete, of another format, or differs from what was written;
            the message names what differs.
    """
    facts = _facts(folder)
    manifest = folder / MANIFEST
    if content_hash(manifest) != facts["manifest_sha256"]:
        raise InvalidManifest(f"{manifest} is not what was written: its hash differs.")
    rows = [_row(cells, folder, line) for line, cells in read_rows(manifest, set(COLUMNS) - _ADDED)]
    others = _others(folder, facts)
    _check_files(folder, rows, others)
    if images_hash(row.entry for row in rows) != facts["images_sha256"]:
        raise InvalidManifest(f"The images of {folder} are not what was written: images_sha256.")
    for name, value in _counts([(row.part, row.entry) for row in rows], others).items():
        if facts["counts"].get(name, 0 if name == "out_of_scope" else None) != value:
            raise InvalidManifest(f"{folder / CARD} counts other {name} than there are.")
    return Snapshot(
        id=str(facts["id"]),
        plan_version=int(facts["plan"]["version"]),
        training=[row.entry for row in rows if row.part == "training"],
        holdout=[row.entry for row in rows if row.part == "holdout"],
        facts=facts,
        provenance={str(row.entry.sha256): row.provenance for row in rows},
        out_of_scope=others,
    )


@dataclass(frozen=True)
class _Row:
    """A line of the manifest, with or without the file behind it."""

    entry: Entry
    part: Part
    provenance: Provenance
    pixel_aspect: float | None = None

    @property
    def path(self) -> Path:
        return self.entry.path


def _kept(
    folder: Path, slices: Iterable[AgreedSlice | OutOfScopeSlice], locked: Collection[str]
) -> tuple[dict[str, _Row | OutOfScope], Counter[str]]:
    """Write the files; return the lines by the files' hashes, and what was left out."""
    kept: dict[str, _Row | OutOfScope] = {}
    reasons: Counter[str] = Counter()
    contradicting: Counter[str] = Counter()
    for one in slices:
        sha256 = hashlib.sha256(one.content).hexdigest()
        row = _new_row(one, folder / IMAGES / f"{sha256}.png", sha256, locked)
        before = kept.get(sha256)
        if sha256 in contradicting:
            contradicting[sha256] += 1
        elif before is None:
            kept[sha256] = row
            row.path.write_bytes(one.content)
        elif _said(before) == _said(row):
            reasons[REPEATED] += 1
        else:
            kept.pop(sha256).path.unlink()
            contradicting[sha256] = 2
    if contradicting:
        reasons[CONTRADICTING] = contradicting.total()
    return kept, reasons


def _said(row: _Row | OutOfScope) -> tuple[Label | None, str]:
    """The label, None for none of them, and the group."""
    return (None, row.group) if isinstance(row, OutOfScope) else (row.entry.label, row.entry.group)


def _new_row(
    one: AgreedSlice | OutOfScopeSlice, path: Path, sha256: str, locked: Collection[str]
) -> _Row | OutOfScope:
    if isinstance(one, OutOfScopeSlice):
        return one.written(path, sha256)
    entry = Entry(
        path=path,
        label=one.label,
        group=one.group,
        outline=one.region,
        sha256=sha256,
        spacing=one.spacing,
    )
    return _Row(entry, part_of(one.group, locked), one.provenance, one.pixel_aspect)


def _part(rows: Mapping[str, _Row], part: Part) -> list[Entry]:
    return [row.entry for row in rows.values() if row.part == part]


def _write(
    folder: Path,
    rows: Mapping[str, _Row],
    others: Sequence[OutOfScope],
    plan: PlanStamp,
    created_at: datetime.datetime | None,
) -> dict[str, Any]:
    if not rows:
        raise InvalidManifest("No slice is left for a snapshot.")
    ordered = [rows[sha256] for sha256 in sorted(rows)]
    write_rows(folder / MANIFEST, COLUMNS, [_cells(row) for row in ordered])
    created_at = created_at or datetime.datetime.now(datetime.UTC)
    listed = {"out_of_scope_sha256": write_out_of_scope(folder, others)} if others else {}
    return {
        "format": 2 if others else 1,
        "created_at": created_at.astimezone(datetime.UTC).isoformat(timespec="seconds"),
        "plan": {"version": plan.version, "sha256": plan.sha256},
        "counts": _counts([(row.part, row.entry) for row in ordered], others),
        "manifest_sha256": content_hash(folder / MANIFEST),
        "images_sha256": images_hash(row.entry for row in ordered),
        **listed,
    }


def _counts(rows: Sequence[tuple[Part, Entry]], others: Sequence[OutOfScope]) -> dict[str, Any]:
    """Of slices with a label, and apart from them, of those of none."""
    held_out = [entry for part, entry in rows if part == "holdout"]
    found = Counter(entry.label for _part, entry in rows)
    return {
        "slices": len(rows),
        "groups": len({entry.group for _part, entry in rows}),
        "labels": {label.value: found[label] for label in LABELS},
        "holdout_slices": len(held_out),
        "holdout_groups": len({entry.group for entry in held_out}),
        "out_of_scope": len(others),
    }


def _cells(row: _Row) -> dict[str, object]:
    entry = row.entry
    down, across = entry.spacing or ("", "")
    return {
        "path": f"{IMAGES}/{entry.path.name}",
        "label": entry.label.value,
        "group": entry.group,
        "part": row.part,
        "fold": fold_of(entry.group),
        "sha256": entry.sha256,
        "region": json.dumps(entry.outline) if entry.outline else "",
        "row_spacing": down,
        "column_spacing": across,
        "pixel_aspect": "" if entry.spacing or not row.pixel_aspect else row.pixel_aspect,
        **cells_of(row.provenance),
    }


def _facts(folder: Path) -> dict[str, Any]:
    path = folder / CARD
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        known = facts["format"] in FORMATS
        second = ("out_of_scope_sha256",) if facts["format"] == 2 else ()
        for name in ("id", "manifest_sha256", "images_sha256", *second):
            str(facts[name])
        dict(facts["counts"])
        int(facts["plan"]["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidManifest(f"{path} cannot be read as a snapshot: {error!r}") from error
    if not known:
        raise InvalidManifest(f"{path} has the format {facts['format']}; known are 1 and 2.")
    return cast(dict[str, Any], facts)


def _others(folder: Path, facts: Mapping[str, Any]) -> list[OutOfScope]:
    """The second list, which format 2 has."""
    if facts["format"] == 1:
        return []
    rows = read_out_of_scope(folder, facts["out_of_scope_sha256"])
    for row in rows:
        _check_name(str(row.path.relative_to(folder)), row.sha256, str(folder))
    return rows


def _check_name(path: str, sha256: str, where: str) -> None:
    if not _SHA256.fullmatch(sha256) or path != f"{IMAGES}/{sha256}.png":
        raise InvalidManifest(f"{where}: {path} is not named by its hash.")


def _row(cells: Mapping[str, str], folder: Path, line: int) -> _Row:
    where = f"{folder / MANIFEST}, line {line}"
    _check_name(cells["path"], cells["sha256"], where)
    if cells["part"] not in get_args(Part):
        raise InvalidManifest(f"{where}: the part {cells['part']!r} is none that is known.")
    part = cast(Part, cells["part"])
    if cells["fold"] != str(fold_of(cells["group"])):
        raise InvalidManifest(f"{where}: the group {cells['group']} has another fold.")
    if part == "training" and part_of(cells["group"]) == "holdout":
        raise InvalidManifest(f"{where}: the group {cells['group']} is held out by its fold.")
    try:
        entry = Entry(
            path=folder / cells["path"],
            label=Label(cells["label"]),
            group=cells["group"],
            source=SOURCE,
            sha256=cells["sha256"],
            spacing=spacing_in(cells),
        )
        outline = polygon_in(cells["region"])
    except ValueError as error:
        raise InvalidManifest(f"{where}: {error}") from error
    return _Row(_with_region(entry, outline), part, provenance_in(cells, where))


def _with_region(entry: Entry, outline: Polygon | None) -> Entry:
    if outline is None or entry.label is Label.NO_TUMOR:
        return entry
    across, down = zip(*outline, strict=True)
    width, height = max(across) - min(across), max(down) - min(down)
    if not (width > 0 and height > 0):
        return entry
    return replace(entry, outline=outline, box=(min(across), min(down), width, height))


def _check_files(folder: Path, rows: Sequence[_Row], others: Sequence[OutOfScope]) -> None:
    files = [(row.path, row.entry.sha256) for row in rows] + [(o.path, o.sha256) for o in others]
    listed = Counter(path.name for path, _sha256 in files)
    for name, times in listed.items():
        if times > 1:
            raise InvalidManifest(f"{folder} lists {name} twice.")
    for path, sha256 in files:
        if content_hash(path) != sha256:
            raise InvalidManifest(f"{path} is not what was written: its hash differs.")
    if further := {path.name for path in (folder / IMAGES).iterdir()} - listed.keys():
        raise InvalidManifest(f"{folder / IMAGES} holds {min(further)}, which is not listed.")
    parts: dict[str, Part] = {}
    for row in rows:
        if parts.setdefault(row.entry.group, row.part) != row.part:
            raise InvalidManifest(f"{folder}: the group {row.entry.group} lies in both parts.")
