"""Data options of the commands about models."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ml.dataset import Entry


def add_manifest_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--manifest`` and ``--exclude``."""
    parser.add_argument(
        "--manifest", type=Path, required=True, metavar="FILE.csv", help="the labelled slices"
    )
    parser.add_argument("--exclude", type=Path, metavar="FILE.csv", help="files to leave out")


def read_named(options: argparse.Namespace) -> "tuple[list[Entry], dict[str, str]]":
    """The manifest's entries, and the excluded ones with reasons.

    Raises:
        InvalidManifest: one of the files is invalid.
    """
    return read_without_excluded(options.manifest, options.exclude)


def read_without_excluded(
    manifest: Path, exclude: Path | None
) -> "tuple[list[Entry], dict[str, str]]":
    """A manifest's entries without the excluded ones, and these with reasons.

    Args:
        exclude: the list; by default the bundled one.

    Raises:
        InvalidManifest: one of the files is invalid.
    """
    from ml import dataset
    from ml.dataset.corrections import BUNDLED_EXCLUSIONS

    excluded = dataset.read_exclusions(exclude or BUNDLED_EXCLUSIONS)
    return dataset.read_manifest(manifest, excluded=excluded), excluded
