"""``python -m ml ood``: measure the out-of-distribution detection."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml.cli.options import add_card_option, command_line, write_json

if TYPE_CHECKING:
    from ml.dataset import Entry
    from ml.evaluation.ood.collection import OODPicture

_SLICES_TO_FIT = 600
_SEED = 20261123  # the seed of `train`, so that its validation part stays unseen


def add_ood(commands: Any) -> argparse.ArgumentParser:
    """Add the command without the model's options, which the caller adds."""
    ood: argparse.ArgumentParser = commands.add_parser(
        "ood",
        aliases=["odd"],
        help="measure how out-of-distribution pictures and brain slices are told apart",
    )
    ood.add_argument(
        "--pictures",
        type=Path,
        required=True,
        metavar="FILE.csv",
        help="pictures that are no brain MRI, with their path, kind and source",
    )
    ood.add_argument(
        "--manifest", type=Path, metavar="FILE.csv", help="brain slices (default: the samples)"
    )
    ood.add_argument("--every", type=_count, default=1, metavar="N", help="take each Nth of them")
    ood.add_argument(
        "--volumes",
        type=Path,
        nargs="+",
        default=[],
        metavar="STUDY",
        help="studies of brains that the model has never seen; files named …_Mask are left out",
    )
    ood.add_argument("--json", type=Path, metavar="OUT", help="write the figures there")
    add_card_option(ood)
    ood.add_argument(
        "--fit",
        type=Path,
        metavar="RULE.npz",
        help="instead fit the rule about pictures anew, on the training part of --manifest",
    )
    ood.set_defaults(run=_run)
    return ood


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    from ml.dataset import read_exclusions, read_manifest
    from ml.evaluation.bench import CHECK_SLICES
    from ml.evaluation.ood.collection import read_collection

    excluded = read_exclusions()
    entries = read_manifest(options.manifest or CHECK_SLICES, excluded=excluded)[:: options.every]
    pictures = read_collection(options.pictures)
    if options.fit is not None:
        return _fit(pictures, entries, options.fit)
    return _measure(pictures, entries, options)


def _measure(
    pictures: "list[OODPicture]", entries: "list[Entry]", options: argparse.Namespace
) -> int:
    from ml.evaluation.ood.measuring import measure_ood, table
    from ml.registry import SERVING, enter_figures
    from ml.serving.predictor import Predictor

    predictor = Predictor.load(options.model or SERVING, device=options.device)
    figures = measure_ood(predictor, pictures, entries, options.volumes)
    if options.card is not None:
        every = f"ood --every {options.every}"
        command = command_line(options, every, ("pictures", "manifest", "volumes"))
        enter_figures(options.card, "out_of_distribution", figures, command=command)
    write_json(figures, options.json)
    print(table(figures))
    return 0


def _fit(pictures: "list[OODPicture]", entries: "list[Entry]", out: Path) -> int:
    from ml.dataset import split_by_group, without_mirrored_twins
    from ml.dataset.pixels import pixels_of
    from ml.evaluation.ood.collection import held_out_sources
    from ml.evaluation.ood.fitting import fit_rule

    training = without_mirrored_twins(split_by_group(entries, seed=_SEED).training)
    chosen = training[:: max(1, len(training) // _SLICES_TO_FIT)]
    held_out = held_out_sources(pictures)
    rule = fit_rule(
        [pixels_of(entry) for entry in chosen],
        [one.pixels() for one in pictures if one.source not in held_out],
    )
    rule.save(out)
    print(out)
    return 0
