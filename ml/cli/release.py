"""The command ``release``: make the serving model from a recipe and a manifest."""

import argparse
from pathlib import Path
from typing import Any

from ml.cli.options import command_line
from ml.cli.training_options import (
    add_also,
    add_data,
    add_split,
    data_facts,
    listed_split,
    read_entries,
    read_further,
)


def add_release(commands: Any) -> None:
    """Add ``release`` to the commands of ``python -m ml``."""
    release = commands.add_parser(
        "release",
        help="train, calibrate, quantise, measure and describe a model, by one recipe",
        description="Every stage keeps its result in the folder, and a rerun goes on from there. "
        "crossval takes the same recipe.",
    )
    add_data(release)
    add_also(release)
    add_split(release)
    release.add_argument(
        "--config",
        type=Path,
        required=True,
        metavar="RECIPE.toml",
        help="steps and folds, such as ml/recipes/serving.toml, or the recipe of one training",
    )
    release.add_argument(
        "--start",
        default=argparse.SUPPRESS,
        help="imagenet, scratch, or a safetensors file, for steps that start from no other step",
    )
    release.add_argument(
        "--winograd",
        action="store_true",
        default=argparse.SUPPRESS,
        help="as for train",
    )
    release.set_defaults(run=_release)


def _release(options: argparse.Namespace) -> int:
    from ml.dataset import split_by_hash, without_mirrored_twins
    from ml.pipeline import run_release
    from ml.release.plan import read_plan
    from ml.training.distributed import distributed_processes

    plan = read_plan(options.config, vars(options))
    entries, excluded = read_entries(options)
    split = listed_split(options, entries) or split_by_hash(entries, seed=plan.seed)
    further = read_further(options, split.calibration + split.validation)
    training = without_mirrored_twins(
        split.training + (split.calibration if plan.folds > 1 else [])
    )
    names = ("config", "start", "manifest", "outlines", "exclude", "also", "split")
    with distributed_processes() as processes:
        card = run_release(
            plan,
            split,
            further,
            folder=options.out,
            distributed=processes,
            facts={"data": data_facts(entries, training, further, excluded)},
            command=command_line(options, "release", names),
        )
    if card is not None:
        print(card)
    return 0
