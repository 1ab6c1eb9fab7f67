"""Decode the pixels of DICOM images frame by frame."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.encaps import generate_frames
from pydicom.multival import MultiValue
from pydicom.pixels import apply_color_lut, apply_modality_lut, iter_pixels

from ml.errors import UnreadableImage
from ml.imaging.dicom import (
    GREY,
    check_frame,
    group_of,
    inspect_dicom,
    optional,
)
from ml.imaging.dicom_file import read_dataset
from ml.imaging.discretion import discreet
from ml.imaging.facts import FileFacts, FrameFacts
from ml.imaging.limits import Limits
from ml.imaging.rows import row_length
from ml.imaging.slices import Slice, Slices
from ml.imaging.values import to_uint16

Stored = npt.NDArray[Any]


def decode_dicom(content: bytes, limits: Limits) -> Slices:
    """Open a file; frames are decoded one at a time, grey to 16 bit, colour to RGB.

    Grey values go through the modality LUT or the rescale slope and intercept (PS3.3 C.11.1).
    MONOCHROME1 and its window are inverted within the range of stored values. Padding
    (PS3.3 C.7.5.1.1.2) becomes as dark as the darkest real value.

    Raises:
        UnreadableImage: as :func:`ml.imaging.dicom.inspect_dicom`; ``truncated`` for damaged
            pixels, also on access to a frame.
    """
    dataset = read_dataset(content, limits)
    return open_frames(dataset, inspect_dicom(dataset, limits))


def open_frames(dataset: pydicom.Dataset, facts: FileFacts) -> Slices:
    """The frames of :func:`decode_dicom` for an open dataset.

    Args:
        facts: the result of :func:`ml.imaging.dicom.inspect_dicom` for ``dataset``.
    """
    damaged = "The pixels of the DICOM file are damaged or incomplete."
    with discreet("truncated", damaged):
        _check_frames(dataset, facts)
        make = _grey if _is_grey(dataset) else _colour

    def frame(index: int) -> Slice:
        with discreet("truncated", damaged):
            stored = _stored(dataset, index)
            _check_rows(dataset, stored)
            return make(dataset, facts.frames[index], stored)

    return Slices(len(facts.frames), frame)


def _is_grey(dataset: pydicom.Dataset) -> bool:
    return str(dataset.PhotometricInterpretation).strip().upper() in GREY


def _check_frames(dataset: pydicom.Dataset, facts: FileFacts) -> None:
    syntax, first = dataset.file_meta.TransferSyntaxUID, facts.frames[0]
    if not syntax.is_encapsulated:
        return
    for frame in encapsulated_frames(dataset, len(facts.frames)):
        check_frame(dataset, frame, first.rows, first.columns, syntax, whole=True)


def _check_rows(dataset: pydicom.Dataset, stored: Stored) -> None:
    """Check the row length of uncompressed frames, whose size only the header tells."""
    compressed = dataset.file_meta.TransferSyntaxUID.is_encapsulated
    if not compressed and stored.ndim == 2 and row_length(stored) != stored.shape[1]:
        raise UnreadableImage("header_lies", "The rows are of another length than the header says.")


def _stored(dataset: pydicom.Dataset, index: int) -> Stored:
    """Stored values of a frame, with unused bits cleared."""
    options: dict[str, Any] = {"allow_excess_frames": False, "indices": [index]}
    # Before 2004 a value could be at any bits of its word; pydicom assumes the lowest ones.
    lowest = int(dataset.get("HighBit") or 0) + 1 - int(dataset.get("BitsStored") or 1)
    if not 0 < lowest < 16 or dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return next(iter_pixels(dataset, **options))
    frame = next(iter_pixels(dataset, correct_unused_bits=False, **options))
    above = int(dataset.BitsAllocated) - 1 - int(dataset.HighBit)
    return (frame << above) >> (above + lowest)


def _colour(dataset: pydicom.Dataset, frame: FrameFacts, stored: Stored) -> Slice:
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)[..., :3]
    if stored.shape != (frame.rows, frame.columns, 3) or stored.dtype not in (np.uint8, np.uint16):
        raise UnreadableImage("colour_capture", "Colours are stored in a way that is not read.")
    return Slice(np.ascontiguousarray(stored), index=frame.index, spacing=frame.spacing)


def _grey(dataset: pydicom.Dataset, frame: FrameFacts, stored: Stored) -> Slice:
    if stored.shape != (frame.rows, frame.columns):
        raise UnreadableImage("truncated", "The pixels do not fit the header.")
    slope, intercept, bits = _rescale(dataset, frame.index)
    inverted = str(dataset.PhotometricInterpretation).strip().upper() == "MONOCHROME1"
    values = _without_padding(dataset, stored, dark_is_high=inverted != (slope < 0))
    if "ModalityLUTSequence" in dataset:
        values = apply_modality_lut(values, dataset)
    window = _window(dataset, frame.index)
    if inverted:
        ends = -1 if values.dtype.kind == "i" else 2**bits - 1  # the lowest plus the highest
        mirror = slope * ends + 2 * intercept
        slope, intercept = -slope, mirror - intercept
        window = (mirror - window[0], window[1]) if window else None
    pixels, scale, offset = to_uint16(values, slope, intercept)
    return Slice(pixels, frame.index, frame.spacing, scale, offset, window)


def _rescale(dataset: pydicom.Dataset, index: int) -> tuple[float, float, int]:
    """Slope, intercept, and the number of bits of the values that they apply to."""
    if tables := optional(dataset, "ModalityLUTSequence"):
        return 1.0, 0.0, int(tables[0].LUTDescriptor[2])
    group = group_of(dataset, index, "PixelValueTransformationSequence")
    slope = _first(optional(group, "RescaleSlope"))
    intercept = _first(optional(group, "RescaleIntercept"))
    return slope or 1.0, intercept or 0.0, int(dataset.get("BitsStored") or 16)


def _without_padding(dataset: pydicom.Dataset, values: Stored, *, dark_is_high: bool) -> Stored:
    padding = _padding(dataset, values)
    if padding is None:
        return values
    outside = (values >= padding[0]) & (values <= padding[1])
    if not outside.any() or outside.all():
        return values
    inside = values[~outside]
    return np.where(outside, inside.max() if dark_is_high else inside.min(), values)


def _padding(dataset: pydicom.Dataset, values: Stored) -> tuple[int, int] | None:
    """Lowest and highest stored value that are padding."""
    value = optional(dataset, "PixelPaddingValue")
    if not isinstance(value, int) or values.dtype.kind not in "iu":
        return None
    limit = optional(dataset, "PixelPaddingRangeLimit")
    ends = [value, limit if isinstance(limit, int) else value]
    if values.dtype.kind == "i":
        # Many writers give a negative padding value as an unsigned number.
        top = int(np.iinfo(values.dtype).max)
        ends = [end - 2 * (top + 1) if end > top else end for end in ends]
    return min(ends), max(ends)


def _window(dataset: pydicom.Dataset, index: int) -> tuple[float, float] | None:
    """The first window; if there is only a VOI LUT, the range that it covers."""
    group = group_of(dataset, index, "FrameVOILUTSequence")
    centre = _first(optional(group, "WindowCenter"))
    width = _first(optional(group, "WindowWidth"))
    if centre is not None and width is not None and width > 0:
        return centre, width
    for table in optional(group, "VOILUTSequence") or ():
        descriptor = optional(table, "LUTDescriptor")
        if descriptor and len(descriptor) == 3:
            entries = int(descriptor[0]) or 65536
            return float(descriptor[1]) + entries / 2, float(entries)
    return None


def _first(value: Any) -> float | None:
    try:
        number = float(value[0] if isinstance(value, (list, MultiValue)) else value)
    except (TypeError, ValueError, IndexError):
        return None
    return number if math.isfinite(number) else None


def encapsulated_frames(dataset: pydicom.Dataset, count: int) -> list[bytes]:
    """The compressed frames, as many as there are.

    Raises:
        ValueError: the fragments do not form frames; pydicom may raise other errors too.
    """
    offsets = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    return list(
        generate_frames(
            dataset.PixelData,
            number_of_frames=count,
            extended_offsets=offsets if all(offsets) else None,
        )
    )
