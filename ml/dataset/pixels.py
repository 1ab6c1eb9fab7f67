"""The pixels of a labelled slice as in serving: resampled to square pixels."""

from dataclasses import replace

from ml.dataset.manifest import Entry
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
