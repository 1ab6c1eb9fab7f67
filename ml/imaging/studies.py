"""Read whole studies from disk: a file, a folder or an archive, slice by slice in order."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ml.errors import UnreadableImage
from ml.imaging.archives import is_archive, junk_among, members
from ml.imaging.facts import FileFacts
from ml.imaging.limits import Limits
from ml.imaging.readers import inspect, load, read_bytes
from ml.imaging.series import SeriesPlan, assemble
from ml.imaging.slices import Slice


@dataclass(frozen=True)
class Found:
    """A slice and its file, or the reason why there is no slice.

    Attributes:
        volume: number of the stack in which the previous and next slices are its neighbours;
            None if that is unknown.
        place: position along the normal of that stack in millimetres.
    """

    path: str
    slice: Slice | UnreadableImage
    volume: int | None = None
    place: float | None = None


def read_study(path: Path, limits: Limits | None = None) -> Iterator[Found]:
    """Yield the slices of a file, a folder (recursively) or an archive.

    Unreadable files come first, each with its reason; then the series, each in anatomical order.
    Slices are decoded lazily. Hidden files and files that systems and discs add (such as DICOMDIR)
    are skipped in folders and archives.
    """
    limits = limits or Limits()
    files: list[tuple[str, bytes | Path]] = []
    facts: list[FileFacts] = []
    empty = True
    for name, content in study_files(path, limits):
        empty = False
        try:
            if isinstance(content, UnreadableImage):
                raise content
            facts.append(inspect(_loaded(content, limits), limits))
        except UnreadableImage as error:
            yield Found(name, error)
        else:
            files.append((name, content))
    if empty:
        yield Found(str(path), UnreadableImage("archive_empty", "There is no file in it."))
    for number, plan in enumerate(assemble(facts)):
        yield from _decoded(plan, files, limits, number if plan.is_stack else None)


def study_files(
    path: Path, limits: Limits | None = None
) -> Iterator[tuple[str, bytes | Path | UnreadableImage]]:
    """Names with contents; a file in a folder comes as a path, to be loaded when needed.

    Hidden files and files that systems and discs add are skipped.
    """
    limits = limits or Limits()
    if path.is_dir():
        found = {
            PurePosixPath(inner.relative_to(path)): inner
            for inner in sorted(path.rglob("*"))
            if inner.is_file()
        }
        junk = junk_among(found)
        for relative, inner in found.items():
            if relative not in junk:
                yield from study_files(inner, limits)
        return
    try:
        content = load(path, limits)
        if not is_archive(content):
            yield str(path), path
            return
        for name, member in members(content, limits):
            yield f"{path}/{name}", member
    except UnreadableImage as error:
        yield str(path), error


def _loaded(content: bytes | Path, limits: Limits) -> bytes:
    return load(content, limits) if isinstance(content, Path) else content


def _decoded(
    plan: SeriesPlan, files: list[tuple[str, bytes | Path]], limits: Limits, volume: int | None
) -> Iterator[Found]:
    opened: tuple[int, list[Slice] | UnreadableImage] = (-1, [])
    for placed in plan.slices:
        name, content = files[placed.file]
        if opened[0] != placed.file:
            opened = placed.file, _slices(content, limits)
        slices = opened[1]
        found = slices if isinstance(slices, UnreadableImage) else slices[placed.frame]
        yield Found(name, found, volume, placed.position)


def _slices(content: bytes | Path, limits: Limits) -> list[Slice] | UnreadableImage:
    try:
        return read_bytes(_loaded(content, limits), limits)
    except UnreadableImage as error:
        return error
