"""Files of a cross-validation in its folder, and the record of its settings."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ml.dataset import Entry, Split
from ml.dataset.parts import groups_hash, images_hash
from ml.errors import InvalidConfiguration
from ml.files import in_one_piece
from ml.release.plan import Plan
from ml.training.recipe import Recipe, kept_values

SETTINGS = "settings.json"


def claim(
    folder: Path,
    splits: dict[str, Split],
    recipe: Recipe,
    also: Sequence[Entry],
    plan: Plan | None = None,
) -> None:
    """Record the settings of the folder, so that two cross-validations cannot share it.

    Raises:
        InvalidConfiguration: it has another one, or images or labels have changed since.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = _wanted(splits, recipe, also, plan)
    note = folder / SETTINGS
    if note.exists() and (before := _settings(note, wanted)) != wanted:
        _check_contents(folder, before, wanted)
        if not _is_lengthened(before, wanted):
            raise InvalidConfiguration(
                f"{folder} holds a cross-validation of another recipe or other data: name another "
                "folder."
            )
        for name in splits:
            answers_file(folder, name).unlink(missing_ok=True)
            unseen_file(folder, name).unlink(missing_ok=True)
    write_whole(note, json.dumps(wanted, indent=2).encode())


def _wanted(
    splits: dict[str, Split], recipe: Recipe, also: Sequence[Entry], plan: Plan | None
) -> dict[str, Any]:
    named = {
        name: [
            [entry.path.name for entry in part]
            for part in (split.training, split.calibration, split.validation)
        ]
        for name, split in splits.items()
    }
    if also:
        named["also"] = [[entry.path.name for entry in also]]
    contents = {
        name: {
            "groups_sha256": groups_hash(entry.group for entry in split.validation),
            "images_sha256": images_hash(split.validation),
        }
        for name, split in splits.items()
    }
    if also:
        contents["also"] = {"images_sha256": images_hash(also)}
    settings = {
        "recipe": asdict(recipe),
        "splits_sha256": hashlib.sha256(json.dumps(named).encode()).hexdigest(),
        "folds": list(splits),
        "contents": contents,
    } | ({"plan": plan.settings()} if plan is not None else {})
    return dict(json.loads(json.dumps(settings)))  # tuples become lists, as in the stored file


def _check_contents(folder: Path, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Distinguish changed images or labels from another cross-validation."""
    if before["splits_sha256"] != after["splits_sha256"]:
        return
    for name, content in after["contents"].items():
        if before["contents"].get(name) != content:
            raise InvalidConfiguration(
                f"Images, labels or groups of {name} have changed since the cross-validation in "
                f"{folder} was begun: name another folder."
            )


def _settings(note: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """The settings that :func:`claim` wrote, also in old formats.

    Old files lack the hashes of the contents; those of ``wanted`` are assumed.
    """
    settings: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
    settings.setdefault("contents", wanted["contents"])
    return settings | {"recipe": kept_values(settings["recipe"])}


def _is_lengthened(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether ``after`` only adds epochs to those of ``before``."""
    before, after = (one | {"recipe": dict(one["recipe"])} for one in (before, after))
    both = before["recipe"].pop("stages"), after["recipe"].pop("stages")
    sizes, longer = (
        [stage["size"] for stage in stages for _ in range(stage["epochs"])] for stages in both
    )
    return before == after and longer[: len(sizes)] == sizes


def write_whole(path: Path, content: bytes) -> None:
    """Write atomically, so that an existing file is complete."""
    with in_one_piece(path) as partial:
        partial.write_bytes(content)


def answers_file(folder: Path, name: str) -> Path:
    """The file with a measured fold's answers about its validation part."""
    return folder / name / "answers.json"


def unseen_file(folder: Path, name: str) -> Path:
    """The file with a trained fold's outputs for it, to calibrate the other folds."""
    return folder / name / "unseen.safetensors"
