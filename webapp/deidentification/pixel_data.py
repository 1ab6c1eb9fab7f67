"""Rebuild Pixel Data so that it contains only the picture described by the header.

A name can be in the comment of a compressed frame, after the pixels, in unused bits, or in surplus
entries of a table. So nothing is copied: frames are rebuilt from their parts, and values from the
bits that belong to them. Data that cannot be parsed to the end are refused.
"""

import copy
import io
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataelem import DataElement
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import iter_pixels
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from ml.errors import UnreadableImage
from ml.imaging.bare_frames import bare_frame, bare_rle
from ml.imaging.codestreams import frame_size
from ml.imaging.dicom import PIXELS, check_frame, optional
from ml.imaging.jpeg2000 import is_jpeg2000
from ml.imaging.lookup_tables import trim_palette, trim_table
from ml.imaging.scan_ends import Decode, ended_with_picture

_LARGEST = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
_TABLES = ("ModalityLUTSequence", "VOILUTSequence")
_PIECE = 2**22  # values processed at once
_OFFSETS = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")


def keep_only_pixels(dataset: pydicom.Dataset) -> None:
    """Rewrite pixels and lookup tables of ``dataset`` without anything but the picture.

    The transfer syntax stays, except for compressed values that use unused bits: these are written
    uncompressed.

    Args:
        dataset: with ``file_meta``; changed in place. Without pixels it stays as it is.

    Raises:
        UnreadableImage: ``truncated`` if the pixels are damaged, ``header_lies`` if they do not
            match the header, ``more_frames`` if there are more.
    """
    names = [name for name in PIXELS if name in dataset]
    little = dataset.file_meta.TransferSyntaxUID.is_little_endian
    _trim_tables(dataset, little=little)
    if not names:
        return
    if len(names) > 1:
        raise _lies()
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        _rebuild(dataset)
    else:
        _cut(dataset, names[0], little=little)
    for name in _OFFSETS:
        if name in dataset:
            del dataset[name]


def _trim_tables(dataset: pydicom.Dataset, *, little: bool) -> None:
    trim_palette(dataset, little=little)
    for level in _levels(dataset):
        for name in _TABLES:
            for item in optional(level, name) or ():
                if "LUTData" in item:
                    trim_table(item, little=little)


def _levels(dataset: pydicom.Dataset) -> list[pydicom.Dataset]:
    """The dataset and all its nested items."""
    found = [dataset]
    for level in found:
        for element in level:
            if element.VR == "SQ":
                found += element.value
    return found


def _number(dataset: pydicom.Dataset, name: str, missing: int | None = None) -> int:
    value = dataset.get(name)
    if value is None or value == "":
        if missing is None:
            raise _lies()
        return missing
    return int(value)


def _size(dataset: pydicom.Dataset) -> tuple[int, int, int, int]:
    """(rows, columns, frames, samples)."""
    size = (
        _number(dataset, "Rows"),
        _number(dataset, "Columns"),
        _number(dataset, "NumberOfFrames", 1) or 1,
        _number(dataset, "SamplesPerPixel", 1) or 1,
    )
    if min(size) < 1:
        raise _lies()
    return size


def _field(dataset: pydicom.Dataset, allocated: int) -> tuple[int, int]:
    """(number of bits, lowest bit) of a stored value."""
    stored = _number(dataset, "BitsStored")
    lowest = _number(dataset, "HighBit", stored - 1) + 1 - stored
    if not 0 < lowest < 16:  # decoders ignore such a HighBit
        lowest = 0
    if not 1 <= stored <= allocated - lowest:
        raise _lies()
    return stored, lowest


def _is_signed(dataset: pydicom.Dataset) -> bool:
    return _number(dataset, "PixelRepresentation", 0) == 1


# --- uncompressed ---------------------------------------------------------------------------


def _cut(dataset: pydicom.Dataset, name: str, *, little: bool) -> None:
    rows, columns, count, samples = _size(dataset)
    element = dataset[name]
    if element.is_undefined_length:
        raise _lies()  # fragments although the transfer syntax is not encapsulated
    allocated = _LARGEST.get(name) or _number(dataset, "BitsAllocated")
    if allocated not in {1, 8, 16, 32, 64}:
        raise _lies()
    if samples == 3 and str(dataset.get("PhotometricInterpretation")).strip() == "YBR_FULL_422":
        samples = 2
    bits = rows * columns * count * samples * allocated
    wanted = math.ceil(bits / 8)
    raw = bytes(element.value or b"")
    if len(raw) < wanted:
        raise _lies()
    if len(raw) >= wanted + math.ceil(bits / count / 8) + wanted % 2:
        raise UnreadableImage("more_frames", "The file holds more frames than its header says.")
    # Bytes in OW words (PS3.5 8.1.2) are swapped in big endian.
    swapped = not little and allocated <= 8 and element.VR == "OW"
    kept = _exactly(raw, wanted, swapped=swapped)
    if name != "PixelData":
        kept = _plain_floats(kept, f"{'<' if little else '>'}f{allocated // 8}")
    elif allocated == 1:
        kept = _without_last_bits(kept, bits)
    else:
        kept = _without_unused_bits(dataset, kept, allocated, little=little)
    kept += bytes(len(kept) % 2)
    if swapped:
        kept = _swapped(kept)
    dataset[name] = DataElement(element.tag, element.VR, kept)


def _exactly(raw: bytes, wanted: int, *, swapped: bool) -> bytes:
    if not swapped:
        return raw[:wanted]
    even = wanted + wanted % 2
    if len(raw) < even:
        raise _lies()
    return _swapped(raw[:even])[:wanted]


def _swapped(raw: bytes) -> bytes:
    return np.frombuffer(raw, ">u2").astype("<u2").tobytes()


def _plain_floats(raw: bytes, dtype: str) -> bytes:
    """Replace every NaN by the same one: the payload of a NaN could hold data."""
    values = np.frombuffer(raw, dtype)
    nowhere = np.isnan(values)
    return np.where(nowhere, np.nan, values).astype(dtype).tobytes() if nowhere.any() else raw


def _without_last_bits(raw: bytes, bits: int) -> bytes:
    """Clear the unused bits of the last byte; one-bit pixels fill bytes from the lowest bit."""
    left = bits % 8
    return raw[:-1] + bytes((raw[-1] & (1 << left) - 1,)) if left else raw


def _without_unused_bits(
    dataset: pydicom.Dataset, raw: bytes, allocated: int, *, little: bool
) -> bytes:
    stored, lowest = _field(dataset, allocated)
    if stored == allocated:
        return raw
    order = "<" if little else ">"
    values = np.frombuffer(raw, f"{order}u{allocated // 8}")
    pieces = [values[start : start + _PIECE] for start in range(0, len(values), _PIECE)]
    signed = _is_signed(dataset)
    if all(np.array_equal(one, _cleared(one, stored, lowest, signed=signed)) for one in pieces):
        return raw
    kept = io.BytesIO()
    for one in pieces:
        kept.write(_cleared(one, stored, lowest, signed=signed).tobytes())
    return kept.getvalue()


def _cleared(
    values: npt.NDArray[np.unsignedinteger], stored: int, lowest: int, *, signed: bool
) -> npt.NDArray[np.generic]:
    """Clear the bits outside of the value; above it repeat the sign if it is signed."""
    field = (2**stored - 1) << lowest
    kept = values & values.dtype.type(field)
    if signed:
        above = values.dtype.type((1 << 8 * values.dtype.itemsize) - (1 << (stored + lowest)))
        negative = (kept & values.dtype.type(1 << (stored + lowest - 1))) != 0
        kept = np.where(negative, kept | above, kept)
    return kept.astype(values.dtype)


# --- compressed -----------------------------------------------------------------------------


def _rebuild(dataset: pydicom.Dataset) -> None:
    rows, columns, count, samples = _size(dataset)
    _field(dataset, _number(dataset, "BitsAllocated"))
    syntax = dataset.file_meta.TransferSyntaxUID
    frames = _frames(dataset, count)
    bare = []
    decode = _decoder(dataset)
    for frame in frames:
        if syntax == RLELossless:
            planes = samples * _number(dataset, "BitsAllocated") // 8
            bare.append(bare_rle(frame, planes, rows * columns))
        else:
            bare.append(bare_frame(frame))
            check_frame(dataset, bare[-1], rows, columns, syntax, whole=True)
            if not is_jpeg2000(bare[-1]):
                bare[-1] = ended_with_picture(bare[-1], decode)
    dataset.PixelData = encapsulate(bare, has_bot=True)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    if _has_spare_bits(dataset, bare):
        _write_out_if_used(dataset)


def _frames(dataset: pydicom.Dataset, count: int) -> list[bytes]:
    offsets = tuple(dataset.get(name) for name in _OFFSETS)
    frames = list(
        generate_frames(
            dataset.PixelData,
            number_of_frames=count,
            extended_offsets=offsets if all(offsets) else None,
        )
    )
    if len(frames) > count:
        raise UnreadableImage("more_frames", "The file holds more frames than its header says.")
    if len(frames) < count:
        raise _lies()
    return frames


def _decoder(dataset: pydicom.Dataset) -> Decode:
    """A function that decodes one frame as the header of ``dataset`` describes it."""
    one = copy.deepcopy(dataset.group_dataset(0x0028))
    one.NumberOfFrames = 1
    one.file_meta = dataset.file_meta

    def decode(frame: bytes) -> npt.NDArray[np.generic]:
        one.PixelData = encapsulate([frame])
        one["PixelData"].VR = "OB"
        return next(iter_pixels(one, raw=True, correct_unused_bits=False)).copy()

    return decode


def _has_spare_bits(dataset: pydicom.Dataset, frames: list[bytes]) -> bool:
    """Whether the streams have more bits per sample than BitsStored."""
    stored = _number(dataset, "BitsStored")
    if dataset.file_meta.TransferSyntaxUID == RLELossless:
        return stored < _number(dataset, "BitsAllocated")
    sizes = [frame_size(frame) for frame in frames]
    return any(size is None or size.bits > stored for size in sizes)


def _write_out_if_used(dataset: pydicom.Dataset) -> None:
    """Store the values uncompressed if unused bits are set."""
    stored, signed = _number(dataset, "BitsStored"), _is_signed(dataset)
    # Decoders place compressed values in the lowest bits, whatever HighBit says.
    as_signed = as_plain = True
    for frame in _raw_frames(dataset):
        as_signed &= np.array_equal(frame, _cleared(frame, stored, 0, signed=signed))
        as_plain &= np.array_equal(frame, _cleared(frame, stored, 0, signed=False))
        if not as_signed and not as_plain:
            break
    else:
        return
    if _number(dataset, "SamplesPerPixel", 1) != 1:
        raise _lies()
    written, width = io.BytesIO(), 1
    for frame in _raw_frames(dataset):
        width = frame.dtype.itemsize
        written.write(_cleared(frame, stored, 0, signed=signed).tobytes())
    written.write(bytes(written.tell() % 2))
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.BitsAllocated, dataset.HighBit = 8 * width, stored - 1
    vr = "OB" if dataset.BitsAllocated == 8 else "OW"
    element = DataElement(0x7FE00010, vr, written.getvalue())
    element.is_undefined_length = False
    dataset["PixelData"] = element


def _raw_frames(dataset: pydicom.Dataset) -> Iterator[npt.NDArray[np.unsignedinteger]]:
    """Decoded values, one frame at a time, without pydicom's bit masking or colour conversion."""
    for frame in iter_pixels(dataset, raw=True, correct_unused_bits=False):
        yield frame.view(f"u{frame.dtype.itemsize}")


def _lies() -> UnreadableImage:
    return UnreadableImage("header_lies", "The header promises other pixels than the file holds.")
