"""From kept files to slices: each decoded once, kept as a PNG, and handed to the model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ml.errors import UnreadableImage
from ml.imaging import NO_LIMITS, Limits, Slice, read_bytes
from ml.imaging.pictures import encode_png
from webapp.storage import BlobStore, Keeper
from webapp.studies.analyses import ClaimedImage, Decoded
from webapp.studies.windowing import suggestion_in

# What one file may take once it is decoded; the worker itself needs about a gigabyte beside it.
SOURCE_LIMITS = Limits(max_bytes=2**30, max_total_bytes=2**30)

Item = TypeVar("Item")


@dataclass(frozen=True)
class Opened:
    """An image with its slice, or with the reason why it has none.

    Attributes:
        decoded: what is to be recorded; None where the image was kept as a PNG before.
    """

    image: ClaimedImage
    slice: Slice | UnreadableImage
    decoded: Decoded | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the slice as it is kept."""
        if isinstance(self.slice, UnreadableImage):
            raise self.slice
        return self.slice.pixels.shape[0], self.slice.pixels.shape[1]


class Decoder:
    """Opens images of one analysis, in their order; the file opened last stays open."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._key: tuple[str, str | None] | None = None
        self._slices: dict[int, Slice] | UnreadableImage = {}

    def decode(self, images: Sequence[ClaimedImage]) -> list[Opened]:
        """Open a batch.

        Raises:
            MissingBlob: a kept file is gone.
        """
        with self._blobs.batch() as kept:
            return [self._open(image, kept) for image in images]

    def _open(self, image: ClaimedImage, kept: Keeper) -> Opened:
        if image.blob_key is not None:
            return self._kept(image, image.blob_key)
        try:
            found = self._slice_of(image)
        except UnreadableImage as error:
            return Opened(image, error)
        return Opened(image, found, _keep(image, found, kept))

    def _kept(self, image: ClaimedImage, key: str) -> Opened:
        pixels = read_bytes(self._blobs.get(key), NO_LIMITS)[0].pixels
        return Opened(image, Slice(pixels, spacing=image.spacing))

    def _slice_of(self, image: ClaimedImage) -> Slice:
        key = (image.source_key or "", image.plane)
        if self._key != key:
            self._key, self._slices = key, {}
            self._slices = self._slices_in(*key)
        if isinstance(self._slices, UnreadableImage):
            raise self._slices
        try:
            return self._slices[image.frame]
        except KeyError:
            raise UnreadableImage(
                "truncated", "The file holds fewer slices than it says."
            ) from None

    def _slices_in(self, key: str, plane: str | None) -> dict[int, Slice] | UnreadableImage:
        content = self._blobs.get(key)
        try:
            slices = read_bytes(content, SOURCE_LIMITS, plane=plane or "auto")
        except UnreadableImage as error:
            return error
        return {one.index: one for one in slices}


def _keep(image: ClaimedImage, found: Slice, kept: Keeper) -> Decoded:
    height, width = found.pixels.shape[:2]
    window = suggestion_in(found)
    return Decoded(
        image_id=image.id,
        blob_key=kept.put(encode_png(found.pixels)),
        width=width,
        height=height,
        value_scale=found.scale,
        value_offset=found.offset,
        # What shows nothing is not offered either.
        window_centre=window.centre if window else None,
        window_width=window.width if window else None,
    )


def batched(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Pieces of at most ``size``, in order."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
