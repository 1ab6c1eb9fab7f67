"""What a retraining goes on from, read and checked, and what its candidate's card tells of it."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml.dataset import Entry, content_hash
from ml.dataset.further import without_held_out
from ml.dataset.parts import counted, groups_hash, images_hash
from ml.dataset.snapshot import Snapshot, read_snapshot
from ml.errors import InvalidConfiguration, InvalidManifest
from ml.files import in_one_piece
from ml.registry import Model, load_model, read_card, write_card
from ml.release.progress import Progress

HOLDOUT = "snapshot hold-out"
ISSUES = "label_issues.csv"
_NOTE = "retraining.json"


@dataclass(frozen=True)
class Order:
    """What is asked for.

    Attributes:
        mode: one of :data:`ml.release.change_plan.MODES`.
        snapshot: its folder.
        card: of the model that is gone on from.
        folder: where stages and candidate go.
        base: the slices of the collection that the model was made with; None without them.
        label_issues: one of :data:`ml.release.change_plan.LABEL_ISSUES`: whether suspected labels
            are learnt from. They are listed either way.
        held_out: further slices that no model may learn from, such as the reference set.
    """

    snapshot: Path
    card: Path
    folder: Path
    mode: str = "head"
    base: Sequence[Entry] | None = None
    label_issues: str = "report"
    held_out: Sequence[Entry] = ()


@dataclass(frozen=True)
class Material:
    """What an order names, read and checked.

    Attributes:
        learnt: the snapshot's training slices without copies of what is held out.
        left_out: the others, by the hash of their file, and why.
    """

    order: Order
    model: Model
    snapshot: Snapshot
    learnt: list[Entry]
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """Of the candidate's files."""
        return str(self.model.card["architecture"])

    @property
    def candidate(self) -> Path:
        """Card of the candidate."""
        return self.order.folder / "model" / f"{self.stem}.json"


def read_material(order: Order) -> Material:
    """Read what is named, and note in the folder what it is for.

    Raises:
        InvalidManifest: the snapshot is damaged, or holds nothing to learn from or to measure on.
        InvalidModel: the model is damaged.
        InvalidConfiguration: the folder holds another retraining.
    """
    snapshot, model = read_snapshot(order.snapshot), load_model(order.card)
    if not snapshot.holdout:
        raise InvalidManifest(f"{order.snapshot} holds nothing out: a candidate is measured there.")
    kept = without_held_out(snapshot.training, [*snapshot.holdout, *order.held_out])
    if not kept.entries:
        raise InvalidManifest(f"{order.snapshot} holds nothing to learn from.")
    left_out = {
        one.file_hash: kept.dropped[one.path]
        for one in snapshot.training
        if one.path in kept.dropped
    }
    _claim(order, snapshot, model)
    return Material(order, model, snapshot, kept.entries, left_out)


def history(material: Material, learnt: Sequence[Entry]) -> dict[str, Any]:
    """The card's entries about where a candidate comes from.

    Args:
        learnt: the slices of the snapshot that weights were fitted on.
    """
    model, snapshot = material.model, material.snapshot
    return {
        "retrained_from": {
            "name": model.name,
            "weights_sha256": model.sha256,
            "card_sha256": content_hash(material.order.card),
            "mode": material.order.mode,
        },
        "snapshot": {
            "id": snapshot.id,
            "plan": snapshot.facts["plan"],
            "manifest_sha256": snapshot.facts["manifest_sha256"],
            "images_sha256": snapshot.facts["images_sha256"],
            "learnt": _learnt(learnt),
            "holdout": counted(snapshot.holdout),
            "left_out": material.left_out,
        },
    }


def _learnt(learnt: Sequence[Entry]) -> dict[str, Any]:
    return counted(learnt) | {
        "groups_sha256": groups_hash(one.group for one in learnt),
        "images_sha256": images_hash(learnt),
        "image_hashes": sorted(one.file_hash for one in learnt),
    }


def name_candidate(path: Path) -> None:
    """Give a candidate a name of its own: that of its architecture, month and weights."""
    card = read_card(path)
    month = str(card["created"])[:7].replace("-", ".")
    name = f"{card['architecture']}-{month}-{card['weights']['sha256'][:8]}"
    write_card(card | {"name": name}, path)


@contextmanager
def measured(
    material: Material, calibrated: Path, where: Path, progress: Progress
) -> Iterator[Path]:
    """Let the block measure a copy of a calibrated candidate; it gets the copy's card.

    The card then says that it was measured on what the snapshot holds out.
    """
    shutil.copytree(calibrated, where, dirs_exist_ok=True)
    path = where / f"{material.stem}.json"
    progress.tell("measuring", 0, 1)
    yield path
    card = read_card(path)
    card["metrics"]["part"] = HOLDOUT
    write_card(card, path)
    progress.tell("measuring", 1, 1)


def _claim(order: Order, snapshot: Snapshot, model: Model) -> None:
    """Note what the folder is for, so that no two retrainings end up in one."""
    order.folder.mkdir(parents=True, exist_ok=True)
    wanted = {
        "snapshot": snapshot.facts["manifest_sha256"],
        "from": model.sha256,
        "mode": order.mode,
        "label_issues": order.label_issues,
        "held_out": _names_hash(order.held_out),
        "base": None if order.base is None else _names_hash(order.base),
    }
    note = order.folder / _NOTE
    if note.exists() and json.loads(note.read_text(encoding="utf-8")) != wanted:
        raise InvalidConfiguration(
            f"{order.folder} holds a retraining of another snapshot, model or way: name another "
            "folder."
        )
    with in_one_piece(note) as partial:
        partial.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")


def _names_hash(entries: Sequence[Entry]) -> str:
    lines = sorted(f"{one.path.name} {one.label} {one.group}\n" for one in entries)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
