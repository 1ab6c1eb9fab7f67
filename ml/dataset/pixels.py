"""The pixels of a labelled slice, as serving sees them: a pixel is as high as it is wide."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ml.dataset.manifest import Entry
from ml.errors import UnreadableImage
from ml.imaging import read_path, square_pixels
from ml.imaging.slices import Pixels


def pixels_of(entry: Entry) -> Pixels:
    """Read a file and resample it by the spacing that the manifest or the file itself tells.

    Returns:
        (height, width) or (height, width, 3), as :class:`ml.imaging.Slice` has them; untouched
        where no spacing is known or pixels are square.

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
