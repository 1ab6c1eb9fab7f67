"""Snapshots: what readers agreed about, frozen in a folder, to retrain and to judge models on.

Format 1::

    snapshot.json       what it is, with the hashes of all that follows
    manifest.csv        a line a slice: label, patient's group, part, fold, and who said so
    images/SHA256.png   the slices, named by their content

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
from pathlib import Path
from typing import Any, Literal, cast, get_args

from ml.dataset.feedback import Polygon, polygon_in
from ml.dataset.further import without_held_out
from ml.dataset.manifest import Entry, content_hash, read_rows, spacing_in, write_rows
from ml.dataset.parts import images_hash
from ml.errors import InvalidManifest
from ml.files import folder_in_one_piece
from ml.labels import LABELS, Label

FORMAT = 1
SOURCE = "snapshot"
FOLDS = 10
HOLDOUT_FOLDS = 2  # groups of the folds below are held out
CARD, MANIFEST, IMAGES = "snapshot.json", "manifest.csv", "images"
REPEATED, CONTRADICTING = "listed twice", "same image, other label or patient"
COLUMNS = (
    "path", "label", "group", "part", "fold", "sha256", "region",
    "row_spacing", "column_spacing", "pixel_aspect",
    "image_id", "study_id", "readers", "rule", "blind", "model_sha256", "predicted_label",
    "assessed_at", "model_shown",
)  # fmt: skip
_ADDED = {"model_shown"}  # later than the first snapshots, which do not have them

_SHA256 = re.compile(r"[0-9a-f]{64}")

Part = Literal["training", "holdout"]
Rule = Literal["quorum", "adjudicated", "single"]


@dataclass(frozen=True)
class Provenance:
    """Who called a slice what it is called, and what they had seen.

    Attributes:
        readers: their pseudonyms.
        rule: how their opinions became one label.
        blind: whether each of them gave it before another reader's opinion could be seen.
        model_shown: whether one of them came to it only after the model's answer was shown.
        model_sha256, predicted_label: the answer that stood beside the slice; empty if none did.
        assessed_at: of the last opinion, ISO time in UTC.
    """

    image_id: str
    study_id: str
    readers: tuple[str, ...]
    rule: Rule
    blind: bool
    assessed_at: str
    model_sha256: str = ""
    predicted_label: str = ""
    model_shown: bool = True


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
        provenance: of each slice, by the hash of its file (``Entry.sha256``).
    """

    id: str
    plan_version: int
    training: list[Entry]
    holdout: list[Entry]
    facts: dict[str, Any]
    provenance: Mapping[str, Provenance] = field(default_factory=dict)


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
        kept, reasons = _kept(partial, slices, locked)
        without = without_held_out(_part(kept, "training"), [*held_out, *_part(kept, "holdout")])
        for sha256 in [digest for digest, row in kept.items() if row.path in without.dropped]:
            kept.pop(sha256).path.unlink()
        facts = _write(partial, kept, plan, created_at) | {
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
    _check_files(folder, rows)
    if images_hash(row.entry for row in rows) != facts["images_sha256"]:
        raise InvalidManifest(f"The images of {folder} are not what was written: images_sha256.")
    for name, value in _counts([(row.part, row.entry) for row in rows]).items():
        if facts["counts"].get(name) != value:
            raise InvalidManifest(f"{folder / CARD} counts other {name} than there are.")
    return Snapshot(
        id=str(facts["id"]),
        plan_version=int(facts["plan"]["version"]),
        training=[row.entry for row in rows if row.part == "training"],
        holdout=[row.entry for row in rows if row.part == "holdout"],
        facts=facts,
        provenance={str(row.entry.sha256): row.provenance for row in rows},
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
    folder: Path, slices: Iterable[AgreedSlice], locked: Collection[str]
) -> tuple[dict[str, _Row], Counter[str]]:
    """Write the files; return the lines by the files' hashes, and what was left out."""
    kept: dict[str, _Row] = {}
    reasons: Counter[str] = Counter()
    contradicting: Counter[str] = Counter()
    for one in slices:
        sha256 = hashlib.sha256(one.content).hexdigest()
        before = kept.get(sha256)
        if sha256 in contradicting:
            contradicting[sha256] += 1
        elif before is None:
            kept[sha256] = _new_row(one, sha256, folder, locked)
            kept[sha256].path.write_bytes(one.content)
        elif (before.entry.label, before.entry.group) == (one.label, one.group):
            reasons[REPEATED] += 1
        else:
            kept.pop(sha256).path.unlink()
            contradicting[sha256] = 2
    if contradicting:
        reasons[CONTRADICTING] = contradicting.total()
    return kept, reasons


def _new_row(one: AgreedSlice, sha256: str, folder: Path, locked: Collection[str]) -> _Row:
    entry = Entry(
        path=folder / IMAGES / f"{sha256}.png",
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
    plan: PlanStamp,
    created_at: datetime.datetime | None,
) -> dict[str, Any]:
    if not rows:
        raise InvalidManifest("No slice is left for a snapshot.")
    ordered = [rows[sha256] for sha256 in sorted(rows)]
    write_rows(folder / MANIFEST, COLUMNS, [_cells(row) for row in ordered])
    created_at = created_at or datetime.datetime.now(datetime.UTC)
    return {
        "format": FORMAT,
        "created_at": created_at.astimezone(datetime.UTC).isoformat(timespec="seconds"),
        "plan": {"version": plan.version, "sha256": plan.sha256},
        "counts": _counts([(row.part, row.entry) for row in ordered]),
        "manifest_sha256": content_hash(folder / MANIFEST),
        "images_sha256": images_hash(row.entry for row in ordered),
    }


def _counts(rows: Sequence[tuple[Part, Entry]]) -> dict[str, Any]:
    held_out = [entry for part, entry in rows if part == "holdout"]
    found = Counter(entry.label for _part, entry in rows)
    return {
        "slices": len(rows),
        "groups": len({entry.group for _part, entry in rows}),
        "labels": {label.value: found[label] for label in LABELS},
        "holdout_slices": len(held_out),
        "holdout_groups": len({entry.group for entry in held_out}),
    }


def _cells(row: _Row) -> dict[str, object]:
    entry, said = row.entry, row.provenance
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
        "image_id": said.image_id,
        "study_id": said.study_id,
        "readers": " ".join(said.readers),
        "rule": said.rule,
        "blind": int(said.blind),
        "model_sha256": said.model_sha256,
        "predicted_label": said.predicted_label,
        "assessed_at": said.assessed_at,
        "model_shown": int(said.model_shown),
    }


def _facts(folder: Path) -> dict[str, Any]:
    path = folder / CARD
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        known = facts["format"] == FORMAT
        for name in ("id", "manifest_sha256", "images_sha256"):
            str(facts[name])
        dict(facts["counts"])
        int(facts["plan"]["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidManifest(f"{path} cannot be read as a snapshot: {error!r}") from error
    if not known:
        raise InvalidManifest(f"{path} has the format {facts['format']}; known is {FORMAT}.")
    return cast(dict[str, Any], facts)


def _row(cells: Mapping[str, str], folder: Path, line: int) -> _Row:
    where = f"{folder / MANIFEST}, line {line}"
    if not _SHA256.fullmatch(cells["sha256"]) or cells["path"] != f"{IMAGES}/{cells['sha256']}.png":
        raise InvalidManifest(f"{where}: {cells['path']} is not named by its hash.")
    if cells["part"] not in get_args(Part) or cells["rule"] not in get_args(Rule):
        raise InvalidManifest(f"{where}: the part or the rule is none that is known.")
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
    return _Row(_with_region(entry, outline), part, _provenance(cells))


def _with_region(entry: Entry, outline: Polygon | None) -> Entry:
    if outline is None or entry.label is Label.NO_TUMOR:
        return entry
    across, down = zip(*outline, strict=True)
    width, height = max(across) - min(across), max(down) - min(down)
    if not (width > 0 and height > 0):
        return entry
    return replace(entry, outline=outline, box=(min(across), min(down), width, height))


def _provenance(cells: Mapping[str, str]) -> Provenance:
    return Provenance(
        image_id=cells["image_id"],
        study_id=cells["study_id"],
        readers=tuple(cells["readers"].split()),
        rule=cast(Rule, cells["rule"]),
        blind=cells["blind"] == "1",
        assessed_at=cells["assessed_at"],
        model_sha256=cells["model_sha256"],
        predicted_label=cells["predicted_label"],
        model_shown=cells.get("model_shown") != "0",
    )


def _check_files(folder: Path, rows: Sequence[_Row]) -> None:
    listed = Counter(row.path.name for row in rows)
    for name, times in listed.items():
        if times > 1:
            raise InvalidManifest(f"{folder / MANIFEST} lists {name} twice.")
    for row in rows:
        if content_hash(row.path) != row.entry.sha256:
            raise InvalidManifest(f"{row.path} is not what was written: its hash differs.")
    if further := {path.name for path in (folder / IMAGES).iterdir()} - listed.keys():
        raise InvalidManifest(f"{folder / IMAGES} holds {min(further)}, which is not listed.")
    parts: dict[str, Part] = {}
    for row in rows:
        if parts.setdefault(row.entry.group, row.part) != row.part:
            raise InvalidManifest(f"{folder}: the group {row.entry.group} lies in both parts.")
