"""From stored files to slices: each is decoded once, stored as a PNG and given to the model."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Self, TypeVar, cast

import cv2

from ml.errors import UnreadableImage
from ml.imaging import NO_LIMITS, Limits, Room, Slice, open_bytes, read_bytes
from ml.imaging.pictures import Pixels, encode_png
from webapp.extensions import blob_in_room
from webapp.inference.claims import ClaimedImage, Decoded
from webapp.storage import BlobStore, Keeper
from webapp.viewer.windowing import suggestion_in

# Limit of one decoded file; the worker itself needs about another gigabyte.
SOURCE_LIMITS = Limits(max_bytes=2**30, max_total_bytes=2**30)

LARGEST_FOR_MODEL = 4_000_000  # pixels; more than any scanner's slice and the model's input

Item = TypeVar("Item")


@dataclass(frozen=True)
class Opened:
    """An image with its slice, or with the reason why it has none.

    Attributes:
        slice: input of the model; a large picture is reduced, so that a batch fits into memory.
        decoded: what to record; None if the image was stored as a PNG before.
        shape: (height, width) of the stored slice.
    """

    image: ClaimedImage
    slice: Slice | UnreadableImage
    decoded: Decoded | None = None
    shape: tuple[int, int] = (0, 0)


class Decoder:
    """Opens images in the order of their analyses; the last file stays open.

    Use it as a context manager: on exit the file is closed and its memory released.
    """

    def __init__(self, blobs: BlobStore, room: Room) -> None:
        """``room`` is the memory budget for decoding."""
        self._blobs = blobs
        self._room = room
        self._key: tuple[str, str | None] | None = None
        self._slices: Sequence[Slice] | UnreadableImage = ()
        self._held = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_fault: object) -> None:
        self._close()

    def decode(self, images: Sequence[ClaimedImage]) -> list[Opened]:
        """Open a batch.

        Raises:
            MissingBlob: a stored file is gone.
            MemoryBusy: other work in this process needed the memory for too long.
        """
        with self._blobs.batch() as kept:
            return self.open(images, kept)

    def open(self, images: Sequence[ClaimedImage], kept: Keeper) -> list[Opened]:
        """As :meth:`decode`, into a batch of the caller's."""
        return [self._open(image, kept) for image in images]

    def _open(self, image: ClaimedImage, kept: Keeper) -> Opened:
        try:
            if image.blob_key is not None:
                return self._kept(image, image.blob_key)
            found = self._slice_of(image)
        except UnreadableImage as error:
            return Opened(image, error)
        return Opened(image, reduced(found), _keep(image, found, kept), found.pixels.shape[:2])

    def _kept(self, image: ClaimedImage, key: str) -> Opened:
        if self._key is not None:
            self._close()
        with blob_in_room(key, self._blobs, self._room) as content:  # a PNG of our own
            pixels = read_bytes(content, NO_LIMITS)[0].pixels
            found = reduced(Slice(pixels, spacing=image.spacing))
        return Opened(image, found, shape=pixels.shape[:2])

    def _slice_of(self, image: ClaimedImage) -> Slice:
        key = (image.source_key or "", image.plane)
        if self._key != key:
            self._close()
            self._slices = self._slices_in(*key)
            self._key = key
        if isinstance(self._slices, UnreadableImage):
            raise self._slices
        try:
            return self._slices[image.frame]
        except IndexError:
            raise UnreadableImage(
                "truncated", "The file holds fewer slices than it says."
            ) from None

    def _slices_in(self, key: str, plane: str | None) -> Sequence[Slice] | UnreadableImage:
        try:
            content = self._held.enter_context(blob_in_room(key, self._blobs, self._room))
            return open_bytes(content, SOURCE_LIMITS, plane=plane or "auto")
        except UnreadableImage as error:
            return error

    def _close(self) -> None:
        self._key, self._slices = None, ()
        self._held.close()


def reduced(item: Slice) -> Slice:
    """Reduce a slice to at most ``LARGEST_FOR_MODEL`` pixels by averaging areas.

    The limit also holds after the pixels are made square.
    """
    height, width = item.pixels.shape[:2]
    stretched = max(item.spacing) / min(item.spacing) if item.spacing else 1.0
    factor = math.ceil(math.sqrt(height * width * stretched / LARGEST_FOR_MODEL))
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
        # No window if it would show nothing.
        window_centre=window.centre if window else None,
        window_width=window.width if window else None,
    )


def batched(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Split into batches of at most ``size``, in order."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
