"""The pixels of a labelled slice as in serving: resampled to square pixels."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ml.dataset.manifest import Entry
from ml.errors import UnreadableImage
from ml.imaging import read_path, square_pixels
from ml.imaging.slices import Pixels


def pixels_of(entry: Entry) -> Pixels:
    """Read a file and resample it by the spacing from the manifest or the file.

    Returns:
        (height, width) or (height, width, 3), as in :class:`ml.imaging.Slice`; unchanged
        if no spacing is known or pixels are square.

    Raises:
        UnreadableImage: the file is not a readable image.
    """
    found = read_path(entry.path)[0]
    return square_pixels(replace(found, spacing=entry.spacing or found.spacing))


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Let the message about an image that cannot be read begin with the file's name."""
    try:
        yield
    except UnreadableImage as error:
        raise UnreadableImage(error.code, f"{path}: {error}") from error
