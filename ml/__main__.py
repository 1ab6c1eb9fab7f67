"""The command line, ``python -m ml COMMAND``: classify, explain, measure, train and audit.

Commands that build and describe data sets are in :mod:`ml.cli.data`.

Exit codes: 0, 2 on bad usage, 1 on failure with one line on standard error; 3 where ``gates`` found
a candidate that fails.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from ml.cli.data import add_data_commands
from ml.cli.gates import add_gates
from ml.cli.models import add_model_commands
from ml.cli.observe import add_observe
from ml.cli.ood import add_ood
from ml.cli.options import add_card_option, command_line, write_json
from ml.cli.release import add_release
from ml.cli.retraining import add_retraining
from ml.cli.training import add_compare, add_crossval, add_train
from ml.errors import SulcusMLError, UnreadableImage

# torch takes seconds to import, so each command imports what it needs when it runs. --help and
# bad usage then answer at once.


_BATCH = 8  # slices in one forward pass


class _Predicted(NamedTuple):
    """The printed line of one slice, and what the answers of its volume need.

    Attributes:
        volume: number of the stack that the slice belongs to; None without a stack.
        place: position along the normal of that stack in millimetres.
        result: :class:`ml.serving.predictor.Result`, or why there is none.
    """

    volume: int | None
    place: float | None
    line: dict[str, Any]
    result: Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (SulcusMLError, OSError) as error:
        print(f"ml {options.command}: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"ml {options.command}: interrupted", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ml",
        description="Brain-MRI slices: classify, explain, measure, train. Research software, "
        "not a certified medical device.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    predict = commands.add_parser("predict", help="classify images; one JSON object a line")
    predict.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="images, volumes or archives in any format that is read, or folders of them",
    )
    predict.add_argument("--json", action="store_true", help="JSON lines even on a terminal")
    _add_model(predict)
    predict.set_defaults(run=_predict)

    evaluate = commands.add_parser("evaluate", help="measure the model on a manifest")
    evaluate.add_argument("--manifest", type=Path, required=True, metavar="FILE.csv")
    evaluate.add_argument("--json", type=Path, metavar="OUT", help="write the figures there")
    _add_model(evaluate)
    evaluate.set_defaults(run=_evaluate)

    volumes = commands.add_parser(
        "volumes", help="measure the model on volumes of other hospitals, with tumour masks"
    )
    volumes.add_argument(
        "--glioma",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="a folder a patient, with NAME_Scan….nii.gz and NAME_Mask.nii.gz",
    )
    volumes.add_argument(
        "--healthy", type=Path, required=True, metavar="STUDY", help="a study without a tumour"
    )
    volumes.add_argument(
        "--heads",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE.nii.gz",
        help="volumes of whole heads without a tumour, cut in all three planes",
    )
    volumes.add_argument(
        "--thinned",
        type=int,
        default=0,
        metavar="TIMES",
        help="leave slices out of each volume so often, in each of several ways, and compare how "
        "neighbours are weighed where the steps are uneven",
    )
    volumes.add_argument("--json", type=Path, metavar="OUT", help="write the figures there")
    add_card_option(volumes)
    _add_model(volumes)
    volumes.set_defaults(run=_volumes)

    explain = commands.add_parser("explain", help="write a slice with its heatmap")
    explain.add_argument("path", type=Path, metavar="PATH")
    explain.add_argument("--out", type=Path, required=True, metavar="PNG")
    _add_model(explain)
    explain.set_defaults(run=_explain)

    add_train(commands)
    add_crossval(commands)
    add_compare(commands)
    add_release(commands)
    add_observe(commands)
    add_gates(commands)
    add_retraining(commands)

    add_model_commands(commands)

    audit = commands.add_parser("audit", help="find copies, leaks and contradicting labels")
    audit.add_argument("--root", type=Path, required=True, metavar="FOLDER")
    audit.add_argument("--json", type=Path, metavar="OUT", help="write every pair there")
    audit.add_argument("--report", type=Path, metavar="FOLDER", help="a page with pictures")
    audit.set_defaults(run=_audit)

    bench = commands.add_parser("bench", help="measure speed and agreement of the serving engine")
    bench.add_argument("--json", type=Path, metavar="OUT", help="write the figures there")
    bench.add_argument("--manifest", type=Path, metavar="FILE.csv", help="slices to compare on")
    _add_model(bench)
    bench.set_defaults(run=_bench)

    add_data_commands(commands)
    _add_model(add_ood(commands))
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, metavar="CARD.json", help="another model's card")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def _load_predictor(options: argparse.Namespace) -> Any:
    from ml.registry import SERVING
    from ml.serving.predictor import Predictor

    return Predictor.load(options.model or SERVING, device=options.device)


def _predict(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ml.imaging.studies import read_study

    predictor = _load_predictor(options)
    failed = False
    for path in tqdm(options.paths, "predicting", unit="path", disable=None):
        for line in _in_volumes(predictor, _predicted(predictor, read_study(path))):
            failed |= "error" in line
            tqdm.write(json.dumps(line) if options.json or not _is_terminal() else _words(line))
    return 1 if failed else 0


def _in_volumes(predictor: Any, predicted: Iterable[_Predicted]) -> Iterator[dict[str, Any]]:
    """The printed lines; slices of a volume are combined with their neighbours."""
    for volume, group in groupby(predicted, key=lambda one: one.volume):
        found = list(group)
        answered = [one for one in found if "error" not in one.line]
        if volume is not None and answered:
            opinions = predictor.in_volume(
                [one.result for one in answered], [one.place for one in answered]
            )
            for one, opinion in zip(answered, opinions, strict=True):
                one.line["probabilities_alone"] = one.line["probabilities"]
                one.line.update(opinion.plain())
        yield from (one.line for one in found)


def _predicted(predictor: Any, found: Iterator[Any]) -> Iterator[_Predicted]:
    """Classify slices in batches, so that memory stays bounded."""
    from ml.imaging import square_pixels

    while batch := list(islice(found, _BATCH)):
        readable = [one for one in batch if not isinstance(one.slice, UnreadableImage)]
        results = iter(
            predictor.predict(
                [square_pixels(one.slice) for one in readable],
                [one.slice.spacing for one in readable],
            )
        )
        for one in batch:
            if isinstance(one.slice, UnreadableImage):
                line = {"path": one.path, "error": str(one.slice)}
                yield _Predicted(one.volume, one.place, line, one.slice)
            else:
                result = next(results)
                line = _line(predictor.name, one.path, one.slice.index, result)
                yield _Predicted(one.volume, one.place, line, result)


def _line(model: str, path: str, index: int, result: Any) -> dict[str, Any]:
    if isinstance(result, UnreadableImage):
        return {"path": path, "slice": index, "error": str(result)}
    return {
        "path": path,
        "slice": index,
        **result.plain(),
        "quality": [flag.value for flag in result.quality],
        "model": model,
    }


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _words(line: dict[str, Any]) -> str:
    if "error" in line:
        return f"{line['path']}: {line['error']}"
    chance = line["probabilities"][line["label"]]
    doubt = " or ".join(line["prediction_set"])
    familiar = "" if line["in_distribution"] else "  (does not look like a brain MRI)"
    quality = f"  (quality: {', '.join(line['quality'])})" if line["quality"] else ""
    answer = f"{line['path']}: {line['label']} {chance:.1%}; cannot rule out: {doubt}"
    return answer + familiar + quality


def _evaluate(options: argparse.Namespace) -> int:
    from ml.dataset import read_manifest
    from ml.evaluation.evaluation import observe, summarise

    entries = read_manifest(options.manifest)
    predictor = _load_predictor(options)
    figures = {"model": predictor.name} | summarise(observe(predictor, entries))
    _write(figures, options.json)
    return 0


def _volumes(options: argparse.Namespace) -> int:
    from ml.evaluation.volumes import measure_volumes
    from ml.reporting.measured_sections import volume_table

    figures = measure_volumes(
        _load_predictor(options),
        glioma=options.glioma,
        healthy=options.healthy,
        heads=options.heads,
        thinned=options.thinned,
    )
    if options.card is not None:
        _enter_volumes(options, figures)
    write_json(figures, options.json)
    print(volume_table(figures))
    return 0


def _enter_volumes(options: argparse.Namespace, figures: dict[str, Any]) -> None:
    from ml.registry import enter_figures

    command = command_line(options, "volumes", ("glioma", "healthy", "heads"))
    apart = ("volumes", "thinned")
    shares = {name: value for name, value in figures.items() if name not in apart}
    enter_figures(options.card, "volumes", shares, command=command)
    if options.thinned:
        thinned = {"model": figures["model"], "ways": figures["thinned"]}
        command += f" --thinned {options.thinned}"
        enter_figures(options.card, "thinned", thinned, command=command)


def _explain(options: argparse.Namespace) -> int:
    from ml.imaging import read_path, square_pixels
    from ml.imaging.pictures import encode_png
    from ml.serving.explain import blend

    slices = read_path(options.path)
    # The middle slice of a volume: its ends show little.
    pixels = square_pixels(slices[len(slices) // 2])
    (result,) = _load_predictor(options).predict([pixels])
    if isinstance(result, UnreadableImage):
        raise result
    options.out.write_bytes(encode_png(blend(pixels, result.heat)))
    return 0


def _audit(options: argparse.Namespace) -> int:
    from ml.dataset.duplicates import audit, table
    from ml.reporting.audit_report import write_report

    report = audit(options.root)
    write_json(report, options.json)
    if options.report is not None:
        write_report(report, options.report)
    print(table(report))
    return 0


def _bench(options: argparse.Namespace) -> int:
    from ml.evaluation.bench import measure
    from ml.registry import SERVING

    figures = measure(
        card=options.model or SERVING, device=options.device, manifest=options.manifest
    )
    _write(figures, options.json)
    return 0


def _write(figures: dict[str, Any], out: Path | None) -> None:
    write_json(figures, out)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    sys.exit(main())
