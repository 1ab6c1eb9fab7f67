"""Small snapshots for tests: slices that readers are said to have agreed about."""

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from ml.dataset import Entry
from ml.dataset.pixels import pixels_of
from ml.dataset.provenance import Provenance
from ml.dataset.snapshot import (
    AgreedSlice,
    PlanStamp,
    Snapshot,
    part_of,
    write_snapshot,
)
from ml.imaging.pictures import encode_png
from ml.labels import Label

PLAN = PlanStamp(version=1, sha256="0" * 64)


def group_names(part: str) -> Iterator[str]:
    """Names of groups that lie in the part, one behind the other."""
    return (name for n in count() if part_of(name := f"patient-{n}") == part)


def agreed(content: bytes, label: Label, group: str, **values: object) -> AgreedSlice:
    """A slice that two readers called the same."""
    said = Provenance(
        image_id=f"image-{group}",
        study_id=f"study-{group}",
        readers=("r1", "r2"),
        rule="quorum",
        blind=True,
        assessed_at="2026-11-30T09:00:00+00:00",
    )
    return AgreedSlice(content, label, group, said, **values)  # type: ignore[arg-type]


def snapshot_of(
    folder: Path, training: Sequence[Entry], holdout: Sequence[Entry], **values: object
) -> Snapshot:
    """A snapshot of labelled files: those of a group stay together, under another name."""
    names = {part: group_names(part) for part in ("training", "holdout")}
    renamed: dict[tuple[str, str], str] = {}
    slices = []
    for part, entries in (("training", training), ("holdout", holdout)):
        for entry in entries:
            key = part, entry.group
            if key not in renamed:
                renamed[key] = next(names[part])
            content = encode_png(pixels_of(entry))
            slices.append(agreed(content, entry.label, renamed[key], region=entry.outline))
    return write_snapshot(folder, slices, plan=PLAN, **values)  # type: ignore[arg-type]
