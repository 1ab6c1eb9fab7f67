"""Build the reference set on which every candidate is judged: ``ml/reference``.

It holds the groups of the validation part of a shipped model, whose files are copied as they are;
slices of a healthy head from another hospital; and pictures that are no brain MRI, drawn by rule
or from photographs in the public domain. Of the pictures only those are taken that the rule about
pictures was not tuned on.

    .venv/bin/python -m benchmarks.build_reference --manifest brain-mri/manifest.csv \
        --outlines tumour_outlines.json --healthy dicom-t1-healthy --out ml/reference
"""

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.ood_pictures.collection import drawn_pictures, write_pictures
from benchmarks.ood_pictures.pictures import Drawn
from ml.dataset import (
    Entry,
    content_hash,
    read_exclusions,
    read_manifest,
    read_outlines,
    split_as_kept,
    write_manifest,
)
from ml.dataset.reference import (
    HEALTHY,
    MANIFEST,
    OUTLINES,
    PICTURES,
    seal_reference,
)
from ml.errors import UnreadableImage
from ml.evaluation.ood.collection import (
    OODPicture,
    held_out_sources,
    read_collection,
    write_collection,
)
from ml.imaging.pictures import encode_png
from ml.imaging.studies import read_study
from ml.labels import Label
from ml.registry import SERVING, read_card

_EVERY_HEALTHY = 3
# Photographs in the public domain or under CC0, as the documentation of skimage.data says of them.
_FREE_PHOTOGRAPHS = tuple(
    f"skimage {name}"
    for name in ("astronaut.png", "camera.png", "chelsea.png", "hubble_deep_field.jpg")
)
_LARGEST = 120_000  # bytes of a picture


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.build_reference", description=__doc__.splitlines()[0]
    )
    for name, metavar in (
        ("--manifest", "FILE.csv"),
        ("--outlines", "FILE.json"),
        ("--healthy", "STUDY"),
        ("--out", "FOLDER"),
    ):
        parser.add_argument(name, type=Path, required=True, metavar=metavar)
    parser.add_argument("--model", type=Path, default=SERVING, metavar="CARD.json")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    _copy_slices(options.model, options.manifest, options.outlines, options.out)
    _write_healthy(options.healthy, options.out)
    _write_pictures(options.out)
    print(seal_reference(options.out))


def _copy_slices(model: Path, manifest: Path, outlines: Path, out: Path) -> None:
    entries = read_manifest(manifest, excluded=read_exclusions())
    held_out = split_as_kept(entries, read_card(model)).validation
    copies = [_copied(entry, out / "images") for entry in held_out]
    write_manifest(out / MANIFEST, copies)
    drawn = read_outlines(outlines)
    used = sorted({entry.original for entry in held_out if entry.original in drawn} - {None})
    text = json.dumps({str(name): drawn[str(name)] for name in used}, separators=(",", ":"))
    (out / OUTLINES).write_text(text + "\n", encoding="utf-8")


def _copied(entry: Entry, folder: Path) -> Entry:
    target = folder / entry.label.value / entry.path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(entry.path, target)
    return replace(entry, path=target, sha256=content_hash(target))


def _write_healthy(study: Path, out: Path) -> None:
    folder = out / "healthy"
    folder.mkdir(exist_ok=True)
    entries = []
    for number, found in enumerate(read_study(study)):
        if isinstance(found.slice, UnreadableImage):
            raise found.slice
        if number % _EVERY_HEALTHY:
            continue
        path = folder / f"{number:02}.png"
        path.write_bytes(encode_png(found.slice.pixels))
        entries.append(
            Entry(
                path,
                Label.NO_TUMOR,
                group="studyforrest",
                source="studyforrest",
                sha256=content_hash(path),
                spacing=found.slice.spacing,
            )
        )
    write_manifest(out / HEALTHY, entries)


def _write_pictures(out: Path) -> None:
    folder = out / "pictures"
    listed = write_pictures(list(_chosen(drawn_pictures())), folder)
    pictures = [
        OODPicture(folder / row.path.name, row.kind, row.source) for row in read_collection(listed)
    ]
    listed.unlink()
    write_collection(out / PICTURES, pictures)


def _chosen(pictures: Sequence[Drawn]) -> Iterator[Drawn]:
    """One picture of each kind of a source; of rules only those that nothing was tuned on."""
    listed = [OODPicture(Path(), one.kind, one.source) for one in pictures]
    untuned = held_out_sources(listed)
    seen: set[tuple[str, str]] = set()
    for one in pictures:
        made = one.source.startswith(("drawn", "written")) and one.source in untuned
        if not made and one.source not in _FREE_PHOTOGRAPHS:
            continue
        if (one.kind, one.source) in seen or len(encode_png(one.pixels)) > _LARGEST:
            continue
        seen.add((one.kind, one.source))
        yield one


if __name__ == "__main__":
    main()
