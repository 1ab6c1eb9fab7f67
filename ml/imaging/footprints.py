"""How much memory a file takes beside its own bytes, told from its header: nothing is decoded.

The factors were measured (``benchmarks/decoding_memory.py``) and rounded up. Of what cannot be
read they say little: whoever decodes it says what is wrong.
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

_UNKNOWN = 2  # times the size of what is no image
# Bytes of a pixel: four channels as decoded, three to be kept, and three more as it is encoded.
_PICTURE_PIXEL, DEEP_PIXEL = 12, 22
# Each item and element of a header becomes an object.
_HEADER_FACTOR, _LARGEST_HEADER = 64, 256 * 2**20
# Bytes of a sample of one frame, while that is decoded, mapped to 16 bit and encoded.
_NATIVE_SAMPLE, _RLE_SAMPLE, _CODED_SAMPLE = 12, 16, 24
_COPIES = 5  # of compressed frames: parsed, taken apart, rebuilt, put together, written
_DEFLATED = 5  # copies of what was deflated
_STRIPPED = 8  # times that a volume grows at most when it is compressed less well


@dataclass(frozen=True)
class Footprint:
    """Bytes beside the file's own.

    Attributes:
        checking: to judge it, take out what names a patient, and make the file that is kept.
        reading: to open the kept file and take one slice of it after the other.
    """

    checking: int
    reading: int


def of_picture(content: bytes) -> Footprint:
    """Of a picture; of a TIFF, of its first page."""
    found = of_unknown(content)
    with _whatever_is_wrong(), opened(content) as image:
        width, height = image.size
        deep = image.format in {"TIFF", "HEIF"} or has_16_bit_colour(content)
        pixel = DEEP_PIXEL if deep else _PICTURE_PIXEL
        size = len(content) + width * height * pixel
        found = Footprint(size, size)
    return found


def of_nifti(content: bytes) -> Footprint:
    """Of a NIfTI volume: checking copies its voxels compressed, reading unpacks them."""
    return _of_voxels(content, lambda: nifti.sizes(content), packed=content.startswith(GZIP))


def of_volume(content: bytes, open_volume: Callable[[], nifti.Volume]) -> Footprint:
    """Of a volume that is kept as NIfTI."""
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
    """Of a DICOM file, by its transfer syntax."""
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
    """Bytes beside a DICOM file's own that all of its frames take uncompressed, put together."""
    size = 0
    with _whatever_is_wrong():
        header = dicom_file.read_header(content)
        if header is None:
            return _DEFLATED * dicom_file.inflated_size(content)
        size = _decoded(header[0])
    # As parsed; an array of all frames, and its bytes.
    return 2 * len(content) + 2 * size + size // 8


def of_unknown(content: bytes) -> Footprint:
    """Of anything else."""
    return Footprint(_UNKNOWN * len(content), _UNKNOWN * len(content))


def _of_pixels(header: pydicom.Dataset, start: int, size: int) -> Footprint:
    """Of a file of ``size`` bytes whose pixels begin at ``start``."""
    elements = min(_HEADER_FACTOR * start, _LARGEST_HEADER)
    pixels = int(header.Rows) * int(header.Columns)
    samples = pixels * int(header.get("SamplesPerPixel") or 1)
    allocated = int(header.get("BitsAllocated") or 16)
    syntax = UID(header.file_meta.TransferSyntaxUID)
    if not syntax.is_encapsulated:
        frame = samples * max(_NATIVE_SAMPLE, allocated // 4)
        frame += min(pixels, MOST_VALUES) * VALUE_BYTES
        # The pixels as parsed, and those of the file that is kept.
        return Footprint(elements + 2 * size + frame, elements + size + frame)
    frame = samples * (_RLE_SAMPLE if syntax == RLELossless else _CODED_SAMPLE)
    checking = _COPIES * size
    if int(header.get("BitsStored") or allocated) < allocated:
        # Written uncompressed where bits are used that belong to no value.
        written = _decoded(header)
        checking = max(checking, size + 2 * written + written // 8)
    return Footprint(elements + checking + frame, elements + 2 * size + frame)


def _decoded(header: pydicom.Dataset) -> int:
    """Bytes of all frames uncompressed."""
    frame = int(header.Rows) * int(header.Columns) * int(header.get("SamplesPerPixel") or 1)
    count = max(1, int(header.get("NumberOfFrames") or 1))
    return frame * count * int(header.get("BitsAllocated") or 16) // 8


@contextmanager
def _whatever_is_wrong() -> Iterator[None]:
    """Headers can be damaged in any way; reading the whole file tells which it is."""
    with hushed(), contextlib.suppress(Exception):
        yield
