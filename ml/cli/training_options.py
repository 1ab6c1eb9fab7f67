"""The options of commands that train: data, further slices and parts."""

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml.cli.manifest_options import add_manifest_options, read_named
from ml.errors import InvalidConfiguration

if TYPE_CHECKING:
    from ml.dataset import Entry, Split
    from ml.dataset.further import Further


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the manifest, ``--out`` and ``--outlines``."""
    add_manifest_options(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--outlines",
        type=Path,
        metavar="FILE.json",
        help="tumour outlines by identifier of the original slice; they teach where to look",
    )


def add_also(parser: argparse.ArgumentParser) -> None:
    """Add ``--also``."""
    parser.add_argument(
        "--also",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE.csv",
        help="manifests of further slices to train on, such as healthy heads of other scanners; "
        "nothing is calibrated or measured on them, and copies of held-out slices are left out",
    )


def add_split(parser: argparse.ArgumentParser) -> None:
    """Add ``--split``."""
    parser.add_argument(
        "--split",
        type=Path,
        metavar="CARD.json",
        help="hold out the groups that this model's card lists; every other group is learnt from "
        "(by default those of the model that it starts from, or dealt by the seed)",
    )


def read_entries(options: argparse.Namespace) -> "tuple[list[Entry], dict[str, str]]":
    """The manifest's entries with their outlines, and the excluded ones with reasons."""
    from ml import dataset

    entries, excluded = read_named(options)
    if options.outlines is not None:
        entries = dataset.with_outlines(entries, dataset.read_outlines(options.outlines))
    return entries, excluded


def read_further(options: argparse.Namespace, held_out: "list[Entry]") -> "Further":
    """Further training slices, without copies of held-out slices."""
    from ml import dataset
    from ml.dataset.further import without_held_out

    named = [entry for path in options.also for entry in dataset.read_manifest(path)]
    return without_held_out(named, held_out)


def listed_split(
    options: argparse.Namespace, entries: "list[Entry]", *, start: Path | None = None
) -> "Split | None":
    """The parts listed in the card of ``--split`` or of the model that training starts from.

    None if neither lists any.
    """
    from ml.dataset import split_as_listed
    from ml.dataset.parts import check_contents, has_lists
    from ml.registry import read_card

    named = options.split or start
    card = read_card(named) if named is not None else {}
    kept = card.get("split", {})
    if not has_lists(kept):
        if options.split is not None:
            raise InvalidConfiguration(f"{options.split} does not list the groups of its parts.")
        return None
    learnt = getattr(options, "with_validation", False)
    split = split_as_listed(entries, kept, with_validation=learnt)
    check_contents(split, kept, str(card.get("name", named)))
    return split


def data_facts(
    entries: "list[Entry]",
    training: "list[Entry]",
    further: "Further",
    excluded: dict[str, str],
) -> dict[str, Any]:
    """The card's entry about the data.

    Args:
        training: training slices without mirrored twins.
    """
    from ml.evaluation.evaluation import UNKNOWN

    return {
        "slices": len(entries),
        "groups": len({entry.group for entry in entries}),
        "training_slices_without_mirrored_twins": len(training),
        "training_slices_with_outline": sum(entry.outline is not None for entry in training),
        "further_training_slices": Counter(entry.source or UNKNOWN for entry in further.entries),
        "further_slices_left_out": further.left_out,
        "excluded": excluded,
    }
