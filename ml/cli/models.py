"""Commands about trained models, such as ``join``, ``blend``, ``measure`` and ``quantise``."""

import argparse
from pathlib import Path
from typing import Any

from ml.cli.manifest_options import add_manifest_options, read_named
from ml.cli.options import add_card_option, command_line, number_between, write_json

# As in ml/__main__.py, the commands import modules that need torch when they run.


def add_model_commands(commands: Any) -> None:
    """Add them to the commands of ``python -m ml``."""
    join = commands.add_parser(
        "join",
        help="make one model of two: the whole slice judged by one, its places by the other",
        description="The second was trained with --start FIRST.safetensors --frozen 24.",
    )
    join.add_argument("--whole", type=Path, required=True, metavar="CARD.json")
    join.add_argument("--places", type=Path, required=True, metavar="CARD.json")
    join.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    add_manifest_options(join)
    join.set_defaults(run=_join)

    blend = commands.add_parser(
        "blend",
        help="make one model of two whose weights lie between theirs",
        description="The second was trained on from the first (train --start BEFORE.json).",
    )
    blend.add_argument("--before", type=Path, required=True, metavar="CARD.json")
    blend.add_argument("--after", type=Path, required=True, metavar="CARD.json")
    blend.add_argument(
        "--share",
        type=number_between(0, 1, "share between 0 and 1"),
        default=0.5,
        metavar="0..1",
        help="of the second (%(default)s)",
    )
    blend.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    add_manifest_options(blend)
    blend.set_defaults(run=_blend)

    for name, quantised, words in (
        ("measure", False, "measure a model on its held-out part again and complete its card"),
        ("quantise", True, "add a network in 8-bit integers to a model and measure it again"),
    ):
        measure = commands.add_parser(name, help=words)
        measure.add_argument("--model", type=Path, required=True, metavar="CARD.json")
        add_manifest_options(measure)
        measure.set_defaults(run=_measure, quantised=quantised)

    calibrate = commands.add_parser(
        "calibrate",
        help="calibrate a model anew and measure it again",
        description="On its calibration part, or on a cross-validation of its recipe: the answers "
        "of all folds about patients that their networks had not seen are many more.",
    )
    calibrate.add_argument("--model", type=Path, required=True, metavar="CARD.json")
    calibrate.add_argument(
        "--crossval",
        type=Path,
        metavar="FOLDER",
        help="what python -m ml crossval --by group wrote (its --out)",
    )
    calibrate.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    add_manifest_options(calibrate)
    calibrate.set_defaults(run=_calibrate)

    heatmaps = commands.add_parser(
        "heatmaps", help="compare ways to draw heatmaps, on slices with a tumour's box"
    )
    add_manifest_options(heatmaps)
    heatmaps.add_argument(
        "--held-out", action="store_true", help="only the part that the model was measured on"
    )
    heatmaps.add_argument("--json", type=Path, metavar="OUT", help="write the figures there")
    add_card_option(heatmaps)
    heatmaps.add_argument("--model", type=Path, metavar="CARD.json", help="another model's card")
    heatmaps.set_defaults(run=_heatmaps)

    card = commands.add_parser(
        "card",
        help="write a model's card as a page for clinicians, and a page with all its tables",
    )
    card.add_argument("--model", type=Path, metavar="CARD.json", help="another model's card")
    card.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    card.add_argument("--out", type=Path, required=True, metavar="PAGE.md")
    card.add_argument(
        "--tables",
        type=Path,
        metavar="PAGE.md",
        help="all tables, and the mistakes (by default beside --out, its name with -tables)",
    )
    card.add_argument("--gallery", type=Path, required=True, metavar="PNG", help="its mistakes")
    add_manifest_options(card)
    card.set_defaults(run=_card)


def _join(options: argparse.Namespace) -> int:
    from ml.registry import load_model
    from ml.release.joining import join
    from ml.release.packaging import check_split

    whole, places = load_model(options.whole), load_model(options.places)
    split = _split_of(options, places.card)
    check_split(whole.card, split, seed=int(places.card["split"]["seed"]))
    print(join(whole, places, split, folder=options.out).card)
    return 0


def _blend(options: argparse.Namespace) -> int:
    from ml.registry import load_model
    from ml.release.joining import blend
    from ml.release.packaging import check_split

    before, after = load_model(options.before), load_model(options.after)
    split = _split_of(options, after.card)
    check_split(before.card, split, seed=int(after.card["split"]["seed"]))
    print(blend(before, after, options.share, split, folder=options.out).card)
    return 0


def _measure(options: argparse.Namespace) -> int:
    from ml.registry import load_model
    from ml.release.packaging import measure_model

    split = _split_of(options, load_model(options.model).card)
    measure_model(options.model, split, quantised=options.quantised)
    print(options.model)
    return 0


def _calibrate(options: argparse.Namespace) -> int:
    from ml.experiments.crossvalidation import calibration_of, finished_folds
    from ml.registry import load_model
    from ml.release.packaging import recalibrate

    model = load_model(options.model)
    split = _split_of(options, model.card)
    calibration = None
    facts: dict[str, Any] = {}
    if options.crossval is not None:
        folds = finished_folds(options.crossval)
        calibration = calibration_of(folds)
        facts = {
            "calibrated_on": "answers of a cross-validation's folds about groups that they had not "
            "learnt from",
            "slices": sum(len(fold.answers) for fold in folds),
            "groups": len({answer.group for fold in folds for answer in fold.answers}),
        }
    made = recalibrate(model, calibration, split, folder=options.out, facts=facts)
    print(made.card)
    return 0


def _heatmaps(options: argparse.Namespace) -> int:
    from ml.evaluation.explanations import compare_explanations, table
    from ml.registry import SERVING, enter_figures, load_model

    model = load_model(options.model or SERVING)
    if options.held_out:
        _part, entries = _split_of(options, model.card).measured
    else:
        entries, _excluded = read_named(options)
    figures = compare_explanations(model, entries)
    if options.card is not None:
        words = "heatmaps --held-out" if options.held_out else "heatmaps"
        command = command_line(options, words, ("manifest", "exclude"))
        enter_figures(options.card, "explanations", figures, command=command)
    write_json(figures, options.json)
    print(table(figures))
    return 0


def _card(options: argparse.Namespace) -> int:
    from ml.registry import SERVING
    from ml.reporting.pages import write_pages
    from ml.serving.predictor import Predictor

    predictor = Predictor.load(options.model or SERVING, device=options.device)
    _part, measured = _split_of(options, predictor.card).measured
    write_pages(
        predictor,
        measured,
        page=options.out,
        tables=options.tables or options.out.with_stem(f"{options.out.stem}-tables"),
        gallery=options.gallery,
        command=command_line(options, "card", ("manifest", "out", "tables", "gallery")),
    )
    print(options.out)
    return 0


def _split_of(options: argparse.Namespace, card: dict[str, Any]) -> Any:
    """The parts that a model was trained, calibrated and measured on, from the same manifest."""
    from ml.dataset import split_as_kept

    entries, _excluded = read_named(options)
    return split_as_kept(entries, card)
