"""WADO-RS (PS3.18 10.4): instances, frames and pictures of what is here."""

import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
from ml.imaging import NO_LIMITS, parse_dicom, read_bytes
from ml.imaging.discretion import discreet
from webapp.database import db
from webapp.dicomweb.media import AS_STORED
from webapp.errors import NotFound
from webapp.storage import BlobStore, MissingBlob
from webapp.studies.models import Instance
from webapp.viewer.windowing import Suggestion, shown_in_grey, suggestion_in

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """An instance as far as its file is needed, usable outside of any session."""

    blob_key: str
    transfer_syntax: str


def find_instances(
    study_uid: str, series_uid: str | None = None, uid: str | None = None
) -> list[Instance]:
    """The instances of a study, of one series, or one alone; raises :class:`NotFound`."""
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
    """Those that can be had in one of the transfer syntaxes; raises 406 where none can."""
    any_of = {AS_STORED, ExplicitVRLittleEndian}
    found = [
        Kept(each.blob_key, each.transfer_syntax_uid)
        for each in instances
        if any_of & syntaxes or each.transfer_syntax_uid in syntaxes
    ]
    if not found:
        raise NotAcceptable(_("This is not available in the requested transfer syntax."))
    return found


def files(
    kept: Sequence[Kept], syntaxes: frozenset[str], blobs: BlobStore
) -> Iterator[tuple[str, bytes]]:
    """(transfer syntax, file) of each; what can no longer be read is left out.

    Needs neither session nor request: the answer is on its way already.
    """
    for each in kept:
        try:
            yield _file(each, syntaxes, blobs)
        except (MissingBlob, UnreadableImage):
            _log.error("the blob %s can no longer be read", each.blob_key)


def frames(content: bytes, numbers: Sequence[int]) -> list[bytes]:
    """Pixels of frames, numbered from 1, uncompressed and little endian.

    Raises:
        NotFound: there is no frame of that number.
        UnreadableImage: the pixels are damaged.
    """
    dataset = parse_dicom(content, NO_LIMITS)
    with discreet("truncated", "The pixels of the DICOM file are damaged or incomplete."):
        count = max(1, int(dataset.get("NumberOfFrames") or 1))
    _check_frames(numbers, count)
    with discreet("truncated", "The pixels of the DICOM file are damaged or incomplete."):
        file = io.BytesIO(content)
        return [_little_endian(pixel_array(file, index=n - 1, raw=True)) for n in numbers]


def rendered(
    content: bytes, number: int, *, media_type: str, window: str | None, quality: str | None
) -> bytes:
    """A frame as an 8-bit grey picture.

    Args:
        number: of the frame, from 1.
        media_type: ``image/png`` or ``image/jpeg``.
        window: ``centre,width[,function]`` (PS3.18 8.3.5.1.4); by default the one that pages
            show the slice with.
        quality: of a JPEG, 1 to 100.

    Raises:
        NotFound, UnreadableImage: as :func:`frames`.
        BadRequest: ``window`` or ``quality`` are not valid.
    """
    wanted = _given_window(window)
    options = _encoder_options(media_type, quality)
    slices = read_bytes(content, NO_LIMITS)
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
    """Numbers separated by commas; raises 400 for anything else."""
    numbers = text.split(",")
    if len(numbers) > 1000 or not all(one.isascii() and one.isdigit() for one in numbers):
        raise BadRequest(_("Frames must be numbers separated by commas, for example 1,2,3."))
    return [int(one[:9]) for one in numbers]


def _file(each: Kept, syntaxes: frozenset[str], blobs: BlobStore) -> tuple[str, bytes]:
    content = blobs.get(each.blob_key)
    if AS_STORED in syntaxes or each.transfer_syntax in syntaxes:
        return each.transfer_syntax, content
    return ExplicitVRLittleEndian, _uncompressed(content)


def _uncompressed(content: bytes) -> bytes:
    """The file in Explicit VR Little Endian; no other element changes."""
    dataset = parse_dicom(content, NO_LIMITS)
    with discreet("truncated", "The pixels of the DICOM file are damaged or incomplete."):
        syntax = UID(dataset.file_meta.TransferSyntaxUID)
        if syntax.is_encapsulated:
            dataset.decompress(as_rgb=False, generate_instance_uid=False)
        elif not syntax.is_little_endian:
            dataset.PixelData = _little_endian(dataset.pixel_array)
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        buffer = io.BytesIO()
        pydicom.dcmwrite(
            buffer, dataset, enforce_file_format=True, little_endian=True, implicit_vr=False
        )
    return buffer.getvalue()


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
