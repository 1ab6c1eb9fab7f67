"""NRRD volumes (.nrrd), which are read and stored as NIfTI.

https://teem.sourceforge.net/nrrd/format.html. The library is only used to parse the needed fields:
it would open any file that a header names, and unpack values without a limit.
"""

from collections.abc import Iterator
from typing import Any

import nrrd
import numpy as np
import numpy.typing as npt

from ml.errors import UnreadableImage
from ml.imaging.discretion import discreet
from ml.imaging.limits import Limits
from ml.imaging.nifti import Volume, volume_of
from ml.imaging.unpacking import PIECE, pieces

_MAGIC = b"NRRD000"
_LONGEST_HEADER = 2**20  # bytes, including comments
_LONGEST_FIELD = 2**12
_MOST_SKIPPED = 2**26  # bytes after unpacking
_LONGEST_NUMBER = 64  # characters
_FIELDS = {
    "dimension", "type", "encoding", "sizes", "endian", "kinds", "line skip", "byte skip",
    "space", "space dimension", "space directions", "space origin", "space units",
}  # fmt: skip
_ALSO = {"lineskip": "line skip", "byteskip": "byte skip", "datafile": "data file"}
# From the axes of each space to axes that point to right, front and head.
_SPACES = {
    "right-anterior-superior": (1, 1, 1), "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1), "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1), "lps": (-1, -1, 1),
}  # fmt: skip
_MILLIMETRES = {"m": 1000.0, "cm": 10.0, "um": 0.001}  # all others count as millimetres
_COLOURS = {"rgb-color", "rgba-color", "hsv-color", "xyz-color", "3-color", "4-color"}
_TYPES = {
    name: dtype
    for dtype, names in {
        "i1": "signed char, int8, int8_t",
        "u1": "uchar, unsigned char, uint8, uint8_t",
        "i2": "short, short int, signed short, signed short int, int16, int16_t",
        "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
        "i4": "int, signed int, int32, int32_t",
        "u4": "uint, unsigned int, uint32, uint32_t",
        "i8": "longlong, long long, long long int, signed long long, signed long long int, "
        "int64, int64_t",
        "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
        "f4": "float",
        "f8": "double",
    }.items()
    for name in names.split(", ")
}
_ENDIAN = {"big": ">", "little": "<"}
_TEXT = {"ascii", "text", "txt"}
_PACKED = {"gzip": b"\x1f\x8b", "gz": b"\x1f\x8b", "bzip2": b"BZh", "bz2": b"BZh"}


def recognises(content: bytes) -> bool:
    """Whether a file starts as NRRD, including a detached header."""
    return content.startswith(_MAGIC)


def open_nrrd(content: bytes, limits: Limits) -> tuple[Volume, Iterator[bytes]]:
    """The checked header, and a lazy iterator of the values in pieces.

    Comments, key/value pairs, and all fields except geometry and type are ignored.

    Raises:
        UnreadableImage: ``detached_header`` if the values are in another file,
            ``unsupported_transfer_syntax`` for an encoding other than raw, text, gzip and bzip2,
            ``no_orientation`` also for a space that is not a patient's; for the others see
            :func:`ml.imaging.nifti.decode_nifti`.
    """
    lines, start = _header(content)
    with discreet("truncated", "The NRRD header is damaged."):
        fields: dict[str, Any] = nrrd.read_header(lines)
        shape = tuple(int(extent) for extent in fields["sizes"])
        if len(shape) != fields["dimension"]:
            raise ValueError(shape)
        dtype = _dtype(fields)
        spatial = _spatial(fields, shape)
        affine = _affine(fields, spatial)
        start = _behind_lines(content, start, int(fields.get("line skip", 0)))
        skip = int(fields.get("byte skip", 0))
    encoding = str(fields["encoding"]).lower()
    volume = volume_of(tuple(shape[axis] for axis in spatial), dtype, affine, limits)
    if encoding in _TEXT:
        return volume, _numbers(content, start + max(0, skip), volume.dtype)
    if encoding == "raw":
        first = len(content) - volume.size if skip == -1 else start + skip
        if skip < -1 or first < start or first + volume.size > len(content):
            raise _damaged()
        return volume, _slices(content, first, first + volume.size)
    if encoding not in _PACKED:
        raise UnreadableImage("unsupported_transfer_syntax", "The values are encoded otherwise.")
    if not 0 <= skip <= _MOST_SKIPPED or not content.startswith(_PACKED[encoding], start):
        raise _damaged()
    return volume.starting_at(skip), pieces(content[start:])


def _header(content: bytes) -> tuple[list[str], int]:
    """The needed lines, and the offset of the values."""
    found = content[:_LONGEST_HEADER]
    ends = [at + len(end) for end in (b"\n\n", b"\r\n\r\n") if (at := found.find(end)) >= 0]
    start = min(ends, default=len(content))
    magic, *lines = found[:start].decode("ascii", "replace").splitlines()
    wanted = [magic]
    for line in lines:
        name, colon, value = line.partition(":")
        field = _ALSO.get(name.strip().lower(), name.strip().lower())
        if not colon or value.startswith("=") or line.startswith("#"):
            continue
        if field == "data file":
            raise UnreadableImage("detached_header", "The values are in another file.")
        if field in _FIELDS:
            if len(value) > _LONGEST_FIELD:
                raise _damaged()
            wanted.append(f"{field}: {value.strip()}")
    if not ends:
        raise _damaged()
    return wanted, start


def _dtype(fields: dict[str, Any]) -> np.dtype[np.generic]:
    name = str(fields["type"]).lower()
    if name not in _TYPES:
        raise UnreadableImage("unsupported", "Values of this type are refused.")
    dtype = np.dtype(_TYPES[name])
    if dtype.itemsize == 1 or str(fields["encoding"]).lower() in _TEXT:
        return dtype
    return np.dtype(_ENDIAN[str(fields["endian"]).lower()] + _TYPES[name])


def _spatial(fields: dict[str, Any], shape: tuple[int, ...]) -> list[int]:
    """The spatial axes; all other axes must have length 1."""
    if fields.get("space directions") is None:
        raise UnreadableImage("no_orientation", "The header does not say how the volume lies.")
    directions = np.asarray(fields["space directions"])
    if len(directions) != len(shape):
        raise ValueError(shape)
    kinds = fields.get("kinds", [])
    spatial = [axis for axis in range(len(shape)) if not np.isnan(directions[axis]).all()]
    for axis in set(range(len(shape))) - set(spatial):
        if axis < len(kinds) and kinds[axis].lower() in _COLOURS:
            raise UnreadableImage("colour_volume", "Colour volumes are not accepted.")
        if shape[axis] != 1:
            raise UnreadableImage(
                "four_dimensional", "Volumes with several points in time or directions are refused."
            )
    if len(spatial) > 3 or str(fields.get("space", "")).lower().endswith(("-time", "t")):
        raise UnreadableImage("four_dimensional", "The volume has an axis of time.")
    return spatial


def _affine(fields: dict[str, Any], spatial: list[int]) -> npt.NDArray[np.float64]:
    """(4, 4) from indices to millimetres, axes to right, front and head."""
    towards = _SPACES.get(str(fields.get("space", "")).lower())
    if towards is None:
        raise UnreadableImage("no_orientation", "The header does not say how the volume lies.")
    units = fields.get("space units", ["mm"] * 3)
    scale = np.array([_MILLIMETRES.get(unit, 1.0) for unit in units]) * towards
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    directions = np.asarray(fields["space directions"], dtype=np.float64)[spatial]
    affine[:3, : len(spatial)] = (directions * scale).T
    affine[:3, 3] = np.asarray(fields.get("space origin", np.zeros(3))) * scale
    return affine


def _behind_lines(content: bytes, start: int, lines: int) -> int:
    for _ in range(min(lines, _LONGEST_HEADER)):
        start = content.index(b"\n", start) + 1
    return start


def _slices(content: bytes, first: int, end: int) -> Iterator[bytes]:
    return (content[at : min(at + PIECE, end)] for at in range(first, end, PIECE))


def _numbers(content: bytes, start: int, dtype: np.dtype[np.generic]) -> Iterator[bytes]:
    """The bytes of numbers that are written as text."""
    number = float if dtype.kind == "f" else int
    rest = b""
    for piece in _slices(content, start, len(content)):
        words = (rest + piece).split()
        # The last word may continue in the next piece.
        rest = words.pop() if words and not piece[-1:].isspace() else b""
        if len(rest) > _LONGEST_NUMBER:
            raise _damaged()
        yield _as_bytes(words, number, dtype)
    yield _as_bytes([rest] if rest else [], number, dtype)


def _as_bytes(words: list[bytes], number: type, dtype: np.dtype[np.generic]) -> bytes:
    try:
        return np.array([number(word) for word in words], dtype).tobytes()
    except (ValueError, OverflowError):
        raise _damaged() from None


def _damaged() -> UnreadableImage:
    return UnreadableImage("truncated", "The NRRD file is damaged or incomplete.")
