"""Estimate from the header how much memory a file takes beside its own bytes.

The factors were measured (``benchmarks/decoding_memory.py``) and rounded up. For unreadable files
the estimate is rough; the decoder reports what is wrong.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pydicom
from pydicom.uid import UID, RLELossless

from ml.imaging import dicom_file, nifti
from ml.imaging.discretion import hushed
from ml.imaging.pictures import has_16_bit_colour, opened
from ml.imaging.rows import MOST_VALUES, VALUE_BYTES
from ml.imaging.unpacking import GZIP, PIECE

_UNKNOWN = 2  # times the file size, for files that are no image
# Bytes per pixel: four channels decoded, three stored, three more during encoding.
_PICTURE_PIXEL, DEEP_PIXEL = 12, 22
# Each item and element of a header becomes an object.
_HEADER_FACTOR, _LARGEST_HEADER = 64, 256 * 2**20
# Bytes per sample of one frame while it is decoded, mapped to 16 bit and encoded.
_NATIVE_SAMPLE, _RLE_SAMPLE, _CODED_SAMPLE = 12, 16, 24
_COPIES = 5  # of compressed frames: parsed, split, rebuilt, joined, written
_DEFLATED = 5  # copies of the inflated data
_STRIPPED = 8  # maximum growth of a volume that is recompressed less well


@dataclass(frozen=True)
class Footprint:
    """Memory in bytes beside the file's own.

    Attributes:
        checking: to check the file, remove identifiers and write the stored file.
        reading: to open the stored file and read its slices one by one.
    """

    checking: int
    reading: int


def of_picture(content: bytes) -> Footprint:
    """Footprint of a picture; for a TIFF, of its first page."""
    found = of_unknown(content)
    with _whatever_is_wrong(), opened(content) as image:
        width, height = image.size
        deep = image.format in {"TIFF", "HEIF"} or has_16_bit_colour(content)
        pixel = DEEP_PIXEL if deep else _PICTURE_PIXEL
        size = len(content) + width * height * pixel
        found = Footprint(size, size)
    return found


def of_nifti(content: bytes) -> Footprint:
    """Footprint of a NIfTI volume: checking copies its voxels compressed, reading unpacks them."""
    return _of_voxels(content, lambda: nifti.sizes(content), packed=content.startswith(GZIP))


def of_volume(content: bytes, open_volume: Callable[[], nifti.Volume]) -> Footprint:
    """Footprint of a volume in another format that is stored as NIfTI."""
    return _of_voxels(content, lambda: nifti.sizes_of(open_volume()), packed=True)


def _of_voxels(content: bytes, sizes: Callable[[], tuple[int, int]], *, packed: bool) -> Footprint:
    size = slice_size = 0
    with _whatever_is_wrong():
        size, slice_size = sizes()
    kept = min(size, _STRIPPED * len(content)) if packed else size
    return Footprint(
        checking=kept + kept // 8 + 4 * PIECE,
        reading=(size if packed else 0) + 8 * slice_size,
    )


def of_dicom(content: bytes) -> Footprint:
    """Footprint of a DICOM file, by its transfer syntax."""
    found = of_unknown(content)
    with _whatever_is_wrong():
        header = dicom_file.read_header(content)
        if header is None:
            size = _DEFLATED * dicom_file.inflated_size(content)
            found = Footprint(size, size)
        else:
            found = _of_pixels(*header, len(content))
    return found


def unpacked_dicom(content: bytes) -> int:
    """Bytes beside a DICOM file's own to decompress all its frames at once."""
    size = 0
    with _whatever_is_wrong():
        header = dicom_file.read_header(content)
        if header is None:
            return _DEFLATED * dicom_file.inflated_size(content)
        size = _decoded(header[0])
    # The parsed file, an array of all frames, and its bytes.
    return 2 * len(content) + 2 * size + size // 8


def of_unknown(content: bytes) -> Footprint:
    """Footprint of any other file."""
    return Footprint(_UNKNOWN * len(content), _UNKNOWN * len(content))


def _of_pixels(header: pydicom.Dataset, start: int, size: int) -> Footprint:
    """Footprint of a DICOM file of ``size`` bytes whose pixels begin at ``start``."""
    elements = min(_HEADER_FACTOR * start, _LARGEST_HEADER)
    pixels = int(header.Rows) * int(header.Columns)
    samples = pixels * int(header.get("SamplesPerPixel") or 1)
    allocated = int(header.get("BitsAllocated") or 16)
    syntax = UID(header.file_meta.TransferSyntaxUID)
    if not syntax.is_encapsulated:
        frame = samples * max(_NATIVE_SAMPLE, allocated // 4)
        frame += min(pixels, MOST_VALUES) * VALUE_BYTES
        # The parsed pixels and those of the stored file.
        return Footprint(elements + 2 * size + frame, elements + size + frame)
    frame = samples * (_RLE_SAMPLE if syntax == RLELossless else _CODED_SAMPLE)
    checking = _COPIES * size
    if int(header.get("BitsStored") or allocated) < allocated:
        # The file is stored uncompressed if unused bits are set.
        written = _decoded(header)
        checking = max(checking, size + 2 * written + written // 8)
    return Footprint(elements + checking + frame, elements + 2 * size + frame)


def _decoded(header: pydicom.Dataset) -> int:
    """Bytes of all uncompressed frames."""
    frame = int(header.Rows) * int(header.Columns) * int(header.get("SamplesPerPixel") or 1)
    count = max(1, int(header.get("NumberOfFrames") or 1))
    return frame * count * int(header.get("BitsAllocated") or 16) // 8


@contextmanager
def _whatever_is_wrong() -> Iterator[None]:
    """Ignore any error of a damaged header; reading the whole file reports it."""
    with hushed(), contextlib.suppress(Exception):
        yield
