"""Held-out parts as lists of groups, with a hash of the list and a hash of the contents.

A list fixes a part. If the manifest grows, the groups of the list stay held out and every other
group is used for training. The hash of the contents detects changed images or labels.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ml.dataset.manifest import Entry, content_hash
from ml.dataset.splits import Split, split_by_group
from ml.errors import InvalidManifest

HELD_OUT = ("calibration", "validation")
_NAMED = 3  # groups that a message names


def groups_hash(groups: Iterable[str]) -> str:
    """SHA-256 of the sorted names of groups, one per line."""
    lines = "".join(f"{name}\n" for name in sorted(set(groups)))
    return hashlib.sha256(lines.encode()).hexdigest()


def images_hash(entries: Iterable[Entry]) -> str:
    """SHA-256 of the files' contents and labels, independent of names and order.

    Raises:
        InvalidManifest: a file cannot be read.
    """
    lines = sorted(f"{content_hash(one.path)} {one.label.value}\n" for one in entries)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def counted(part: Sequence[Entry]) -> dict[str, int]:
    """The number of slices and groups of a part."""
    return {"slices": len(part), "groups": len({entry.group for entry in part})}


def listed(part: Sequence[Entry]) -> dict[str, Any]:
    """A card's entry about a held-out part; for an empty part only the two counts."""
    if not part:
        return counted(part)
    names = sorted({entry.group for entry in part})
    return counted(part) | {
        "groups_sha256": groups_hash(names),
        "images_sha256": images_hash(part),
        "group_names": names,
    }


def has_lists(kept: Mapping[str, Any]) -> bool:
    """Whether the entry ``split`` of a card lists its held-out groups; old cards do not."""
    return any("group_names" in kept.get(name, {}) for name in HELD_OUT)


def split_as_listed(
    entries: list[Entry], kept: Mapping[str, Any], *, with_validation: bool = False
) -> Split:
    """The parts that the entry ``split`` of a card lists; every other group is for training.

    Args:
        with_validation: use the listed validation part for training too.

    Raises:
        InvalidManifest: the list does not match its hash, names a group twice or a missing group,
            or has no validation part although one is wanted.
    """
    calibration, validation = (_names(kept, name) for name in HELD_OUT)
    if not validation and not with_validation:
        raise InvalidManifest(
            "No validation part is listed: the model has learnt from it (--with-validation)."
        )
    if both := sorted(calibration & validation):
        raise InvalidManifest(f"The group {both[0]} is listed in two parts.")
    if missing := sorted((calibration | validation) - {entry.group for entry in entries}):
        raise InvalidManifest(
            f"The manifest lacks {len(missing)} of the groups that are held out, such as "
            f"{', '.join(missing[:_NAMED])}: name the manifest that the model was measured on, or "
            "one that holds it."
        )
    if with_validation:
        validation = set()
    return Split(
        training=[one for one in entries if one.group not in calibration | validation],
        calibration=[one for one in entries if one.group in calibration],
        validation=[one for one in entries if one.group in validation],
    )


def split_as_kept(entries: list[Entry], card: Mapping[str, Any]) -> Split:
    """The parts that a model was trained, calibrated and measured on.

    Old cards do not list them: these parts are split again by the seed, and their counts checked.

    Raises:
        InvalidManifest: ``entries`` lack those parts, or their images or labels differ.
    """
    kept = card["split"]
    # A model that was also trained on the validation part has none left.
    learnt = kept.get("validation", {}).get("slices") == 0
    if has_lists(kept):
        split = split_as_listed(entries, kept, with_validation=learnt)
    else:
        split = split_by_group(entries, seed=int(kept["seed"]), with_validation=learnt)
    check_contents(split, kept, str(card.get("name", "the model")))
    return split


def check_contents(split: Split, kept: Mapping[str, Any], name: str) -> None:
    """Check that held-out parts are unchanged since the model was made.

    Args:
        kept: the entry ``split`` of its card. Without hashes, the counts are compared.
        name: of the model.

    Raises:
        InvalidManifest: slices or labels of a part differ.
    """
    for part in HELD_OUT:
        entries, before = getattr(split, part), kept.get(part, {})
        if not entries or not before:
            continue
        if "images_sha256" in before:
            same = images_hash(entries) == before["images_sha256"]
        else:
            same = counted(entries) == {key: before[key] for key in ("slices", "groups")}
        if not same:
            raise InvalidManifest(
                f"The {part} part of {name} holds other images or other labels now "
                f"({len(entries)} slices; {before['slices']} when it was made): name the manifest "
                "that the model was made with."
            )


def _names(kept: Mapping[str, Any], part: str) -> set[str]:
    names = kept.get(part, {}).get("group_names", [])
    if names and groups_hash(names) != kept[part].get("groups_sha256"):
        raise InvalidManifest(f"The listed groups of the {part} part do not fit their hash.")
    return set(names)
