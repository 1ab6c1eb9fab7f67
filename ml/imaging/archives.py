"""Archives (ZIP, tar), opened in memory and within limits."""

import bz2
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import PurePosixPath

from ml.errors import UnreadableImage
from ml.imaging import tars
from ml.imaging.foreign import is_office
from ml.imaging.limits import Limits
from ml.imaging.unpacking import XZ_MEMORY

# Below this size the ratio is not checked: a black slice compresses to a thousandth.
_SMALL = 64 * 2**20
_ENTRY = b"PK\x03\x04"
_DIRECTORY_ENTRY = b"PK\x01\x02"
_XZ = 95  # APPNOTE.TXT 4.4.5; the standard library has no name for it
_METHODS = {
    zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, _XZ,
}  # fmt: skip
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, and lengths of name and extra field
_LZMA_HEADER = struct.Struct("<2xHBL")  # APPNOTE.TXT 5.8: properties and size of the dictionary
_LEAST_DICTIONARY = 4096
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_JUNK = {"dicomdir", "thumbs.db", "desktop.ini"}
_OF_DISCS = {"dicomdir", "autorun.inf"}
# Files that identify a disc with its own viewer, and types of the viewer's files.
_PROGRAMS = {".exe", ".dll", ".jar", ".msi", ".so", ".dylib", ".class"}
_PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".ico", ".svg", ".tif", ".tiff", ".webp"}


LeftOut = tuple[str, str]
"""Name of a skipped file, and code of the reason."""
Room = Callable[[int], AbstractContextManager[object]]
"""Reserves a number of bytes of memory for the duration of the context."""


@dataclass
class _Budget:
    """The remaining limits for an archive and all archives inside it.

    Attributes:
        room: reserves memory for unpacked bytes.
    """

    entries: int
    size: int
    archives: int
    room: Room


def is_archive(content: bytes) -> bool:
    """Whether it is a ZIP or a tar archive; tar may be plain or in gzip, bzip2 or xz.

    Office documents are ZIP archives too, but do not count here.
    """
    return (_is_zip(content) and not is_office(content)) or tars.is_tar(content)


def _is_zip(content: bytes) -> bool:
    return content.startswith((_ENTRY, b"PK\x05\x06"))


def is_junk(path: PurePosixPath) -> bool:
    """Whether it is hidden, or a file that operating systems or discs add."""
    hidden = any(part.startswith((".", "__MACOSX")) and part != ".." for part in path.parts)
    # File names on discs can have a version number: "DICOMDIR;1".
    return hidden or path.name.lower().partition(";")[0] in _JUNK


def junk_among(paths: Iterable[PurePosixPath]) -> set[PurePosixPath]:
    """The paths that are junk themselves or belong to the viewer of a disc.

    A disc has a DICOMDIR or programs on it. Its images are DICOM, so its pictures belong to the
    viewer. Its programs are refused as not being images.
    """
    every = list(paths)
    junk = {path for path in every if is_junk(path)}
    programs = {path for path in every if path.suffix.lower() in _PROGRAMS}
    if programs or any(path.name.lower().partition(";")[0] in _OF_DISCS for path in every):
        junk |= {path for path in every if path.suffix.lower() in _PICTURES}
    return junk


def pictures_of_viewers(paths: Iterable[PurePosixPath]) -> set[PurePosixPath]:
    """Pictures that belong to the viewer of a disc; none if no other file could be an image."""
    every = list(paths)
    junk = junk_among(every)
    if not any(path not in junk and path.suffix.lower() not in _PROGRAMS for path in every):
        return set()
    return {path for path in junk if not is_junk(path)}


def members(
    content: bytes,
    limits: Limits,
    left_out: list[LeftOut] | None = None,
    room: Room = nullcontext,
) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every file in an archive and in archives inside it.

    Empty files, hidden files and files that operating systems and discs add (also the viewer and
    its pictures) are skipped. Nothing is written to disk, so names need no check.

    Args:
        left_out: receives the skipped files, without directories: ``junk``, ``empty``, and for tar
            archives ``link`` (also devices and pipes) and ``archive_method`` (sparse files).
        room: reserves the bytes of a file while the caller uses it.

    Raises:
        UnreadableImage: ``archive_encrypted``, ``archive_too_large``, ``archive_too_deep``,
            ``archive_method`` (unsupported compression), ``archive_damaged``, also during
            iteration; ``archive_empty`` if there is nothing.
    """
    # For nested archives the expansion counts from the outermost one.
    most = max(_SMALL, limits.max_expansion * len(content))
    size = min(limits.max_archive_bytes, most)
    budget = _Budget(limits.max_entries, size, limits.max_archives, room)
    empty = True
    for member in _members(content, limits, budget, 1, [] if left_out is None else left_out):
        empty = False
        yield member
    if empty:
        raise UnreadableImage("archive_empty", "There is no file in the archive.")


def _members(
    content: bytes, limits: Limits, budget: _Budget, depth: int, left_out: list[LeftOut]
) -> Iterator[tuple[str, bytes]]:
    if depth > limits.max_depth:
        raise UnreadableImage("archive_too_deep", "Archives inside of archives go too deep.")
    budget.archives -= 1
    if budget.archives < 0:
        raise _too_large()
    files = _in_zip if _is_zip(content) else _in_tar
    for name, inner in files(content, limits, budget, left_out):
        if is_archive(inner):
            passed_over: list[LeftOut] = []
            empty = True
            for deeper, member in _members(inner, limits, budget, depth + 1, passed_over):
                empty = False
                yield f"{name}/{deeper}", member
            if empty and not passed_over:
                left_out.append((name, "archive_empty"))
            left_out += [(f"{name}/{deeper}", code) for deeper, code in passed_over]
        else:
            yield name, inner


def _in_zip(
    content: bytes, limits: Limits, budget: _Budget, left_out: list[LeftOut]
) -> Iterator[tuple[str, bytes]]:
    with _opened(content, budget) as archive:
        entries = archive.infolist()
    _check(entries, len(content), limits, budget)
    files = [(_name(entry), entry) for entry in entries if not _name(entry).endswith("/")]
    wanted = _wanted([(name, entry.file_size) for name, entry in files], left_out)
    for name, entry in files:
        if name in wanted and entry.file_size:
            with budget.room(entry.file_size + _dictionary(entry)):
                yield name, _read(content, entry)


def _in_tar(
    content: bytes, limits: Limits, budget: _Budget, left_out: list[LeftOut]
) -> Iterator[tuple[str, bytes]]:
    """Read the archive to its end once before the first file is yielded."""
    most = min(budget.size, max(_SMALL, limits.max_expansion * len(content)))
    files = []
    total = 0
    try:
        for entry in tars.entries(content, most):
            budget.entries -= 1
            total += entry.size
            if budget.entries < 0 or total > most or entry.size > limits.max_bytes:
                raise _too_large()
            if entry.problem:
                left_out.append((entry.name, entry.problem))
            elif not entry.is_directory:
                files.append((entry.name, entry.size))
        budget.size -= total
        wanted = _wanted(files, left_out)
        for entry, inner in tars.contents(content, most, budget.room):
            if inner and entry.name in wanted:
                yield entry.name, inner
    except tars.TooLong:
        raise _too_large() from None


def _wanted(files: list[tuple[str, int]], left_out: list[LeftOut]) -> set[str]:
    """The names of possible images among (name, size) pairs; others are added to ``left_out``."""
    junk = junk_among(PurePosixPath(name) for name, _size in files)
    wanted = set()
    for name, size in files:
        if PurePosixPath(name) in junk:
            left_out.append((name, "junk"))
        elif size == 0:
            left_out.append((name, "empty"))
        else:
            wanted.add(name)
    return wanted


def _name(entry: zipfile.ZipInfo) -> str:
    """The whole name; the standard library cuts it at a zero byte."""
    return entry.orig_filename.replace("\0", "_") or "_"


def _opened(content: bytes, budget: _Budget) -> zipfile.ZipFile:
    # zipfile creates an object for each entry before it can tell how many there are.
    if content.count(_DIRECTORY_ENTRY) > budget.entries:
        raise _too_large()
    try:
        return zipfile.ZipFile(io.BytesIO(content))
    except Exception:  # a damaged archive can raise anything at all in there
        raise _damaged() from None


def _check(entries: list[zipfile.ZipInfo], size: int, limits: Limits, budget: _Budget) -> None:
    """Check the archive's directory against the limits; reading stops at the sizes it gives."""
    if any(entry.flag_bits & _ENCRYPTED for entry in entries):
        raise UnreadableImage("archive_encrypted", "The archive is protected by a password.")
    if any(entry.compress_type not in _METHODS for entry in entries):
        raise UnreadableImage("archive_method", "The archive is compressed in an uncommon way.")
    total = sum(entry.file_size for entry in entries)
    budget.entries -= len(entries)
    budget.size -= total
    if (
        min(budget.entries, budget.size) < 0
        or max((entry.file_size for entry in entries), default=0) > limits.max_bytes
        or (total > _SMALL and total > limits.max_expansion * size)
    ):
        raise _too_large()


def _read(content: bytes, entry: zipfile.ZipInfo) -> bytes:
    """Read one file, but never more bytes than the directory gives.

    zipfile limits the output only for some compression methods.
    """
    try:
        mark, name, extra = _LOCAL_HEADER.unpack_from(content, entry.header_offset)
        start = entry.header_offset + _LOCAL_HEADER.size + name + extra
        packed = memoryview(content)[start : start + entry.compress_size]
        unpacked = _unpacked(packed, entry)
    except Exception:  # a damaged archive can raise anything at all in there
        raise _damaged() from None
    whole = mark == _ENTRY and len(packed) == entry.compress_size
    if not whole or len(unpacked) != entry.file_size or zlib.crc32(unpacked) != entry.CRC:
        raise _damaged()
    return unpacked


def _dictionary(entry: zipfile.ZipInfo) -> int:
    """Bytes that unpacking needs in addition to its output."""
    return {zipfile.ZIP_LZMA: entry.file_size, _XZ: XZ_MEMORY}.get(entry.compress_type, 0)


def _unpacked(packed: memoryview, entry: zipfile.ZipInfo) -> bytes:
    size = entry.file_size
    match entry.compress_type:
        case zipfile.ZIP_STORED:
            return bytes(packed[:size])
        case zipfile.ZIP_DEFLATED:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size)
        case zipfile.ZIP_BZIP2:
            return bz2.BZ2Decompressor().decompress(packed, size)
        case zipfile.ZIP_LZMA:
            return _lzma(packed, size)
        case _:
            unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
            return unpacker.decompress(packed, size)


def _lzma(packed: memoryview, size: int) -> bytes:
    length, properties, dictionary = _LZMA_HEADER.unpack_from(packed)
    bits, literal = divmod(properties, 45)
    position, context = divmod(literal, 9)
    filters = {
        "id": lzma.FILTER_LZMA1,
        # The decoder allocates the dictionary at once; it needs no more than the file's length.
        "dict_size": max(_LEAST_DICTIONARY, min(dictionary, size)),
        "lc": context,
        "lp": position,
        "pb": bits,
    }
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[filters])
    return unpacker.decompress(packed[4 + length :], size)


def _too_large() -> UnreadableImage:
    return UnreadableImage("archive_too_large", "The archive grows too large when opened.")


def _damaged() -> UnreadableImage:
    return UnreadableImage("archive_damaged", "The archive is damaged or incomplete.")
