"""A collection of pictures that are no MRI of a brain, listed in a CSV file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ml.dataset.manifest import read_rows, relative_path, write_rows
from ml.dataset.pixels import named
from ml.errors import InvalidManifest
from ml.imaging import read_path
from ml.imaging.pictures import Pixels

_COLUMNS = ("path", "kind", "source")


@dataclass(frozen=True)
class OODPicture:
    """A picture that is no MRI of a brain.

    Attributes:
        path: the file.
        kind: what it shows, such as ``grey photograph in a black oval``.
        source: what it was made from; all variants of one image share it.
    """

    path: Path
    kind: str
    source: str

    def pixels(self) -> Pixels:
        """Read the file: (height, width) grey or (height, width, 3) RGB.

        Raises:
            UnreadableImage: it is no readable image; the message names the file.
        """
        with named(self.path):
            return read_path(self.path)[0].pixels


def read_collection(path: Path) -> list[OODPicture]:
    """Read a CSV file with the columns ``path`` (relative to its folder), ``kind`` and ``source``.

    Raises:
        InvalidManifest: the file cannot be read, lacks a column, or names a missing picture.
    """
    pictures = []
    for line, row in read_rows(path, set(_COLUMNS)):
        file = path.parent / row["path"]
        if not file.is_file():
            raise InvalidManifest(f"{path}, line {line}: there is no file {file}.")
        pictures.append(OODPicture(file, row["kind"], row["source"]))
    if not pictures:
        raise InvalidManifest(f"{path} lists no images.")
    return pictures


def write_collection(path: Path, pictures: Sequence[OODPicture]) -> None:
    """Write what :func:`read_collection` reads; paths are relative to the file's folder."""
    rows = (
        {
            "path": relative_path(one.path, path.parent),
            "kind": one.kind,
            "source": one.source,
        }
        for one in pictures
    )
    write_rows(path, _COLUMNS, rows)


def held_out_sources(pictures: Sequence[OODPicture]) -> frozenset[str]:
    """The sources that no rule is tuned on: every second one, in order of appearance."""
    return frozenset(list(dict.fromkeys(one.source for one in pictures))[1::2])
