"""From a received file to what may be kept. Nothing that names a patient gets past this module.

A DICOM file is de-identified in memory and judged by its header; its pixels are decoded by the
worker. A NIfTI file loses all of its header that is not geometry. A picture is decoded at once
and kept as a PNG of its pixels.
"""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import StrEnum
from hashlib import sha256
from pathlib import PurePosixPath
from typing import IO, Any, Protocol, cast

import cv2
import pydicom
from pydicom.multival import MultiValue
from pydicom.uid import ExplicitVRLittleEndian

from ml.errors import UnreadableImage
from ml.imaging import (
    FileFacts,
    FrameFacts,
    Limits,
    footprint,
    inspect,
    inspect_dicom,
    is_archive,
    members,
    open_bytes,
    parse_dicom,
    sniff,
    strip_nifti,
)
from ml.imaging.archives import is_junk
from ml.imaging.burned_in import TextBox, find_text, mask_text
from ml.imaging.dicom import GREY, MR_CLASSES, check_dicom
from ml.imaging.discretion import discreet
from ml.imaging.pictures import Pixels, encode_png
from webapp.deidentification import Pseudonymiser, as_file, deidentify
from webapp.extensions import current_room, current_settings
from webapp.storage import Keeper

_BITS_OF_A_SCREEN = 8
_FRAMES = 48  # of a long file that are looked at before somebody is asked: evenly, both ends too
_LONGEST_SIDE_READ = 4096  # px
_MASKING = 4  # copies of decoded pixels: pydicom's own, ours, as bytes, in the file


class BurnedIn(StrEnum):
    """What to do where letters stand in the pixels: they may name the patient."""

    ASK = "ask"  # refuse until somebody has looked
    MASK = "mask"  # black them out
    KEEP = "keep"  # somebody has looked and says that they name nobody


@dataclass(frozen=True)
class Handling:
    """How the files of an upload are to be treated.

    Attributes:
        burned_in: what to do with letters in the pixels.
        plane: in which NIfTI volumes are cut: ``auto``, ``axial``, ``coronal`` or ``sagittal``.
        forgiving: pass over files that are no MR images, as on a disc from a hospital.
    """

    burned_in: BurnedIn = BurnedIn.ASK
    plane: str = "auto"
    forgiving: bool = False


class ReceivedFile(Protocol):
    """A file as it arrived. ``name`` serves in messages alone and is never kept."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def content(self) -> bytes: ...

    def open(self) -> IO[bytes]: ...


@dataclass(frozen=True)
class UploadedFile:
    """A file whose content is at hand."""

    name: str
    content: bytes

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.content)

    def open(self) -> IO[bytes]:
        """From its beginning."""
        return io.BytesIO(self.content)


class TextInPixels(UnreadableImage):
    """Letters were found in the pixels, and nobody has said yet what to do with them.

    Attributes:
        regions: where, each as (left, top, right, bottom) in fractions of width and height.
    """

    def __init__(self, regions: tuple[tuple[float, float, float, float], ...]) -> None:
        super().__init__("burned_in", "There is text in the image that may name the patient.")
        self.regions = regions


@dataclass(frozen=True)
class DicomFacts:
    """What the row of a DICOM instance says beyond :class:`ml.imaging.FileFacts`; pseudonymous.

    ``pixels_key`` is the SHA-256 of size and stored pixels.
    """

    patient_code: str
    acquired_on: date | None
    pixels_key: str


@dataclass(frozen=True)
class Arrival:
    """A file that was taken in.

    Attributes:
        facts: what its header says; every identifier in it is a pseudonym.
        blob_key: the de-identified file, or, for a picture, the PNG.
        dicom: None for other formats.
        name: what messages call it; never kept.
    """

    facts: FileFacts
    blob_key: str
    dicom: DicomFacts | None = None
    name: str = ""

    @property
    def is_picture(self) -> bool:
        """Whether the blob is the slice itself."""
        return self.facts.format in {"PNG", "JPEG"}


@dataclass
class Delivered:
    """What came of a whole upload.

    Attributes:
        arrivals: the files taken in.
        left_out: (name, code of the reason) of files passed over.
        refused: name of a file -> code, for files that have to be acceptable.
        questions: name of a file -> regions with letters that somebody has to look at.
    """

    arrivals: list[Arrival] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    questions: dict[str, tuple[tuple[float, float, float, float], ...]] = field(
        default_factory=dict
    )


def upload_limits() -> Limits:
    """The limits of one upload."""
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
    """Take in one file of an upload, or all files of an archive, and note what happened.

    Args:
        forgiving: pass over what is no MR image, as in a folder or on a disc from a hospital,
            instead of refusing it. What is in an archive is treated so in any case, and so is
            what operating systems and discs add.

    Raises:
        MemoryBusy: others have needed the memory for too long; the same may work later.
    """
    limits = upload_limits()
    try:
        with current_room().taken(file.size):
            for name, content, packed in _unpacked(file, limits, into):
                try:
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
    """De-identify one file, judge it, and keep it as a blob.

    Args:
        content: the caller has taken room for it; what checking it needs beside is taken here.
        blobs: where to keep it.
        plane: for NIfTI volumes: ``auto``, ``axial``, ``coronal`` or ``sagittal``.

    Raises:
        TextInPixels: there are letters in the pixels and ``burned_in`` is ``ASK``.
        UnreadableImage: the file is not acceptable; nothing was kept.
        MemoryBusy: others have needed the memory for too long.
    """
    if len(content) > limits.max_bytes:
        raise UnreadableImage("too_large", "The file is larger than the limit.")
    reader = sniff(content)
    with current_room().taken(reader.footprint(content).checking):
        match reader.format:
            case "DICOM":
                kept, facts, dicom = _checked_dicom(content, pseudonymiser, limits, burned_in)
                _demand_room_to_read(kept)
                return Arrival(facts, blobs.put(kept), dicom)
            case "NIFTI":
                kept = strip_nifti(content, limits)
                _demand_room_to_read(kept)
                return Arrival(inspect(kept, limits, plane=plane), blobs.put(kept))
            case _:
                kept, facts = _checked_picture(content, limits, burned_in)
                return Arrival(facts, blobs.put(kept))


def _demand_room_to_read(kept: bytes) -> None:
    """Refuse what the worker would have no room for; it has as much."""
    if len(kept) + footprint(kept).reading > current_room().size:
        raise UnreadableImage("too_many_pixels", "The file needs more memory than there is.")


def _unpacked(
    file: ReceivedFile, limits: Limits, into: Delivered
) -> Iterator[tuple[str, bytes, bool]]:
    """(name, content, whether from an archive) of the file, or of all files in it."""
    content = file.content
    if not is_archive(content):
        yield file.name, content, False
        return
    left_out: list[tuple[str, str]] = []
    for name, member in members(content, limits, left_out, room=current_room().taken):
        yield f"{file.name}/{name}", member, True
    into.left_out += [(f"{file.name}/{name}", code) for name, code in left_out]


def _checked_picture(
    content: bytes, limits: Limits, burned_in: BurnedIn
) -> tuple[bytes, FileFacts]:
    reader = sniff(content)
    pixels = reader.decode(content, limits, "auto")[0].pixels
    boxes = _text_in(pixels) if burned_in is not BurnedIn.KEEP else []
    height, width = pixels.shape[:2]
    if boxes and burned_in is BurnedIn.ASK:
        raise TextInPixels(_fractions(boxes, width, height))
    kept = mask_text(pixels, boxes) if boxes else pixels
    facts = FileFacts(format=reader.format, frames=(FrameFacts(0, height, width),))
    return encode_png(kept), facts


def _text_in(pixels: Pixels) -> list[TextBox]:
    """Letters in a picture; in a large one they are looked for in a small copy."""
    height, width = pixels.shape[:2]
    factor = -(-max(height, width) // _LONGEST_SIDE_READ)
    if factor <= 1 or min(height, width) < factor:
        return find_text(pixels)
    size = (width // factor, height // factor)
    found = find_text(cast("Pixels", cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)))
    across, down = width / size[0], height / size[1]
    return [
        TextBox(
            left=int(box.left * across),
            top=int(box.top * down),
            right=min(width, math.ceil(box.right * across)),
            bottom=min(height, math.ceil(box.bottom * down)),
        )
        for box in found
    ]


def _checked_dicom(
    content: bytes, pseudonymiser: Pseudonymiser, limits: Limits, burned_in: BurnedIn
) -> tuple[bytes, FileFacts, DicomFacts]:
    dataset = parse_dicom(content, limits)
    check_dicom(dataset, limits)  # before anything is made of its pixels
    done = deidentify(dataset, pseudonymiser)
    facts = inspect_dicom(done.dataset, limits)
    kept = done.content
    if _may_show_names(done.burned_in, done.dataset, facts) and burned_in is not BurnedIn.KEEP:
        kept = _without_letters(done.content, done.dataset, done.burned_in, limits, burned_in)
    code = done.patient_code or pseudonymiser.patient(facts.study_uid or "")
    return kept, facts, DicomFacts(code, _date(done.dataset), pixels_key(done.dataset))


def pixels_key(dataset: pydicom.Dataset) -> str:
    """SHA-256 of a DICOM file's size and stored pixels, whatever its identifiers are."""
    with discreet("truncated", "The pixels are damaged."):
        shape = [dataset.get(name) for name in ("Rows", "Columns", "NumberOfFrames")]
        digest = sha256("x".join(str(number or 1) for number in shape).encode())
        for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
            digest.update(dataset.get(name) or b"")
    return digest.hexdigest()


def _may_show_names(declared: str, dataset: pydicom.Dataset, facts: FileFacts) -> bool:
    """Whether the pixels have to be looked at: all but those that a scanner has just measured.

    What a scanner stores as original has more than 8 bits of grey, and nobody has drawn on it.
    What a file says of itself is believed where it admits to letters, never where it denies them.
    """
    if declared == "yes":
        return True
    kind = [str(word).strip().upper() for word in _words(dataset.get("ImageType"))]
    original = kind[:1] == ["ORIGINAL"] and kind[1:2] == ["PRIMARY"]
    grey = int(dataset.get("SamplesPerPixel") or 1) == 1
    grey = grey and str(dataset.get("PhotometricInterpretation")).startswith("MONOCHROME")
    deep = int(dataset.get("BitsStored") or 8) > _BITS_OF_A_SCREEN
    return not (facts.sop_class in MR_CLASSES and original and grey and deep)


def _words(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, MultiValue)) else [value]


def _without_letters(
    content: bytes,
    dataset: pydicom.Dataset,
    declared: str,
    limits: Limits,
    burned_in: BurnedIn,
) -> bytes:
    """The file with letters blacked out; as it is where there are none and none are declared."""
    frames = open_bytes(content, limits)
    # What is to be blacked out is looked for in every frame.
    few = len(frames) if burned_in is BurnedIn.MASK else min(len(frames), _FRAMES)
    looked_at = {at * (len(frames) - 1) // max(1, few - 1) for at in range(few)}
    boxes: list[TextBox] = []
    for number, one in enumerate(frames):  # all of them: a damaged one is no image
        height, width = one.pixels.shape[:2]
        if number in looked_at:
            boxes += find_text(one.pixels)
    if not boxes and declared != "yes":
        return content
    if burned_in is BurnedIn.ASK:
        raise TextInPixels(_fractions(boxes, width, height))
    if not boxes:
        raise UnreadableImage(
            "burned_in_unseen", "The file says that its pixels name the patient; none were found."
        )
    if str(dataset.PhotometricInterpretation) not in GREY:
        raise UnreadableImage("burned_in", "Letters are blacked out in grey images alone.")
    return _masked(dataset, boxes)


def _masked(dataset: pydicom.Dataset, boxes: list[TextBox]) -> bytes:
    """The boxes of all frames filled with the lowest stored value, as an uncompressed file."""
    size = int(dataset.get("NumberOfFrames") or 1) * dataset.Rows * dataset.Columns
    size = size * dataset.BitsAllocated // 8
    with (
        current_room().taken(_MASKING * size),
        discreet("truncated", "The pixels are damaged."),
    ):
        pixels = dataset.pixel_array.copy()
        for box in boxes:
            # Rows and columns are the last two axes of a grey image; colour ones never come here.
            pixels[..., box.top : box.bottom, box.left : box.right] = pixels.min()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.set_pixel_data(
            pixels,
            dataset.PhotometricInterpretation,
            dataset.BitsStored,
            generate_instance_uid=False,
        )
    dataset.BurnedInAnnotation = "NO"
    return as_file(dataset)


def _fractions(
    boxes: list[TextBox], width: int, height: int
) -> tuple[tuple[float, float, float, float], ...]:
    return tuple(
        (box.left / width, box.top / height, box.right / width, box.bottom / height)
        for box in boxes
    )


def _date(dataset: pydicom.Dataset) -> date | None:
    for name in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        try:
            return datetime.strptime(str(dataset.get(name, "")), "%Y%m%d").date()  # noqa: DTZ007
        except ValueError:
            continue
    return None
