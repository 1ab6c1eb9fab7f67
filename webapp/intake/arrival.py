"""From a received file to what may be stored. Identifying data never pass this module.

A DICOM file is de-identified in memory and checked by its header. A volume (NIfTI, MGH, NRRD) is
stored as NIfTI with only geometry in its header. Both are searched for letters in the pixels, and
the worker makes them into slices. A picture is decoded at once and stored as a PNG of its pixels,
one per page.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from hashlib import sha256
from pathlib import PurePosixPath
from typing import IO, Protocol

import pydicom

from ml.errors import UnreadableImage
from ml.imaging import (
    PICTURE_FORMATS,
    FileFacts,
    FrameFacts,
    Limits,
    footprint,
    inspect,
    inspect_dicom,
    is_archive,
    members,
    parse_dicom,
    sniff,
)
from ml.imaging.archives import is_junk
from ml.imaging.dicom import check_dicom
from ml.imaging.discretion import discreet
from ml.imaging.pictures import encode_png
from webapp.deidentification import Pseudonymiser, deidentify
from webapp.extensions import current_room, current_settings
from webapp.intake.letters import (
    BurnedIn,
    Regions,
    TextInPixels,
    checked_dicom,
    checked_nifti,
    checked_picture,
)
from webapp.storage import Keeper


@dataclass(frozen=True)
class Handling:
    """How to treat the files of an upload.

    Attributes:
        burned_in: what to do with letters in the pixels.
        plane: slicing plane of volumes: ``auto``, ``axial``, ``coronal`` or ``sagittal``.
        forgiving: skip files that are not MR images, as on a patient CD.
    """

    burned_in: BurnedIn = BurnedIn.ASK
    plane: str = "auto"
    forgiving: bool = False


class ReceivedFile(Protocol):
    """A received file. ``name`` is used only in messages and never stored."""

    @property
    def name(self) -> str:
        """The sender's name of the file."""
        ...

    @property
    def size(self) -> int:
        """Size in bytes."""
        ...

    @property
    def content(self) -> bytes:
        """The whole content."""
        ...

    def open(self) -> IO[bytes]:
        """Open the file at its beginning."""
        ...


@dataclass(frozen=True)
class UploadedFile:
    """A file whose content is in memory."""

    name: str
    content: bytes

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.content)

    def open(self) -> IO[bytes]:
        """Open the file at its beginning."""
        return io.BytesIO(self.content)


@dataclass(frozen=True)
class DicomFacts:
    """Values for the row of a DICOM instance, besides :class:`ml.imaging.FileFacts`; pseudonymous.

    ``pixels_key`` is the SHA-256 of image size and stored pixels.
    """

    patient_code: str
    acquired_on: date | None
    pixels_key: str


@dataclass(frozen=True)
class Arrival:
    """A file that was accepted.

    Attributes:
        facts: from its header; every identifier is a pseudonym.
        blob_key: the de-identified file or, for a picture, the PNG.
        dicom: None for other formats.
        name: for messages; never stored.
    """

    facts: FileFacts
    blob_key: str
    dicom: DicomFacts | None = None
    name: str = ""

    @property
    def is_picture(self) -> bool:
        """Whether the blob is the slice itself."""
        return self.facts.format in PICTURE_FORMATS


@dataclass
class Delivered:
    """The outcome of a whole upload.

    Attributes:
        arrivals: the accepted files.
        left_out: (name, reason code) of skipped files.
        refused: file name -> reason code of files that may not be skipped.
        questions: file name -> regions with letters that a person has to check.
    """

    arrivals: list[Arrival] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    questions: dict[str, Regions] = field(default_factory=dict)


def upload_limits() -> Limits:
    """The limits of one upload, from the settings."""
    settings = current_settings()
    return Limits(max_bytes=settings.max_upload_bytes, max_pixels=settings.max_pixels)


def take_in_file(
    file: ReceivedFile,
    into: Delivered,
    *,
    blobs: Keeper,
    pseudonymiser: Pseudonymiser,
    burned_in: BurnedIn,
    plane: str,
    forgiving: bool,
) -> None:
    """Accept one file of an upload, or all files of an archive, and note the outcome.

    Args:
        forgiving: skip a file that is not an MR image instead of refusing it, as in a folder or
            on a patient CD. Files in an archive, and files that operating systems and CDs add,
            are always skipped.

    Raises:
        MemoryBusy: other work needed the memory for too long; a retry may succeed.
    """
    limits = upload_limits()
    try:
        with current_room().taken(file.size):
            for name, content, packed in _unpacked(file, limits, into):
                try:
                    if isinstance(content, UnreadableImage):
                        raise content
                    arrival = take_in(
                        content,
                        blobs=blobs,
                        pseudonymiser=pseudonymiser,
                        limits=limits,
                        burned_in=burned_in,
                        plane=plane,
                    )
                    into.arrivals.append(replace(arrival, name=name))
                except TextInPixels as question:
                    into.questions[name] = question.regions
                except UnreadableImage as error:
                    if is_junk(PurePosixPath(name)):
                        into.left_out.append((name, "junk"))
                    elif packed or forgiving:
                        into.left_out.append((name, error.code))
                    else:
                        into.refused[name] = error.code
    except UnreadableImage as error:  # the archive itself
        into.refused[file.name] = error.code


def take_in(
    content: bytes,
    *,
    blobs: Keeper,
    pseudonymiser: Pseudonymiser,
    limits: Limits,
    burned_in: BurnedIn = BurnedIn.ASK,
    plane: str = "auto",
) -> Arrival:
    """De-identify one file, check it, and store it as a blob.

    Args:
        content: the caller has reserved memory for it; checking reserves more.
        blobs: where to store it.
        plane: for volumes: ``auto``, ``axial``, ``coronal`` or ``sagittal``.

    Raises:
        TextInPixels: the pixels contain letters and ``burned_in`` is ``ASK``.
        UnreadableImage: the file is not acceptable; nothing was stored.
        MemoryBusy: other work needed the memory for too long.
    """
    if len(content) > limits.max_bytes:
        raise UnreadableImage("too_large", "The file is larger than the limit.")
    reader, room = sniff(content), current_room()
    if reader.as_nifti:
        with room.taken(reader.footprint(content).checking):
            kept = reader.as_nifti(content, limits)
        with room.taken(len(kept)):
            kept = checked_nifti(kept, limits, burned_in, plane)
            _demand_room_to_read(kept)
            return Arrival(inspect(kept, limits, plane=plane), blobs.put(kept))
    with room.taken(reader.footprint(content).checking):
        if reader.format == "DICOM":
            kept, facts, dicom = _checked_dicom(content, pseudonymiser, limits, burned_in)
            _demand_room_to_read(kept)
            return Arrival(facts, blobs.put(kept), dicom)
        kept, facts = _kept_picture(content, limits, burned_in)
        return Arrival(facts, blobs.put(kept))


def _demand_room_to_read(kept: bytes) -> None:
    """Refuse a file that the worker, with the same budget, would lack the memory to read."""
    if len(kept) + footprint(kept).reading > current_room().size:
        raise UnreadableImage("too_many_pixels", "The file needs more memory than there is.")


def _unpacked(
    file: ReceivedFile, limits: Limits, into: Delivered
) -> Iterator[tuple[str, bytes | UnreadableImage, bool]]:
    """(name, content, whether from an archive) of the file, or of all files and pages in it."""
    content = file.content
    if not is_archive(content):
        for page, inner in _paged(file.name, content, limits, into):
            yield page, inner, False
        return
    left_out: list[tuple[str, str]] = []
    for name, member in members(content, limits, left_out, room=current_room().taken):
        for page, inner in _paged(f"{file.name}/{name}", member, limits, into):
            yield page, inner, True
    into.left_out += [(f"{file.name}/{name}", code) for name, code in left_out]


def _paged(
    name: str, content: bytes, limits: Limits, into: Delivered
) -> Iterator[tuple[str, bytes | UnreadableImage]]:
    """(name, content) of the file, or of each of its pages as a PNG."""
    try:
        pages = sniff(content).pages
        stack = pages(content, limits) if pages else None
    except UnreadableImage as error:
        yield name, error
        return
    if stack is None or len(stack.pages) + len(stack.reduced) == 1:
        yield name, content
        return
    into.left_out += [(f"{name}/{number + 1}", "reduced_copy") for number in stack.reduced]
    for page in stack.pages:
        png: bytes | UnreadableImage
        try:
            with current_room().taken(page.decoding_bytes):
                png = encode_png(stack.decode(page).pixels)
        except UnreadableImage as error:
            png = error
        yield f"{name}/{page.number + 1}", png


def _kept_picture(content: bytes, limits: Limits, burned_in: BurnedIn) -> tuple[bytes, FileFacts]:
    reader = sniff(content)
    kept = checked_picture(reader.decode(content, limits, "auto")[0].pixels, burned_in)
    height, width = kept.shape[:2]
    facts = FileFacts(format=reader.format, frames=(FrameFacts(0, height, width),))
    return encode_png(kept), facts


def _checked_dicom(
    content: bytes, pseudonymiser: Pseudonymiser, limits: Limits, burned_in: BurnedIn
) -> tuple[bytes, FileFacts, DicomFacts]:
    dataset = parse_dicom(content, limits)
    check_dicom(dataset, limits)  # before its pixels are decoded
    done = deidentify(dataset, pseudonymiser)
    facts = inspect_dicom(done.dataset, limits)
    kept = checked_dicom(done, facts, burned_in)
    code = done.patient_code or pseudonymiser.patient(facts.study_uid or "")
    return kept, facts, DicomFacts(code, _date(done.dataset), pixels_key(done.dataset))


def pixels_key(dataset: pydicom.Dataset) -> str:
    """SHA-256 of a DICOM file's image size and stored pixels, independent of its identifiers."""
    with discreet("truncated", "The pixels are damaged."):
        shape = [dataset.get(name) for name in ("Rows", "Columns", "NumberOfFrames")]
        digest = sha256("x".join(str(number or 1) for number in shape).encode())
        for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
            digest.update(dataset.get(name) or b"")
    return digest.hexdigest()


def _date(dataset: pydicom.Dataset) -> date | None:
    for name in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        try:
            return datetime.strptime(str(dataset.get(name, "")), "%Y%m%d").date()  # noqa: DTZ007
        except ValueError:
            continue
    return None
