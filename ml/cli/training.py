"""The commands that train: ``train``, ``crossval`` and ``compare``."""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml.cli.options import add_card_option, command_line
from ml.cli.training_options import (
    add_also,
    add_data,
    add_split,
    data_facts,
    listed_split,
    read_entries,
    read_further,
)
from ml.errors import InvalidConfiguration
from ml.training.recipe import Recipe, Stage, read_recipe

if TYPE_CHECKING:
    from ml.dataset import Entry, Split
    from ml.release.plan import Plan

# As in ml/__main__.py, the commands import modules that need torch when they run.

_USUAL = Recipe()


def add_train(commands: Any) -> None:
    """Add ``train`` to the commands of ``python -m ml``."""
    train = commands.add_parser(
        "train",
        help="fine-tune, calibrate, measure and package a model",
        description="Values come from --config, or are the usual ones; options override both. A "
        "rerun resumes from the last epoch. For several processes or GPUs: torchrun "
        "--nproc-per-node N -m ml train …",
    )
    add_data(train)
    add_also(train)
    train.add_argument(
        "--variants",
        type=Path,
        dest="variants_folder",
        metavar="FOLDER",
        help="where kept variants lie (OUT/variants); two runs that differ only above the frozen "
        "layers may share them",
    )
    train.add_argument(
        "--with-validation",
        action="store_true",
        help="learn from the validation part, too, as a model that serves may once a "
        "cross-validation has told how good its recipe is; measured on the calibration part",
    )
    add_split(train)
    _add_recipe(train)
    train.set_defaults(run=_train)


def add_crossval(commands: Any) -> None:
    """Add ``crossval`` to the commands of ``python -m ml``."""
    crossval = commands.add_parser(
        "crossval",
        help="train and measure one model a fold; every slice is answered once",
        description="What is finished lies in the folder, and a rerun goes on from there.",
    )
    add_data(crossval)
    add_also(crossval)
    _add_recipe(crossval)
    crossval.add_argument(
        "--by",
        choices=("group", "source", "against-source"),
        default="group",
        help="group: --folds parts that share no patient (the default); source: leave one out; "
        "against-source: --folds parts in which a slice's source tells the wrong class",
    )
    crossval.add_argument(
        "--folds",
        type=int,
        default=5,
        metavar="N",
        help="(%(default)s; the recipe of a release tells its own number)",
    )
    crossval.add_argument(
        "--calibrated-by-others",
        action="store_true",
        help="by group: every fold learns from its calibration part, too, and is calibrated, once "
        "all are trained, on what the other folds' networks say about patients new to them",
    )
    crossval.add_argument("--report", type=Path, metavar="FILE.md", help="a page with tables")
    add_card_option(crossval)
    crossval.add_argument("--only", type=int, metavar="FOLD", help="run this fold alone, from 1")
    crossval.set_defaults(run=_crossval)


def add_compare(commands: Any) -> None:
    """Add ``compare`` to the commands of ``python -m ml``."""
    compare = commands.add_parser(
        "compare",
        help="networks beside each other: same folds, preprocessing and budget",
        description="What is finished lies in the folder, and a rerun goes on from there.",
    )
    add_data(compare)
    compare.add_argument(
        "--config",
        type=Path,
        required=True,
        metavar="FILE.toml",
        help="such as ml/recipes/comparison.toml",
    )
    compare.add_argument(
        "--start",
        action="append",
        default=[],
        type=_named_file,
        metavar="NETWORK=FILE",
        help="start a network from this safetensors file instead, such as one of ImageNet's "
        "weights where they cannot be downloaded; may be repeated",
    )
    compare.add_argument("--report", type=Path, metavar="FILE.md", help="a page with tables")
    compare.set_defaults(run=_compare)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="FILE.toml", help="a recipe, such as ml/recipes/whole.toml"
    )
    # Options without a value are omitted, so that they do not override the recipe.
    option = parser.add_argument_group(
        "values in place of the recipe's", argument_default=argparse.SUPPRESS
    )
    option.add_argument(
        "--start",
        help="imagenet (the published weights), scratch, or a safetensors file "
        f"(usually {_USUAL.start})",
    )
    option.add_argument(
        "--stages",
        type=_stages,
        metavar="SIZE:EPOCHS,…",
        help=f"progressive resizing (usually {_in_words(_USUAL.stages)})",
    )
    option.add_argument(
        "--input-size",
        type=int,
        metavar="PX",
        help=f"when it serves (usually {_USUAL.input_size})",
    )
    option.add_argument(
        "--architecture",
        type=_architecture,
        metavar="NAME",
        help=f"see ml/architectures (usually {_USUAL.architecture})",
    )
    option.add_argument(
        "--frozen",
        type=int,
        metavar="LAYERS",
        help=f"first layers that keep their starting weights (usually {_USUAL.frozen}: VGG16's "
        "first block)",
    )
    option.add_argument("--body-rate", type=float, metavar="RATE")
    option.add_argument("--batch", type=int, metavar="SLICES")
    option.add_argument("--seed", type=int)
    option.add_argument(
        "--winograd",
        action="store_true",
        help="compute wide convolutions by Winograd's method: faster on a CPU without bfloat16, of "
        "no effect elsewhere",
    )


def _train(options: argparse.Namespace) -> int:
    from ml import dataset
    from ml.evaluation.evaluation import Answer
    from ml.registry import load_model
    from ml.release.packaging import check_split, release
    from ml.reporting.plots import plot_answers, plot_training
    from ml.training.distributed import distributed_processes
    from ml.training.trainer import train

    recipe = _recipe(options)
    entries, excluded = read_entries(options)
    split = listed_split(options, entries, start=recipe.starting_model)
    if split is None:
        split = dataset.split_by_group(
            entries, seed=recipe.seed, with_validation=options.with_validation
        )
    if recipe.starting_model is not None:
        check_split(load_model(recipe.starting_model).card, split, seed=recipe.seed)
    training = dataset.without_mirrored_twins(split.training)
    further = read_further(options, split.calibration + split.validation)
    with distributed_processes() as processes:
        trained = train(
            recipe,
            training + further.entries,
            split.calibration,
            folder=options.out,
            distributed=processes,
            variants=options.variants_folder,
        )
    if not processes.is_main:
        return 0
    facts = {"data": data_facts(entries, training, further, excluded)}
    made = release(
        trained, recipe, split, folder=options.out, stem=recipe.architecture, facts=facts
    )
    plot_training(options.out / "log.csv", options.out / "training.png")
    plot_answers([Answer.of(one) for one in made.observed], options.out)
    print(made.card)
    return 0


def _crossval(options: argparse.Namespace) -> int:
    from ml.experiments.crossvalidation import (
        cross_validate,
        pooled,
    )
    from ml.reporting.crossvalidation_report import enter_in_card, write_report
    from ml.reporting.plots import plot_answers
    from ml.training.distributed import distributed_processes

    plan = _plan(options)
    recipe = _recipe(options) if plan is None else plan.serving
    by_others = options.calibrated_by_others or plan is not None
    if by_others and options.by != "group":
        raise InvalidConfiguration(
            "--calibrated-by-others and the recipe of a release go with --by group alone."
        )
    entries, _ = read_entries(options)
    splits = _folds(options, entries, recipe, plan)
    with distributed_processes() as processes:
        only = [options.only] if options.only is not None else None
        done = cross_validate(
            splits,
            recipe,
            folder=options.out,
            distributed=processes,
            also=read_further(options, entries).entries,
            only=only,
            plan=plan,
        )
    if not processes.is_main:
        return 0
    if len(done) < len(splits):
        print(f"{len(done)} of {len(splits)} folds are finished; the figures want all.")
        return 0
    summary = pooled(done)
    figures = json.dumps(summary, indent=2)
    (options.out / "figures.json").write_text(figures + "\n", encoding="utf-8")
    plot_answers([answer for fold in done for answer in fold.answers], options.out)
    names = ("config", "start", "manifest", "outlines", "exclude", "also")
    kind = f"crossval --by {options.by}"
    if plan is None:
        kind += f" --folds {options.folds}" + (" --calibrated-by-others" if by_others else "")
    words = command_line(options, kind, names)
    if plan is not None:
        recipe = replace(recipe, stages=plan.stages)
    if options.report is not None:
        write_report(summary, recipe, options.report, by=options.by, command=words)
    if options.card is not None:
        enter_in_card(summary, recipe, options.card, by=options.by, command=words)
    print(figures)
    return 0


def _compare(options: argparse.Namespace) -> int:
    from ml.experiments.comparison import chosen_entries, compare, read_comparison
    from ml.reporting.comparison_report import conclusions, write_report
    from ml.training.distributed import distributed_processes

    comparison = read_comparison(options.config).starting_from(dict(options.start))
    entries, _ = read_entries(options)
    chosen = chosen_entries(entries, comparison)
    with distributed_processes() as processes:
        figures = compare(chosen, comparison, folder=options.out, distributed=processes)
    if not processes.is_main:
        return 0
    report = options.report or options.out / "comparison.md"
    command = command_line(options, "compare", ("config", "manifest", "outlines", "exclude"))
    command += "".join(f' --start "{name}={Path(file).name}"' for name, file in options.start)
    write_report(figures, comparison, command=command, report=report)
    print("\n".join(conclusions(figures)))
    return 0


def _folds(
    options: argparse.Namespace, entries: "list[Entry]", recipe: Recipe, plan: "Plan | None"
) -> "dict[str, Split]":
    """The parts of each fold."""
    from ml.experiments.crossvalidation import (
        splits_against_source,
        splits_by_group,
        splits_by_hash,
        splits_by_source,
    )

    if plan is not None:
        return splits_by_hash(entries, folds=plan.folds, seed=plan.seed)
    if options.by == "source":
        return splits_by_source(entries, seed=recipe.seed)
    if options.by == "against-source":
        return splits_against_source(entries, folds=options.folds, seed=recipe.seed)
    return splits_by_group(
        entries,
        folds=options.folds,
        seed=recipe.seed,
        calibrated_apart=not options.calibrated_by_others,
    )


def _plan(options: argparse.Namespace) -> "Plan | None":
    """The recipe of a release; None if the file is a recipe of a single training."""
    from ml.release.plan import is_plan, read_plan

    if options.config is None or not is_plan(options.config):
        return None
    plan = read_plan(options.config, vars(options))
    if plan.folds < 2:
        raise InvalidConfiguration(
            f"{options.config}: folds is 1, and a cross-validation has more."
        )
    return plan


def _recipe(options: argparse.Namespace) -> Recipe:
    return read_recipe(options.config, vars(options))


def _stages(text: str) -> tuple[Stage, ...]:
    try:
        pairs = [part.partition(":") for part in text.split(",")]
        return tuple(Stage(int(size), int(epochs)) for size, _, epochs in pairs)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 128:5,224:2") from error
    except InvalidConfiguration as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _named_file(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise argparse.ArgumentTypeError(f"{text!r} is not like VGG16=FILE")
    return name, file


def _architecture(name: str) -> str:
    from ml.architectures import ARCHITECTURES

    if name not in ARCHITECTURES:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(ARCHITECTURES)}")
    return name


def _in_words(stages: tuple[Stage, ...]) -> str:
    return ",".join(f"{stage.size}:{stage.epochs}" for stage in stages)
