"""The commands about data: ``python -m ml dataset …`` and ``python -m ml baseline``."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml.cli.options import number_between, write_json

if TYPE_CHECKING:
    from ml.dataset.corrections import Correction
    from ml.dataset.curation import Curated

# The commands import their dependencies when they run, because that takes a second or more.

_SEED = 20261123
_PLANES = ("sagittal", "coronal", "axial")
_LISTED = 20  # lines of each kind that are printed; files have all

Subparsers = Any  # argparse has no public type


def add_data_commands(commands: Subparsers) -> None:
    """Register ``dataset`` and ``baseline``."""
    dataset = commands.add_parser("dataset", help="build, merge, split and describe data sets")
    kinds = dataset.add_subparsers(dest="kind", required=True, metavar="KIND")
    _add_folders(kinds)
    _add_volumes(kinds)
    _add_feedback(kinds)
    _add_merge(kinds)
    _add_folds(kinds)
    _add_card(kinds)
    _add_baseline(commands)


def _add_folders(kinds: Subparsers) -> None:
    parser = kinds.add_parser("folders", help="list images in folders named by class")
    parser.add_argument("--root", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--source", metavar="NAME", help="the set that the images come from")
    _add_curation(parser)
    parser.set_defaults(run=_folders)


def _add_volumes(kinds: Subparsers) -> None:
    parser = kinds.add_parser("volumes", help="cut volumes of one patient into labelled slices")
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="volumes (NIfTI, MGH, NRRD), or folders or archives with DICOM series",
    )
    parser.add_argument("--label", type=_label, required=True, metavar="CLASS")
    parser.add_argument(
        "--mask",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="the tumour in each volume, in the same order",
    )
    parser.add_argument("--group", required=True, metavar="NAME", help="the patient's pseudonym")
    parser.add_argument("--source", metavar="NAME", help="the set that the volumes come from")
    parser.add_argument(
        "--every",
        type=number_between(0.1, 1000, "number of millimetres"),
        default=5.0,
        metavar="MM",
        help="distance of the slices that are taken (%(default)s)",
    )
    parser.add_argument(
        "--tilts",
        nargs="+",
        type=number_between(-45, 45, "angle between -45 and 45 degrees"),
        default=[0.0],
        metavar="DEGREES",
        help="cut once for each angle by which the head nods, such as -15 0 15 (%(default)s)",
    )
    parser.add_argument(
        "--planes",
        nargs="+",
        choices=_PLANES,
        default=_PLANES,
        metavar="PLANE",
        help="those that are cut (%(default)s)",
    )
    parser.add_argument(
        "--lowest",
        type=number_between(0, 1, "share between 0 and 1"),
        default=1.0,
        metavar="0..1",
        help="share of the axial stretch that is taken, from below: 0.45 is skull base and neck "
        "(%(default)s)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.set_defaults(run=_volumes)


def _add_feedback(kinds: Subparsers) -> None:
    parser = kinds.add_parser("feedback", help="list images that readers answered in the portal")
    parser.add_argument(
        "--export",
        type=Path,
        required=True,
        metavar="FOLDER_OR_CSV",
        help="the portal's export, unpacked",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="MANIFEST.csv")
    parser.set_defaults(run=_feedback)


def _add_merge(kinds: Subparsers) -> None:
    parser = kinds.add_parser("merge", help="make one manifest of several, free of contradictions")
    parser.add_argument("manifests", nargs="+", type=Path, metavar="MANIFEST")
    _add_curation(parser)
    parser.add_argument(
        "--outlines", nargs="+", type=Path, default=[], metavar="FILE.json", help="to be merged"
    )
    parser.add_argument("--outlines-out", type=Path, metavar="FILE.json")
    parser.set_defaults(run=_merge)


def _add_folds(kinds: Subparsers) -> None:
    parser = kinds.add_parser("folds", help="split a manifest by group for cross-validation")
    _add_folding(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDS.csv")
    parser.set_defaults(run=_folds)


def _add_card(kinds: Subparsers) -> None:
    parser = kinds.add_parser("card", help="describe a manifest and what it gives away")
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE.csv")
    parser.add_argument("--out", type=Path, required=True, metavar="CARD.md")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures there")
    parser.add_argument("--outlines", type=Path, metavar="FILE.json")
    parser.add_argument("--corrections", type=Path, metavar="FILE.csv", help="known to be wrong")
    parser.add_argument("--left-out", type=Path, metavar="FILE.csv", help="as merge wrote it")
    parser.set_defaults(run=_card)


def _add_baseline(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "baseline",
        aliases=["control"],
        help="measure what brightness and texture alone tell of the class",
    )
    _add_folding(parser)
    parser.add_argument(
        "--elsewhere",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE.csv",
        help="other collections to test on",
    )
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=("raw", "prepared", "augmented"),
        default=("raw", "prepared", "augmented"),
        help="the file, the prepared slice, the augmented slice; the last takes longest",
    )
    parser.add_argument("--input-size", type=int, default=176, metavar="PX")
    parser.add_argument("--cache", type=Path, metavar="FILE.npz", help="keep the statistics there")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures there")
    parser.set_defaults(run=_baseline)


def _add_curation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="MANIFEST.csv")
    parser.add_argument(
        "--corrections",
        type=Path,
        metavar="FILE.csv",
        help="columns stem, sha256, label, reason; instead of the list for the public data set",
    )
    parser.add_argument(
        "--left-out",
        type=Path,
        metavar="FILE.csv",
        help="list what was left out, as corrections to be filled in",
    )


def _add_folding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE.csv")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=_SEED)


def _label(text: str) -> str:
    from ml.labels import LABELS

    if text not in LABELS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(LABELS)}")
    return text


def _folders(options: argparse.Namespace) -> int:
    from ml.dataset.folders import from_folders

    found = from_folders(options.root, _corrections(options), source=options.source)
    _list("folders that no class is named by", _counted(found.unknown))
    _save(found.curated, options)
    return 0


def _volumes(options: argparse.Namespace) -> int:
    from ml.dataset.slicing import Cutting, cut_volumes
    from ml.labels import Label

    cutting = Cutting(
        Label(options.label),
        options.group,
        options.every,
        options.source,
        tuple(dict.fromkeys(options.tilts)),
        tuple(plane for plane in _PLANES if plane in options.planes),
        options.lowest,
    )
    made = cut_volumes(options.paths, options.mask, cutting, options.out)
    _list("planes left out, too coarse or too narrow", made.planes_left_out)
    print(f"{len(made.entries)} slices, {len(made.outlines)} outlines: {options.out}")
    return 0


def _feedback(options: argparse.Namespace) -> int:
    from ml.dataset import write_manifest
    from ml.dataset.feedback import from_feedback

    found = from_feedback(options.export)
    _list(
        "left out, readers disagree",
        [f"{one.path.name}: {', '.join(one.labels.values())}" for one in found.disagreements],
    )
    _list("left out, image is missing", [path.name for path in found.missing])
    write_manifest(options.out, found.entries)
    print(f"{len(found.entries)} images: {options.out}")
    return 0


def _merge(options: argparse.Namespace) -> int:
    from ml.dataset import read_manifest
    from ml.dataset.curation import curate

    entries = [entry for path in options.manifests for entry in read_manifest(path)]
    curated = curate(entries, _corrections(options))
    if options.outlines_out is not None:
        _merge_outlines(options.outlines, options.outlines_out)
    _save(curated, options)
    return 0


def _merge_outlines(paths: Sequence[Path], out: Path) -> None:
    from ml.dataset import read_outlines
    from ml.errors import InvalidManifest

    merged: dict[str, Any] = {}
    for path in paths:
        outlines = read_outlines(path)
        if twice := merged.keys() & outlines.keys():
            raise InvalidManifest(f"{path} outlines {min(twice)}, as another file does.")
        merged |= outlines
    out.write_text(json.dumps(merged) + "\n", encoding="utf-8")


def _folds(options: argparse.Namespace) -> int:
    from ml.dataset import folds_by_group, read_manifest, write_folds

    entries = read_manifest(options.manifest)
    splits = folds_by_group(entries, folds=options.folds, seed=options.seed)
    write_folds(options.out, splits)
    for number, split in enumerate(splits):
        parts = (split.training, split.calibration, split.validation)
        words = ("training", "calibration", "validation")
        counts = (f"{len(p)} {word}" for p, word in zip(parts, words, strict=True))
        print(f"fold {number}: {', '.join(counts)}")
    return 0


def _card(options: argparse.Namespace) -> int:
    from ml.dataset import read_corrections, read_manifest, read_outlines, with_outlines
    from ml.dataset.card import describe, page

    entries = read_manifest(options.manifest)
    if options.outlines is not None:
        entries = with_outlines(entries, read_outlines(options.outlines))
    left_out = read_corrections(options.left_out) if options.left_out is not None else []
    figures = describe(entries, _corrections(options), left_out)
    options.out.write_text(page(figures, options.manifest.parent.name), encoding="utf-8")
    write_json(figures, options.json)
    print(f"{figures['slices']} slices, {figures['groups']} groups: {options.out}")
    return 0


def _baseline(options: argparse.Namespace) -> int:
    from ml.dataset import read_manifest
    from ml.experiments.baseline import baseline_figures, table

    figures = baseline_figures(
        read_manifest(options.manifest),
        folds=options.folds,
        seed=options.seed,
        kinds=options.kinds,
        elsewhere=[entry for path in options.elsewhere for entry in read_manifest(path)],
        size=options.input_size,
        cache=options.cache,
    )
    write_json(figures, options.json)
    print(table(figures))
    return 0


def _corrections(options: argparse.Namespace) -> "list[Correction]":
    from ml.dataset import read_corrections

    if options.corrections is None:
        return read_corrections()
    return read_corrections(options.corrections)


def _save(curated: "Curated", options: argparse.Namespace) -> None:
    """Write the manifest and print all changes."""
    from ml.dataset import write_manifest
    from ml.dataset.corrections import write_left_out

    changes = {
        "corrected": [one for one in curated.corrected if one.label is not None],
        "left out by a correction": [one for one in curated.corrected if one.label is None],
        "left out, contradicted by a copy": curated.contradicting,
        "left out, unreadable": curated.unreadable,
    }
    for title, lines in changes.items():
        _list(title, [f"{one.entry.path.name}: {one.reason}" for one in lines])
    _list("listed more than once", [entry.path.name for entry in curated.repeated])
    _list("groups joined, they share copies", [", ".join(g) for g in curated.joined.values()])
    if options.corrections is not None:
        _list(
            "corrections that fit no file", [str(one.stem or one.sha256) for one in curated.unused]
        )
    write_manifest(options.out, curated.entries)
    if options.left_out is not None:
        write_left_out(options.left_out, curated.left_out)
    groups = len({entry.group for entry in curated.entries})
    print(f"{len(curated.entries)} slices, {groups} groups: {options.out}")


def _list(title: str, lines: Sequence[str]) -> None:
    if lines:
        print(f"{title}: {len(lines)}")
        print("\n".join(f"  {line}" for line in lines[:_LISTED]))
        if len(lines) > _LISTED:
            print(f"  … and {len(lines) - _LISTED} more")


def _counted(folders: dict[str, int]) -> list[str]:
    return [f"{folder}: {count} images" for folder, count in folders.items()]
