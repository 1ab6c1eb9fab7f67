"""The commands ``retrain`` and ``replay``: from what readers agreed about to a candidate."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml.cli.manifest_options import add_manifest_options, read_named, read_without_excluded
from ml.errors import InvalidConfiguration

if TYPE_CHECKING:
    from ml.dataset import Entry

# As in ml/__main__.py, the commands fetch what needs torch when they run.


def add_retraining(commands: Any) -> None:
    """Add them to the commands of ``python -m ml``."""
    retrain = commands.add_parser(
        "retrain",
        help="make a candidate from a snapshot and the model that serves",
        description="Every stage keeps its result in the folder, and a rerun goes on from there.",
    )
    retrain.add_argument(
        "--snapshot", type=Path, required=True, metavar="DIR", help="what readers agreed about"
    )
    retrain.add_argument(
        "--from",
        dest="card",
        type=Path,
        required=True,
        metavar="CARD.json",
        help="the model that is gone on from",
    )
    retrain.add_argument(
        "--mode",
        choices=("head", "full"),
        default="head",
        help="head: the classifying layer alone, in minutes on a CPU (the default); full: the last "
        "layers too, which wants --base",
    )
    retrain.add_argument(
        "--base",
        type=Path,
        metavar="FILE.csv",
        help="the manifest that the model was made with; for the head it replaces the replayed "
        "features beside the weights",
    )
    retrain.add_argument(
        "--outlines", type=Path, metavar="FILE.json", help="tumour outlines of --base"
    )
    retrain.add_argument("--exclude", type=Path, metavar="FILE.csv", help="files of --base to skip")
    retrain.add_argument(
        "--label-issues",
        choices=("report", "leave_out"),
        help="whether slices whose label is likely wrong are learnt from, in place of what the "
        "plan says; they are listed either way",
    )
    retrain.add_argument(
        "--plan", type=Path, metavar="FILE.toml", help="the plan of change (the shipped one)"
    )
    retrain.add_argument("--out", type=Path, required=True, metavar="DIR")
    retrain.set_defaults(run=_retrain)

    replay = commands.add_parser(
        "replay",
        help="keep the features of a model's collection beside its weights, for retrain",
        description="Writes NAME.replay.safetensors beside NAME.json.",
    )
    replay.add_argument("--model", type=Path, required=True, metavar="CARD.json")
    for name, part in (("learnt", "training"), ("unlearnt", "calibration")):
        replay.add_argument(
            f"--{name}",
            type=int,
            metavar="N",
            help=f"slices of the {part} part that are kept at most, drawn by a hash (all)",
        )
    add_manifest_options(replay)
    replay.set_defaults(run=_replay)


def _retrain(options: argparse.Namespace) -> int:
    from ml.dataset.reference import read_reference
    from ml.release.change_plan import SHIPPED, read_plan_of_change
    from ml.release.material import Order
    from ml.release.retraining import retrain

    plan = read_plan_of_change(options.plan or SHIPPED).plan
    if options.mode not in plan.modes:
        raise InvalidConfiguration(f"The plan does not allow --mode {options.mode}.")
    order = Order(
        snapshot=options.snapshot,
        card=options.card,
        folder=options.out,
        mode=options.mode,
        base=_base(options),
        label_issues=options.label_issues or plan.data.label_issues,
        held_out=read_reference().held_out,
    )
    print(retrain(order))
    return 0


def _base(options: argparse.Namespace) -> "list[Entry] | None":
    from ml import dataset

    if options.base is None:
        return None
    entries, _excluded = read_without_excluded(options.base, options.exclude)
    if options.outlines is not None:
        entries = dataset.with_outlines(entries, dataset.read_outlines(options.outlines))
    return entries


def _replay(options: argparse.Namespace) -> int:
    from ml.dataset import split_as_kept
    from ml.registry import load_model
    from ml.release.progress import Progress
    from ml.release.replay import make_replay, replay_path, save_replay

    entries, _excluded = read_named(options)
    model = load_model(options.model)
    progress = Progress()
    replay = make_replay(
        model,
        split_as_kept(entries, model.card),
        lambda part: progress.step(f"features of the {part}"),
        learnt=options.learnt,
        unlearnt=options.unlearnt,
    )
    path = replay_path(options.model)
    save_replay(replay, path, sha256=model.sha256)
    print(path)
    return 0
