"""DICOM files opened safely: every element parsed, pixels left as they are stored."""

import io
import zlib

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.filereader import _read_file_meta_info, read_partial, read_preamble
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)
from pydicom.valuerep import STANDARD_VR

from ml.errors import UnreadableImage
from ml.imaging.discretion import discreet
from ml.imaging.limits import Limits

_ITEMS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")  # as little and as big endian write it
_MOST_ITEMS = 200_000  # each becomes an object of a kilobyte; 2000 enhanced frames need 30,000
_MOST_ELEMENTS = 500_000  # outside of sequences of known length
_MOST_SEQUENCE_BYTES = 16 * 2**20  # inside of them; 2000 enhanced frames need 6 MB
_PIXEL_GROUP = 0x7FE0
_OF_PIXELS: list[BaseTag | int] = [
    Tag(name)
    for name in (
        "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "BitsStored",
    )
]  # fmt: skip
_PACKED_PIECE, _PIECE = 2**16, 2**20  # bytes that are inflated at once, and made at once
_MOST_INFLATED = 2**31  # more is never accepted, and need not be counted
_VR_NAMES = frozenset(vr.value.encode() for vr in STANDARD_VR)


def recognises(head: bytes) -> bool:
    """Whether a file is DICOM, with the standard's preamble or, as older ones, without."""
    return head[128:132] == b"DICM" or _starts_with_element(head)


def parse_dicom(content: bytes, limits: Limits) -> pydicom.FileDataset:
    """Read all elements; pixel data stays as it is stored.

    Every value is converted here, where nothing that pydicom has to say about it is heard. What
    cannot be converted is left out. The transfer syntax is always named.

    Raises:
        UnreadableImage: ``unsupported`` where it is not DICOM, ``no_pixels`` where it is the
            directory of a disc, ``truncated`` where it is no complete file, ``too_many_pixels``
            where it grows beyond the limits when it is opened.
    """
    dataset = read_dataset(content, limits)
    with discreet("truncated", "The DICOM file is damaged or incomplete."):
        _convert(dataset)
        _convert(dataset.file_meta)
    return dataset


def read_dataset(content: bytes, limits: Limits) -> pydicom.FileDataset:
    """As :func:`parse_dicom`, with values converted when they are asked for.

    What pydicom says then is to be kept in by :func:`ml.imaging.discretion.discreet`.
    """
    if not recognises(content[:132]):
        raise UnreadableImage("unsupported", "This is not a DICOM file.")
    with discreet("truncated", "The DICOM file is damaged or incomplete."):
        _check_items(content)
        _check_deflation(content, limits)
        dataset = read_partial(_Counted(content), stop_when=_is_padding, force=True)
        if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            raise UnreadableImage("no_pixels", "This is a directory of DICOM files.")
        _check_complete(dataset)
        _name_transfer_syntax(dataset)
        return dataset


def read_header(content: bytes) -> tuple[pydicom.FileDataset, int] | None:
    """What a file says of the size of its pixels, and where they begin; no pixel is read.

    Returns:
        None for a deflated file, whose header lies inside.

    Raises:
        Exception: whatever pydicom raises where the file is damaged.
    """
    _check_items(content)
    if _deflated(content) is not None:
        return None
    file = _Counted(content)
    dataset = read_partial(file, stop_when=_is_pixels, force=True, specific_tags=_OF_PIXELS)
    _name_transfer_syntax(dataset)
    return dataset, file.tell()


def inflated_size(content: bytes) -> int:
    """Bytes of what a deflated file holds, counted piece by piece; 0 where it is not deflated."""
    file = _deflated(content)
    if file is None:
        return 0
    inflater, size, rest = zlib.decompressobj(-zlib.MAX_WBITS), 0, file.read(_PACKED_PIECE)
    # Behind the end there may be a zero more, which never counts as consumed.
    while rest and size <= _MOST_INFLATED and not inflater.eof:
        size += len(inflater.decompress(rest, _PIECE))
        rest = inflater.unconsumed_tail or file.read(_PACKED_PIECE)
    return size


def _starts_with_element(head: bytes) -> bool:
    """Whether there is an element of the file's meta information or identification at once."""
    if len(head) < 8:
        return False
    for order in ("little", "big"):
        group = int.from_bytes(head[:2], order)
        element = int.from_bytes(head[2:4], order)
        if group in {0x0002, 0x0008} and element <= 0x0070:
            if head[4:6] in _VR_NAMES:
                return True
            if order == "little" and int.from_bytes(head[4:8], "little") <= 64:
                return True
    return False


class _Counted(io.BytesIO):
    """A file in memory that cannot be made of too many tiny elements.

    pydicom reads the head of each element by itself, 8 bytes at a time.
    """

    _elements = 0

    def read(self, size: int | None = -1, /) -> bytes:
        if size == 8:
            self._elements += 1
            if self._elements > _MOST_ELEMENTS:
                raise _grows()
        return super().read(size)


def _is_padding(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    """Whether the data set has ended, and zeros fill the file up to a block."""
    return int(tag) == 0


def _is_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag.group == _PIXEL_GROUP or int(tag) == 0


def _grows() -> UnreadableImage:
    return UnreadableImage("too_many_pixels", "The file grows too large when it is opened.")


def _check_deflation(content: bytes, limits: Limits) -> None:
    """A deflated file can grow a thousandfold; pydicom would not stop it."""
    file = _deflated(content)
    if file is None:
        return
    inflated = _inflated(file, limits.max_total_bytes)
    _check_items(inflated)
    if len(inflated) // 8 > _MOST_ELEMENTS:
        pydicom.filereader.read_dataset(_Counted(inflated), False, True)


def _deflated(content: bytes) -> io.BytesIO | None:
    """The file, standing at its deflated part; None where it has none."""
    if DeflatedExplicitVRLittleEndian.encode() not in content:
        return None
    file = io.BytesIO(content)
    read_preamble(file, force=True)
    kind = _read_file_meta_info(file).get("TransferSyntaxUID")
    return file if kind == DeflatedExplicitVRLittleEndian else None


def _check_items(content: bytes) -> None:
    # The head of an item takes 8 bytes; counting in a file too short for so many takes time.
    if len(content) > 8 * _MOST_ITEMS and max(map(content.count, _ITEMS)) > _MOST_ITEMS:
        raise _grows()


def _inflated(file: io.BytesIO, most: int) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(file.read(), most + 1)
    if len(inflated) > most:
        raise _grows()
    return inflated


def _check_complete(dataset: pydicom.FileDataset) -> None:
    """pydicom passes over the end of a file in the middle of a value."""
    if not len(dataset):
        raise UnreadableImage("truncated", "The DICOM file is damaged or incomplete.")
    nested = 0
    for element in dataset.elements():
        if not isinstance(element, RawDataElement) or element.length == 0xFFFFFFFF:
            continue
        if len(element.value or b"") < element.length:
            raise UnreadableImage("truncated", "The DICOM file ends too early.")
        if (element.value or b"")[:4] in _ITEMS:
            nested += element.length
    if nested > _MOST_SEQUENCE_BYTES:
        raise _grows()


def _name_transfer_syntax(dataset: pydicom.FileDataset) -> None:
    """Where the file does not name its transfer syntax, say in which one it was read."""
    if dataset.file_meta.get("TransferSyntaxUID"):
        return
    implicit, little = dataset.original_encoding
    if implicit:
        uid = ImplicitVRLittleEndian
    else:
        uid = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = uid


def _convert(dataset: pydicom.Dataset) -> None:
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
        except Exception:  # whatever a damaged value makes pydicom raise
            del dataset[tag]
            continue
        if element.VR == "SQ":
            for item in element.value or ():
                _convert(item)
