"""Check DICOM headers and extract their facts."""

import io
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import parse_basic_offsets, parse_fragments
from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    EnhancedMRColorImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from ml.errors import UnreadableImage
from ml.imaging.codestreams import frame_size
from ml.imaging.discretion import discreet
from ml.imaging.facts import FileFacts, FrameFacts, Geometry, Vector
from ml.imaging.jpeg2000 import has_gap, is_jpeg2000
from ml.imaging.limits import Limits

MR_CLASSES = frozenset(
    {
        MRImageStorage,
        EnhancedMRImageStorage,
        EnhancedMRColorImageStorage,
        LegacyConvertedEnhancedMRImageStorage,
    }
)
CAPTURE_CLASSES = frozenset(
    {
        SecondaryCaptureImageStorage,
        MultiFrameSingleBitSecondaryCaptureImageStorage,
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        MultiFrameTrueColorSecondaryCaptureImageStorage,
    }
)
GREY = frozenset({"MONOCHROME1", "MONOCHROME2"})
COLOURS = frozenset({"RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT"})
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_FLOAT_BITS = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}

# PS3.5, 8.2.5 to 8.2.8 and 8.2.14: MPEG2, MPEG-4, HEVC, each also fragmentable, and ST 2110.
_VIDEO = re.compile(r"1\.2\.840\.10008\.1\.2\.(4\.10[0-8](\.1)?|7\.\d+)")
_RLE_AT_MOST = 64  # PS3.5 G.3: two bytes encode at most 128
_STRETCHED_AT_MOST = 50.0  # a larger ratio of a pixel's sides is an error
_FARTHEST = 1e5  # mm; positions farther from the scanner's centre are invalid
_STREAMS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")  # how frames of JPEG and JPEG 2000 start


def inspect_dicom(dataset: pydicom.Dataset, limits: Limits) -> FileFacts:
    """The facts of the header of a readable MR image.

    Accepted are images of modality MR, grey or colour, and grey captures of a screen or a film.

    Args:
        dataset: with ``file_meta`` that contains the transfer syntax.

    Raises:
        UnreadableImage: ``no_pixels``, ``not_mr``, ``colour_capture``, ``burned_in``,
            ``unsupported_transfer_syntax``, ``dicom_video``, ``too_small``, ``too_many_pixels``,
            ``too_many_slices``, ``header_lies``, ``more_frames`` or ``truncated``.
    """
    with discreet("truncated", "The DICOM header is damaged."):
        return _facts(dataset, limits)


def check_dicom(dataset: pydicom.Dataset, limits: Limits) -> None:
    """Check a header as :func:`inspect_dicom` does, without extracting facts.

    Raises:
        UnreadableImage: as :func:`inspect_dicom`.
    """
    with discreet("truncated", "The DICOM header is damaged."):
        _check(dataset, limits)


def group_of(dataset: pydicom.Dataset, index: int, name: str) -> pydicom.Dataset:
    """A functional group of a frame, or the dataset itself if it has none (PS3.3 C.7.6.16).

    Some writers put the groups into the dataset itself, one for all frames or one for each.
    """
    for sequence, at in (
        ("PerFrameFunctionalGroupsSequence", index),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        groups = optional(dataset, sequence) or []
        if at < len(groups) and (found := optional(groups[at], name)):
            item: pydicom.Dataset = found[0]
            return item
    groups = optional(dataset, name) or []
    if isinstance(groups, pydicom.Sequence) and len(groups):
        one: pydicom.Dataset = groups[index if index < len(groups) else 0]
        return one
    return dataset


def optional(dataset: pydicom.Dataset, name: str) -> Any:
    """The value of an element; None if it is missing or unreadable."""
    try:
        return dataset.get(name)
    except Exception:  # converting damaged values can raise anything
        return None


def _check(dataset: pydicom.Dataset, limits: Limits) -> None:
    meta, sop_class = _meta(dataset), _sop_class(dataset)
    _check_image(dataset, sop_class)
    _check_kind(dataset, sop_class)
    syntax = _transfer_syntax(meta)
    rows, columns, count = _shape(dataset)
    _check_size(dataset, rows, columns, count, limits)
    _check_data(dataset, rows, columns, count, syntax)


def _meta(dataset: pydicom.Dataset) -> pydicom.Dataset:
    return getattr(dataset, "file_meta", None) or FileMetaDataset()


def _sop_class(dataset: pydicom.Dataset) -> str | None:
    return _uid(dataset, "SOPClassUID") or _uid(_meta(dataset), "MediaStorageSOPClassUID")


def _shape(dataset: pydicom.Dataset) -> tuple[int, int, int]:
    """Rows, columns, frames."""
    count = max(1, int(dataset.get("NumberOfFrames") or 1))
    return int(dataset.Rows), int(dataset.Columns), count


def _facts(dataset: pydicom.Dataset, limits: Limits) -> FileFacts:
    _check(dataset, limits)
    meta, sop_class = _meta(dataset), _sop_class(dataset)
    syntax, (rows, columns, count) = _transfer_syntax(meta), _shape(dataset)
    return FileFacts(
        format="DICOM",
        frames=tuple(_frame(dataset, index, rows, columns) for index in range(count)),
        modality=_modality(dataset) or None,
        study_uid=_uid(dataset, "StudyInstanceUID"),
        series_uid=_uid(dataset, "SeriesInstanceUID"),
        sop_uid=_uid(dataset, "SOPInstanceUID") or _uid(meta, "MediaStorageSOPInstanceUID"),
        sop_class=sop_class,
        transfer_syntax=str(syntax),
        instance_number=_whole(optional(dataset, "InstanceNumber")),
        burned_in={"YES": True, "NO": False}.get(_word(dataset, "BurnedInAnnotation")),
    )


def _check_image(dataset: pydicom.Dataset, sop_class: str | None) -> None:
    if any(name in dataset for name in PIXELS) and dataset.get("Rows"):
        return
    if sop_class in MR_CLASSES and "Rows" in dataset:
        raise UnreadableImage("truncated", "The DICOM file lacks its pixels.")
    raise UnreadableImage("no_pixels", "This DICOM object holds no image.")


def _check_kind(dataset: pydicom.Dataset, sop_class: str | None) -> None:
    modality, capture = _modality(dataset), sop_class in CAPTURE_CLASSES
    mr = modality == "MR" or (not modality and sop_class in MR_CLASSES)
    if not mr and not (capture and modality in {"", "OT", "SC"}):
        raise UnreadableImage("not_mr", "This is not a magnetic resonance image.")
    interpretation, samples = _word(dataset, "PhotometricInterpretation"), _samples(dataset)
    if interpretation in GREY and samples == 1:
        return
    if capture or interpretation not in COLOURS or "PixelData" not in dataset:
        raise UnreadableImage("colour_capture", "Colour captures are not accepted as brain MRI.")
    if samples != (1 if interpretation == "PALETTE COLOR" else 3):
        raise UnreadableImage("header_lies", "The header does not say how colours are stored.")
    if _word(dataset, "BurnedInAnnotation") == "YES":
        # Text is blacked out only in grey images.
        raise UnreadableImage("burned_in", "The pixels of this colour image name the patient.")


def _transfer_syntax(meta: pydicom.Dataset) -> UID:
    uid = UID(str(meta.get("TransferSyntaxUID") or ""))
    if _VIDEO.fullmatch(uid):
        raise UnreadableImage("dicom_video", "This DICOM file holds a video.")
    try:
        known = get_decoder(uid).is_available
    except NotImplementedError:
        known = False
    if not known:
        raise UnreadableImage(
            "unsupported_transfer_syntax", "The image is compressed in a way that cannot be read."
        )
    return uid


def _check_size(
    dataset: pydicom.Dataset, rows: int, columns: int, count: int, limits: Limits
) -> None:
    if count > limits.max_slices:
        raise UnreadableImage("too_many_slices", f"At most {limits.max_slices} slices in a file.")
    size = rows * columns * count * _samples(dataset) * max(16, _bits(dataset)) // 8
    if rows * columns > limits.max_pixels or size > limits.max_total_bytes:
        raise UnreadableImage("too_many_pixels", "The image has too many pixels.")
    if min(rows, columns) < limits.min_side:
        raise UnreadableImage("too_small", f"At least {limits.min_side} pixels on each side.")


def _check_data(dataset: pydicom.Dataset, rows: int, columns: int, count: int, syntax: UID) -> None:
    """Compare the size in the header with the data before memory is allocated for it."""
    present = [name for name in PIXELS if name in dataset]
    if len(present) > 1:
        raise _lies()  # PS3.3 C.7.6.24: exactly one of them
    if not syntax.is_encapsulated:
        name = present[0]
        samples = 2 if _word(dataset, "PhotometricInterpretation") == "YBR_FULL_422" else None
        bits = rows * columns * count * (samples or _samples(dataset)) * _bits(dataset)
        held, wanted = len(dataset[name].value or b""), math.ceil(bits / 8)
        if held < wanted:
            raise _lies()
        if held >= wanted + math.ceil(bits / count / 8):
            raise _more_frames()
        return
    buffer = io.BytesIO(dataset.PixelData)
    offsets = parse_basic_offsets(buffer)
    fragments, places = parse_fragments(buffer)
    if fragments < count:
        raise _lies()
    # A frame may span several fragments, except for RLE (PS3.5 A.4.2).
    starts = fragments if syntax == RLELossless else _starts(buffer, places)
    if max(len(offsets), starts) > count:
        raise _more_frames()
    buffer.seek(places[0] + 8)
    check_frame(dataset, buffer.read(2**16), rows, columns, syntax, whole=False)


def _starts(buffer: io.BytesIO, places: list[int]) -> int:
    """The number of fragments with the signature of a frame's start."""
    started = 0
    for place in places:
        buffer.seek(place + 8)
        started += buffer.read(4).startswith(_STREAMS)
    return started


def check_frame(
    dataset: pydicom.Dataset, frame: bytes, rows: int, columns: int, syntax: UID, *, whole: bool
) -> None:
    """Compare a compressed frame's own size with the header's.

    Args:
        whole: False if ``frame`` is only its start, which may not include the size.

    Raises:
        UnreadableImage: ``header_lies``, or ``truncated`` if the frame gives no size.
    """
    if syntax == RLELossless:
        wanted = rows * columns * _samples(dataset) * _bits(dataset) // 8
        if whole and len(frame) * _RLE_AT_MOST < wanted:
            raise _lies()
        return
    size = frame_size(frame)
    if whole and (size is None or (is_jpeg2000(frame) and has_gap(frame))):
        raise UnreadableImage("truncated", "The pixels of the DICOM file are damaged.")
    if size is None:
        return
    if (size.rows, size.columns, size.samples) != (rows, columns, _samples(dataset)):
        raise _lies()


def _lies() -> UnreadableImage:
    return UnreadableImage("header_lies", "The header promises other pixels than the file holds.")


def _more_frames() -> UnreadableImage:
    return UnreadableImage("more_frames", "The file holds more frames than its header says.")


def _frame(dataset: pydicom.Dataset, index: int, rows: int, columns: int) -> FrameFacts:
    measures = group_of(dataset, index, "PixelMeasuresSequence")
    orientation = group_of(dataset, index, "PlaneOrientationSequence")
    place = _place(dataset, index)
    geometry = _geometry(place, numbers(optional(orientation, "ImageOrientationPatient"), 6))
    spacing = _spacing(measures)
    shape = None if spacing else _aspect(dataset)
    return FrameFacts(
        index=index,
        rows=rows,
        columns=columns,
        spacing=spacing or shape,
        measured=shape is None,
        geometry=geometry,
        location=None if geometry else place or _location(dataset),
        contrast=_contrast(dataset, index),
    )


def _place(dataset: pydicom.Dataset, index: int) -> Vector | None:
    """The position of a frame; None if it is implausibly far from the scanner."""
    group = group_of(dataset, index, "PlanePositionSequence")
    position = numbers(optional(group, "ImagePositionPatient"), 3)
    return _vector(position) if position and max(map(abs, position)) < _FARTHEST else None


def _location(dataset: pydicom.Dataset) -> float | None:
    """The scanner's slice location (PS3.3 C.7.6.2.1.2)."""
    found = numbers([optional(dataset, "SliceLocation")], 1)
    return found[0] if found and abs(found[0]) < _FARTHEST else None


def _aspect(dataset: pydicom.Dataset) -> tuple[float, float] | None:
    """The pixel's aspect ratio, height to width (PS3.3 C.7.6.3.1.7); None for square pixels."""
    found = numbers(optional(dataset, "PixelAspectRatio"), 2)
    if not found or min(found) <= 0 or found[0] == found[1]:
        return None
    stretched = max(found) / min(found)
    return (
        (found[0] / min(found), found[1] / min(found)) if stretched <= _STRETCHED_AT_MOST else None
    )


def _spacing(measures: pydicom.Dataset) -> tuple[float, float] | None:
    for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        found = numbers(optional(measures, name), 2)
        if found and all(0 < number < 1000 for number in found):
            row, column = found
            stretched = max(row, column) / min(row, column)
            return (row, column) if stretched <= _STRETCHED_AT_MOST else None
    return None


def _geometry(place: Sequence[float] | None, directions: Sequence[float] | None) -> Geometry | None:
    if not place or not directions:
        return None
    row, column = np.array(directions[:3]), np.array(directions[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not all(0.9 < length < 1.1 for length in lengths) or abs(row @ column) > 0.05:
        return None
    return Geometry(_vector(place), _vector(row / lengths[0]), _vector(column / lengths[1]))


def _vector(three: Any) -> Vector:
    return float(three[0]), float(three[1]), float(three[2])


def _contrast(dataset: pydicom.Dataset, index: int) -> tuple[str, ...]:
    """Contrast attributes of classic and of enhanced images; a missing one is empty."""
    content = group_of(dataset, index, "FrameContentSequence")
    echo = group_of(dataset, index, "MREchoSequence")
    diffusion = group_of(dataset, index, "MRDiffusionSequence")
    kind = group_of(dataset, index, "MRImageFrameTypeSequence")
    types = optional(kind, "FrameType") or optional(dataset, "ImageType") or ()
    marks = (
        optional(dataset, "EchoNumbers"),
        optional(echo, "EffectiveEchoTime"),
        optional(diffusion, "DiffusionBValue"),
        optional(dataset, "TemporalPositionIdentifier"),
        optional(content, "TemporalPositionIndex"),
        optional(content, "StackID"),
    )
    parts = [] if isinstance(types, str) else [str(part) for part in types[2:4]]
    return ("/".join(parts), *("" if mark is None else str(mark) for mark in marks))


def numbers(value: Any, count: int) -> list[float] | None:
    """``count`` finite numbers, or None."""
    try:
        found = [float(one) for one in value]
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def _samples(dataset: pydicom.Dataset) -> int:
    return int(dataset.get("SamplesPerPixel") or 1)


def _bits(dataset: pydicom.Dataset) -> int:
    """Bits of one stored sample."""
    for name, bits in _FLOAT_BITS.items():
        if name in dataset and "PixelData" not in dataset:
            return bits
    return max(1, int(dataset.get("BitsAllocated") or 16))


def _modality(dataset: pydicom.Dataset) -> str:
    return _word(dataset, "Modality")


def _word(dataset: pydicom.Dataset, name: str) -> str:
    return str(optional(dataset, name) or "").strip().upper()


def _whole(value: Any) -> int | None:
    """An integer string (PS3.5 6.2: 32 bits); None for anything else."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if -(2**31) <= number < 2**31 else None


def _uid(dataset: pydicom.Dataset, name: str) -> str | None:
    return str(optional(dataset, name) or "").strip().strip("\0") or None
