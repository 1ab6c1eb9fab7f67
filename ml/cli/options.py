"""Shared options: range checks, JSON output, and command lines for reports."""

import argparse
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def number_between(least: float, greatest: float, what: str) -> Callable[[str], float]:
    """The ``type`` of an option that takes numbers from ``least`` to ``greatest``.

    Args:
        what: name of the value for error messages, such as "number of millimetres".
    """

    def value(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not least <= found <= greatest:
            raise argparse.ArgumentTypeError(f"{text!r} is no {what}")
        return found

    return value


def add_card_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--card``, for commands whose figures are shown on a model's page."""
    parser.add_argument(
        "--card", type=Path, metavar="CARD.json", help="enter the figures in this model's card"
    )


def write_json(figures: dict[str, Any], out: Path | None) -> None:
    """Write the figures to the file of ``--json``, if given."""
    if out is not None:
        out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def command_line(options: argparse.Namespace, command: str, names: Iterable[str]) -> str:
    """The command line with the files of the options ``names``, without local folders."""
    parts = [f"python -m ml {command}"]
    for name in names:
        if given := getattr(options, name, None):
            files = given if isinstance(given, list) else [given]
            parts += [f"--{name}", *(_without_folder(Path(file)) for file in files)]
    return " ".join(parts)


def _without_folder(path: Path) -> str:
    own = path.is_absolute() or ".." in path.parts
    return path.name if own else str(path)
