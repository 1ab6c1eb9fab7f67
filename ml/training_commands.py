"""The commands that train: ``train``, ``crossval`` and ``compare``."""

import argparse
from pathlib import Path
from typing import Any

from ml.errors import InvalidConfiguration
from ml.recipe import Recipe, Stage, read_recipe

# As in ml/__main__.py, the commands fetch what needs torch when they run.

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
    _add_data(train)
    _add_recipe(train)
    train.set_defaults(run=_train)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE.csv")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--outlines",
        type=Path,
        metavar="FILE.json",
        help="tumour outlines by identifier of the original slice; they teach where to look",
    )
    parser.add_argument("--exclude", type=Path, metavar="FILE.csv", help="files to leave out")


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="FILE.toml", help="a recipe, such as ml/recipes/serving.toml"
    )
    # What is not given stays away, so that it does not override the recipe's value.
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


def _train(options: argparse.Namespace) -> int:
    from ml import dataset
    from ml.processes import team
    from ml.release import release
    from ml.training import train

    recipe = _recipe(options)
    entries, excluded = _entries(options)
    split = dataset.split_by_group(entries, seed=recipe.seed)
    training = dataset.without_mirrored_twins(split.training)
    with team() as processes:
        trained = train(recipe, training, split.calibration, folder=options.out, team=processes)
    if not processes.leads:
        return 0
    facts = {
        "data": {
            "slices": len(entries),
            "groups": len({entry.group for entry in entries}),
            "training_slices_without_mirrored_twins": len(training),
            "training_slices_with_outline": sum(entry.outline is not None for entry in training),
            "excluded": excluded,
        }
    }
    made = release(trained, recipe, split, folder=options.out, stem="vgg16-gap", facts=facts)
    print(made.card)
    return 0


def _recipe(options: argparse.Namespace) -> Recipe:
    return read_recipe(options.config, vars(options))


def _entries(options: argparse.Namespace) -> tuple[list[Any], dict[str, str]]:
    """The manifest's entries with their outlines, and what was left out of them and why."""
    from ml import dataset
    from ml.dataset.manifest import BUNDLED_EXCLUSIONS

    excluded = dataset.read_exclusions(options.exclude or BUNDLED_EXCLUSIONS)
    entries = dataset.read_manifest(options.manifest, excluded=excluded)
    if options.outlines is not None:
        entries = dataset.with_outlines(entries, dataset.read_outlines(options.outlines))
    return entries, excluded


def _stages(text: str) -> tuple[Stage, ...]:
    try:
        pairs = [part.partition(":") for part in text.split(",")]
        return tuple(Stage(int(size), int(epochs)) for size, _, epochs in pairs)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 128:5,224:2") from error
    except InvalidConfiguration as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _architecture(name: str) -> str:
    from ml.architectures import ARCHITECTURES

    if name not in ARCHITECTURES:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(ARCHITECTURES)}")
    return name


def _in_words(stages: tuple[Stage, ...]) -> str:
    return ",".join(f"{stage.size}:{stage.epochs}" for stage in stages)
