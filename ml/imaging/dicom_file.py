"""Open DICOM files safely: every element is parsed, pixels stay as stored."""

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

_ITEMS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")  # in little and in big endian
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
_PACKED_PIECE, _PIECE = 2**16, 2**20  # bytes of input and of output per step
_MOST_INFLATED = 2**31  # larger files are never accepted, so counting stops here
_VR_NAMES = frozenset(vr.value.encode() for vr in STANDARD_VR)


def recognises(head: bytes) -> bool:
    """Whether a file is DICOM, with the standard's preamble or without it as in older files."""
    return head[128:132] == b"DICM" or _starts_with_element(head)


def parse_dicom(content: bytes, limits: Limits) -> pydicom.FileDataset:
    """Read all elements; pixel data stays as stored.

    All values are converted here, where pydicom's warnings are suppressed. Values that cannot be
    converted are dropped. The transfer syntax is always set.

    Raises:
        UnreadableImage: ``unsupported`` if it is not DICOM, ``no_pixels`` if it is a DICOMDIR,
            ``truncated`` if the file is incomplete, ``too_many_pixels`` if it exceeds the limits
            when it is opened.
    """
    dataset = read_dataset(content, limits)
    with discreet("truncated", "The DICOM file is damaged or incomplete."):
        _convert(dataset)
        _convert(dataset.file_meta)
    return dataset


def read_dataset(content: bytes, limits: Limits) -> pydicom.FileDataset:
    """As :func:`parse_dicom`, but values are converted on access.

    Access values inside :func:`ml.imaging.discretion.discreet`, which suppresses pydicom's texts.
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
    """The header of a file and the offset of its pixels; no pixel is read.

    Returns:
        None for a deflated file, whose header is compressed too.

    Raises:
        Exception: any error of pydicom about a damaged file.
    """
    _check_items(content)
    if _deflated(content) is not None:
        return None
    file = _Counted(content)
    dataset = read_partial(file, stop_when=_is_pixels, force=True, specific_tags=_OF_PIXELS)
    _name_transfer_syntax(dataset)
    return dataset, file.tell()


def inflated_size(content: bytes) -> int:
    """Inflated size of a deflated file in bytes; 0 if it is not deflated."""
    file = _deflated(content)
    if file is None:
        return 0
    inflater, size, rest = zlib.decompressobj(-zlib.MAX_WBITS), 0, file.read(_PACKED_PIECE)
    # After the end there may be one zero byte, which never counts as consumed.
    while rest and size <= _MOST_INFLATED and not inflater.eof:
        size += len(inflater.decompress(rest, _PIECE))
        rest = inflater.unconsumed_tail or file.read(_PACKED_PIECE)
    return size


def _starts_with_element(head: bytes) -> bool:
    """Whether the file starts with an element of its meta information or identification."""
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
    """A file in memory that limits the number of its elements.

    pydicom reads each element's header separately, 8 bytes at a time.
    """

    _elements = 0

    def read(self, size: int | None = -1, /) -> bytes:
        if size == 8:
            self._elements += 1
            if self._elements > _MOST_ELEMENTS:
                raise _grows()
        return super().read(size)


def _is_padding(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    """Whether the data set has ended and zero padding follows."""
    return int(tag) == 0


def _is_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag.group == _PIXEL_GROUP or int(tag) == 0


def _grows() -> UnreadableImage:
    return UnreadableImage("too_many_pixels", "The file grows too large when it is opened.")


def _check_deflation(content: bytes, limits: Limits) -> None:
    """Refuse a deflated file that grows too large; pydicom has no limit."""
    file = _deflated(content)
    if file is None:
        return
    inflated = _inflated(file, limits.max_total_bytes)
    _check_items(inflated)
    if len(inflated) // 8 > _MOST_ELEMENTS:
        pydicom.filereader.read_dataset(_Counted(inflated), False, True)


def _deflated(content: bytes) -> io.BytesIO | None:
    """The file positioned at its deflated part; None without one."""
    if DeflatedExplicitVRLittleEndian.encode() not in content:
        return None
    file = io.BytesIO(content)
    read_preamble(file, force=True)
    kind = _read_file_meta_info(file).get("TransferSyntaxUID")
    return file if kind == DeflatedExplicitVRLittleEndian else None


def _check_items(content: bytes) -> None:
    # An item's header takes 8 bytes, so a shorter file need not be counted.
    if len(content) > 8 * _MOST_ITEMS and max(map(content.count, _ITEMS)) > _MOST_ITEMS:
        raise _grows()


def _inflated(file: io.BytesIO, most: int) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(file.read(), most + 1)
    if len(inflated) > most:
        raise _grows()
    return inflated


def _check_complete(dataset: pydicom.FileDataset) -> None:
    """Refuse a file that ends in the middle of a value, which pydicom ignores."""
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
    """Set the transfer syntax in which the file was read, if the file does not name it."""
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
        except Exception:  # damaged values can make pydicom raise anything
            del dataset[tag]
            continue
        if element.VR == "SQ":
            for item in element.value or ():
                _convert(item)
