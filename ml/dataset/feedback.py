"""Convert the portal's export of readers' answers to labelled files.

The export is an unpacked ZIP with ``manifest.csv``, one line per answer, and ``images/``. The
relevant columns: ``path, label, group`` (the patient's pseudonym), ``image_id``,
``study_id, reader``, ``region`` (corners ``[[x, y], …]`` as fractions of width and height) and the
pixel spacing as in a manifest (:mod:`ml.dataset.manifest`).
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from ml.dataset.manifest import Entry, content_hash, read_rows, spacing_in
from ml.errors import InvalidManifest
from ml.labels import Label

SOURCE = "feedback"
_WANTED = {"path", "label", "image_id", "study_id", "reader"}
_FEWEST_CORNERS = 3

Box = tuple[float, float, float, float]
Polygon = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Answer:
    """One reader's answer about one image; ``region`` is (left, top, right, bottom)."""

    path: Path
    label: Label
    group: str
    image: str
    reader: str
    region: Box | None
    spacing: tuple[float, float] | None = None


@dataclass(frozen=True)
class Disagreement:
    """An image with different labels from its readers: reader -> label."""

    path: Path
    labels: dict[str, Label]


@dataclass(frozen=True)
class FeedbackSet:
    """One entry for each image whose readers agree, and the images that were left out."""

    entries: list[Entry]
    disagreements: list[Disagreement]
    missing: list[Path]


def from_feedback(export: Path) -> FeedbackSet:
    """Read an export: its folder, or its ``manifest.csv``.

    A tumour's box encloses all marked regions. The group is the patient's pseudonym, or the study
    if there is none.

    Raises:
        InvalidManifest: the file cannot be read, lacks a column, has a wrong value, or no image
            is left.
    """
    path = export / "manifest.csv" if export.is_dir() else export
    by_image: dict[str, list[Answer]] = {}
    for line, row in read_rows(path, _WANTED):
        answer = _answer(row, path, line)
        by_image.setdefault(answer.image, []).append(answer)
    result = FeedbackSet([], [], [])
    for answers in by_image.values():
        if len({answer.label for answer in answers}) > 1:
            labels = {answer.reader: answer.label for answer in answers}
            result.disagreements.append(Disagreement(answers[0].path, labels))
        elif not answers[0].path.is_file():
            result.missing.append(answers[0].path)
        else:
            result.entries.append(_agreed(answers))
    if not result.entries:
        raise InvalidManifest(f"{path} holds no image that its readers agree about.")
    return result


def _answer(row: dict[str, str], path: Path, line: int) -> Answer:
    try:
        label = Label(row["label"])
        region = _region(row.get("region") or "")
        spacing = spacing_in(row)
    except ValueError as error:
        raise InvalidManifest(f"{path}, line {line}: {error}") from error
    if not row["path"] or not row["image_id"]:
        raise InvalidManifest(f"{path}, line {line}: the image is not named.")
    return Answer(
        path=path.parent / row["path"],
        label=label,
        group=row.get("group") or f"study-{row['study_id']}",
        image=row["image_id"],
        reader=row["reader"],
        region=region,
        spacing=spacing,
    )


def polygon_in(text: str) -> Polygon | None:
    """The corners (x, y) that a cell tells, as fractions of width and height; None if it is empty.

    Raises:
        ValueError: it is no polygon inside the image.
    """
    if not text:
        return None
    try:
        corners = tuple((float(x), float(y)) for x, y in json.loads(text))
    except (TypeError, ValueError) as error:
        raise ValueError("the region is no list of points [x, y]") from error
    numbers = [number for corner in corners for number in corner]
    if len(corners) < _FEWEST_CORNERS or not all(
        math.isfinite(number) and 0 <= number <= 1 for number in numbers
    ):
        raise ValueError("the region is no polygon inside the image")
    return corners


def _region(text: str) -> Box | None:
    """(left, top, right, bottom) of the polygon's corners."""
    corners = polygon_in(text)
    if corners is None:
        return None
    across, down = zip(*corners, strict=True)
    return min(across), min(down), max(across), max(down)


def _agreed(answers: list[Answer]) -> Entry:
    first = answers[0]
    regions = [answer.region for answer in answers if answer.region is not None]
    tumor = first.label is not Label.NO_TUMOR
    return Entry(
        path=first.path,
        label=first.label,
        group=first.group,
        box=_around(regions) if tumor and regions else None,
        source=SOURCE,
        sha256=content_hash(first.path),
        spacing=first.spacing,
    )


def _around(regions: list[Box]) -> Box | None:
    lefts, tops, rights, bottoms = zip(*regions, strict=True)
    left, top, width, height = (
        min(lefts), min(tops), max(rights) - min(lefts), max(bottoms) - min(tops),
    )  # fmt: skip
    return (left, top, width, height) if width > 0 and height > 0 else None
