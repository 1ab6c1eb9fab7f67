"""From kept files to slices: each decoded once, kept as a PNG, and handed to the model."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import cv2

from ml.errors import UnreadableImage
from ml.imaging import NO_LIMITS, Limits, Slice, read_bytes
from ml.imaging.pictures import Pixels, encode_png
from webapp.inference.claims import ClaimedImage, Decoded
from webapp.storage import BlobStore, Keeper
from webapp.viewer.windowing import suggestion_in

# What one file may take once it is decoded; the worker itself needs about a gigabyte beside it.
SOURCE_LIMITS = Limits(max_bytes=2**30, max_total_bytes=2**30)

LARGEST_FOR_MODEL = 4_000_000  # pixels; no slice of a scanner is larger, and the model's is small

Item = TypeVar("Item")


@dataclass(frozen=True)
class Opened:
    """An image with its slice, or with the reason why it has none.

    Attributes:
        slice: what the model is to see, of a large picture a small copy: a batch has to fit into
            the memory.
        decoded: what is to be recorded; None where the image was kept as a PNG before.
        shape: (height, width) of the slice as it is kept.
    """

    image: ClaimedImage
    slice: Slice | UnreadableImage
    decoded: Decoded | None = None
    shape: tuple[int, int] = (0, 0)


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
        return Opened(image, reduced(found), _keep(image, found, kept), found.pixels.shape[:2])

    def _kept(self, image: ClaimedImage, key: str) -> Opened:
        pixels = read_bytes(self._blobs.get(key), NO_LIMITS)[0].pixels
        found = Slice(pixels, spacing=image.spacing)
        return Opened(image, reduced(found), shape=pixels.shape[:2])

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


def reduced(item: Slice) -> Slice:
    """A slice of no more than ``LARGEST_FOR_MODEL`` pixels, averaged over squares of them."""
    height, width = item.pixels.shape[:2]
    factor = math.ceil(math.sqrt(height * width / LARGEST_FOR_MODEL))
    if factor <= 1 or min(height, width) < factor:
        return item
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    pixels = cast("Pixels", cv2.resize(item.pixels, size, interpolation=cv2.INTER_AREA))
    spacing = item.spacing and (
        item.spacing[0] * height / size[1],
        item.spacing[1] * width / size[0],
    )
    return replace(item, pixels=pixels, spacing=spacing)


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
