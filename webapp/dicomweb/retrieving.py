"""WADO-RS (PS3.18 10.4): instances, frames and rendered pictures."""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import numpy.typing as npt
import pydicom
from flask_babel import gettext as _
from pydicom.pixels import pixel_array
from pydicom.uid import UID, ExplicitVRLittleEndian
from sqlalchemy import select
from werkzeug.exceptions import BadRequest, NotAcceptable

from ml.errors import UnreadableImage
from ml.imaging import NO_LIMITS, Room, open_bytes, parse_dicom
from ml.imaging.discretion import discreet
from ml.imaging.footprints import unpacked_dicom
from webapp.database import db
from webapp.dicomweb.media import AS_STORED
from webapp.errors import NotFound
from webapp.storage import BlobStore, MissingBlob
from webapp.studies.models import Instance
from webapp.viewer.windowing import Suggestion, shown_in_grey, suggestion_in

_log = logging.getLogger(__name__)

_PIECE = 2**20  # bytes sent at once
_FRAME_PIXEL = 48  # bytes per pixel while a frame with at most three samples is decoded


@dataclass(frozen=True)
class Kept:
    """What is needed of an instance to read its file, without a database session.

    Attributes:
        frame_pixels: rows times columns.
    """

    blob_key: str
    transfer_syntax: str
    frame_pixels: int
    frames: int

    def is_as_stored(self, syntaxes: frozenset[str]) -> bool:
        """Whether the stored file is in one of the transfer syntaxes."""
        return AS_STORED in syntaxes or self.transfer_syntax in syntaxes


@dataclass(frozen=True)
class Source:
    """Where files are read and written, without a database session or request.

    Attributes:
        folder: for unnamed temporary files.
    """

    blobs: BlobStore
    room: Room
    folder: Path


def find_instances(
    study_uid: str, series_uid: str | None = None, uid: str | None = None
) -> list[Instance]:
    """The instances of a study, of a series, or a single one; raises :class:`NotFound`."""
    statement = select(Instance).where(Instance.study_uid == study_uid)
    if series_uid is not None:
        statement = statement.where(Instance.series_uid == series_uid)
    if uid is not None:
        statement = statement.where(Instance.uid == uid)
    found = db.session.scalars(
        statement.order_by(Instance.series_uid, Instance.number, Instance.uid)
    ).all()
    if not found:
        raise NotFound(_("There is nothing at this address, or you do not have access to it."))
    return list(found)


def deliverable(instances: Sequence[Instance], syntaxes: frozenset[str]) -> list[Kept]:
    """Those available in one of the transfer syntaxes; raises 406 if there are none."""
    any_of = {AS_STORED, ExplicitVRLittleEndian}
    found = [
        kept(each)
        for each in instances
        if any_of & syntaxes or each.transfer_syntax_uid in syntaxes
    ]
    if not found:
        raise NotAcceptable(_("This is not available in the requested transfer syntax."))
    return found


def kept(instance: Instance) -> Kept:
    """The instance as a :class:`Kept`."""
    return Kept(
        instance.blob_key,
        instance.transfer_syntax_uid,
        instance.rows * instance.columns,
        instance.frames,
    )


def files(
    wanted: Sequence[Kept], syntaxes: frozenset[str], source: Source
) -> Iterator[tuple[str, BinaryIO]]:
    """(transfer syntax, open file) of each; unreadable ones are skipped.

    Uses no session or request: the response has already started.
    """
    for each in wanted:
        try:
            yield _file(each, syntaxes, source)
        except (MissingBlob, UnreadableImage):
            _log.error("the blob %s can no longer be read", each.blob_key)


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """The content in pieces; closes the file at the end."""
    with file:
        while piece := file.read(_PIECE):
            yield piece


def frames(one: Kept, numbers: Sequence[int], source: Source) -> Iterator[bytes]:
    """Pixels of each frame, numbered from 1, uncompressed and little endian.

    Uses no session or request: the response may have started already.

    Raises:
        NotFound: there is no frame with that number.
        UnreadableImage: the pixels of a frame are damaged; may come after other frames.
        MissingBlob: the file is gone.
        MemoryBusy: other work needed the memory for too long.
    """
    _check_frames(numbers, one.frames)
    with source.blobs.open(one.blob_key) as file:
        for number in numbers:
            # Reserved until the pixels are sent.
            with source.room.taken(_FRAME_PIXEL * one.frame_pixels):
                with _discreet_pixels():
                    pixels = _little_endian(pixel_array(file, index=number - 1, raw=True))
                yield pixels


def rendered(
    content: bytes, number: int, *, media_type: str, window: str | None, quality: str | None
) -> bytes:
    """A frame as an 8-bit grey picture.

    Args:
        number: of the frame, from 1.
        media_type: ``image/png`` or ``image/jpeg``.
        window: ``centre,width[,function]`` (PS3.18 8.3.5.1.4); by default the window that the
            pages use for the slice.
        quality: of a JPEG, 1 to 100.

    Raises:
        NotFound, UnreadableImage: as for :func:`frames`.
        BadRequest: ``window`` or ``quality`` is invalid.
    """
    wanted = _given_window(window)
    options = _encoder_options(media_type, quality)
    slices = open_bytes(content, NO_LIMITS)
    _check_frames([number], len(slices))
    chosen = slices[number - 1]
    ending = ".png" if media_type == "image/png" else ".jpg"
    picture = shown_in_grey(
        chosen.pixels,
        suggestion_in(chosen),
        wanted=Suggestion(*wanted, chosen.scale, chosen.offset) if wanted else None,
    )
    ok, encoded = cv2.imencode(ending, picture, options)
    if not ok:
        raise UnreadableImage("unsupported", "The picture cannot be written.")
    return encoded.tobytes()


def frame_numbers(text: str) -> list[int]:
    """Parse frame numbers separated by commas; raises 400 for anything else."""
    numbers = text.split(",")
    if len(numbers) > 1000 or not all(one.isascii() and one.isdigit() for one in numbers):
        raise BadRequest(_("Frames must be numbers separated by commas, for example 1,2,3."))
    return [int(one[:9]) for one in numbers]


def _file(each: Kept, syntaxes: frozenset[str], source: Source) -> tuple[str, BinaryIO]:
    if each.is_as_stored(syntaxes):
        return each.transfer_syntax, source.blobs.open(each.blob_key)
    with source.room.taken(source.blobs.size(each.blob_key)):
        content = source.blobs.get(each.blob_key)
        with source.room.taken(unpacked_dicom(content)):
            return ExplicitVRLittleEndian, _uncompressed(content, source.folder)


def _uncompressed(content: bytes, folder: Path) -> BinaryIO:
    """The file in Explicit VR Little Endian; other elements stay unchanged."""
    dataset = parse_dicom(content, NO_LIMITS)
    with _discreet_pixels():
        syntax = UID(dataset.file_meta.TransferSyntaxUID)
        if syntax.is_encapsulated:
            dataset.decompress(as_rgb=False, generate_instance_uid=False)
        elif not syntax.is_little_endian:
            dataset.PixelData = _little_endian(dataset.pixel_array)
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
    with _discreet_pixels():
        pydicom.dcmwrite(
            file, dataset, enforce_file_format=True, little_endian=True, implicit_vr=False
        )
    file.seek(0)
    return file


def _discreet_pixels() -> AbstractContextManager[None]:
    return discreet("truncated", "The pixels of the DICOM file are damaged or incomplete.")


def _little_endian(pixels: npt.NDArray[np.generic]) -> bytes:
    return pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()


def _check_frames(numbers: Sequence[int], count: int) -> None:
    if not all(1 <= number <= count for number in numbers):
        raise NotFound(_("There is no such frame."))


def _given_window(window: str | None) -> tuple[float, float] | None:
    if window is None:
        return None
    try:
        centre, width = (float(text) for text in window.split(",")[:2])
    except ValueError:
        centre, width = 0.0, float("nan")
    if not (np.isfinite(centre) and np.isfinite(width) and width >= 1):
        raise BadRequest(_("The window must be centre and width, for example 500,1000."))
    return centre, width


def _encoder_options(media_type: str, quality: str | None) -> list[int]:
    known = quality is None or (quality.isascii() and quality.isdigit() and len(quality) <= 3)
    wanted = int(quality) if quality is not None and known else 90
    if not known or not 1 <= wanted <= 100:
        raise BadRequest(_("The quality must be a number from 1 to 100."))
    return [cv2.IMWRITE_JPEG_QUALITY, wanted] if media_type == "image/jpeg" else []
