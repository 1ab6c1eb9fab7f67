"""Held-out parts as lists: the groups they hold, with a hash, and a hash of what is in them.

A list fixes a part. Whatever else comes into the manifest, the groups of the list are held out and
every other group is learnt from. The hash of the contents tells whether images or labels of a part
have changed since.
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
    """SHA-256 of the sorted names of groups, a line each."""
    lines = "".join(f"{name}\n" for name in sorted(set(groups)))
    return hashlib.sha256(lines.encode()).hexdigest()


def images_hash(entries: Iterable[Entry]) -> str:
    """SHA-256 of the files' contents with their labels, whatever their names and order.

    Raises:
        InvalidManifest: a file cannot be read.
    """
    lines = sorted(f"{content_hash(one.path)} {one.label.value}\n" for one in entries)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def counted(part: Sequence[Entry]) -> dict[str, int]:
    """How many slices and groups a part holds."""
    return {"slices": len(part), "groups": len({entry.group for entry in part})}


def listed(part: Sequence[Entry]) -> dict[str, Any]:
    """What a card keeps of a held-out part; of an empty one its two zeros alone."""
    if not part:
        return counted(part)
    names = sorted({entry.group for entry in part})
    return counted(part) | {
        "groups_sha256": groups_hash(names),
        "images_sha256": images_hash(part),
        "group_names": names,
    }


def has_lists(kept: Mapping[str, Any]) -> bool:
    """Whether the entry ``split`` of a card lists its held-out groups; earlier cards do not."""
    return any("group_names" in kept.get(name, {}) for name in HELD_OUT)


def split_as_listed(
    entries: list[Entry], kept: Mapping[str, Any], *, with_validation: bool = False
) -> Split:
    """The parts that the entry ``split`` of a card lists; every other group is learnt from.

    Args:
        with_validation: the listed validation part is learnt from, too.

    Raises:
        InvalidManifest: the list does not fit its hash, names a group twice or one that is not
            there, or has no validation part although one is wanted.
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

    Cards of earlier models do not list them: theirs are dealt again by the seed, and counted.

    Raises:
        InvalidManifest: ``entries`` do not hold those parts, or other images or labels in them.
    """
    kept = card["split"]
    # A model that learnt from the validation part, too, has nothing left to validate on.
    learnt = kept.get("validation", {}).get("slices") == 0
    if has_lists(kept):
        split = split_as_listed(entries, kept, with_validation=learnt)
    else:
        split = split_by_group(entries, seed=int(kept["seed"]), with_validation=learnt)
    check_contents(split, kept, str(card.get("name", "the model")))
    return split


def check_contents(split: Split, kept: Mapping[str, Any], name: str) -> None:
    """Make sure that held-out parts hold what they held when the model was made.

    Args:
        kept: the entry ``split`` of its card. Where it has no hashes, the counts are compared.
        name: of the model.

    Raises:
        InvalidManifest: one holds other slices, or slices with other labels.
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
