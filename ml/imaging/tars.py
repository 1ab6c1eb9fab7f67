"""Read tar archives, plain or compressed, as streams: nothing goes to disk, little to memory."""

import io
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ml.errors import UnreadableImage
from ml.imaging.unpacking import XZ_MEMORY, is_xz, pieces, start

_BLOCK = tarfile.BLOCKSIZE
_CHECKSUM = slice(148, 156)  # POSIX.1-1988 ustar: octal digits, terminated by zeros or spaces
_LONGEST_HEADER = 16 * 2**10  # bytes of one extended header
_OF_HEADERS = 16 * 2**20  # bytes of all headers and of the zeros at the end
# The standard library searches extended headers for numbers in quadratic time.
_LONG_NUMBER = re.compile(rb"\d{65}")


@dataclass(frozen=True)
class TarEntry:
    """One entry.

    Attributes:
        size: bytes of the file.
        problem: code of the reason why it is skipped: ``link`` (links, devices, pipes),
            ``archive_method`` (sparse files); None for files and directories.
    """

    name: str
    size: int
    is_directory: bool
    problem: str | None


class TooLong(Exception):
    """The archive is longer than allowed."""


def is_tar(content: bytes) -> bool:
    """Whether it is a tar archive, plain or in gzip, bzip2 or xz."""
    first = start(content, _BLOCK)
    if len(first) < _BLOCK or not re.fullmatch(rb" *[0-7]+[\0 ]+", first[_CHECKSUM]):
        return False
    try:
        tarfile.TarInfo.frombuf(first, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def entries(content: bytes, most: int) -> Iterator[TarEntry]:
    """All entries without their content; the archive is read to its end.

    Args:
        most: maximum bytes of all files together.

    Raises:
        TooLong: it is longer.
        UnreadableImage: ``archive_damaged`` if it is damaged or its end is missing.
    """
    for entry, _stream in _read(content, most):
        yield entry


def contents(
    content: bytes, most: int, room: Callable[[int], AbstractContextManager[object]]
) -> Iterator[tuple[TarEntry, bytes]]:
    """The files with their contents; raises as :func:`entries` does.

    Args:
        room: reserves memory for the bytes of each file.
    """
    dictionary = XZ_MEMORY if is_xz(content) else 0
    for entry, stream in _read(content, most):
        if not entry.is_directory and entry.problem is None:
            with room(entry.size + dictionary):
                yield entry, stream.take(entry.size)


class _Stream:
    """A file object from which the standard library can read a limited amount of headers."""

    mode = "rb"
    name = ""

    def __init__(self, content: bytes, most: int) -> None:
        self._pieces = pieces(content)
        self._piece = memoryview(b"")
        self._most = most
        self._at = 0

    def tell(self) -> int:
        return self._at

    def read(self, size: int) -> bytes:
        """Read part of a header."""
        if not 0 <= size <= _LONGEST_HEADER:
            raise _damaged()
        found = self._next(size)
        if _LONG_NUMBER.search(found):
            raise _damaged()
        return found

    def take(self, size: int) -> bytes:
        """Read exactly ``size`` bytes."""
        found = self._next(size)
        if len(found) < size:
            raise _damaged()
        return found

    def skip_to(self, at: int) -> None:
        if at < self._at:
            raise _damaged()
        while self._at < at:
            self.take(min(at - self._at, 2**20))

    def _next(self, size: int) -> bytes:
        if self._at + size > self._most:
            raise TooLong
        found = io.BytesIO()
        left = size
        while left:
            if not self._piece:
                try:
                    piece = next(self._pieces, None)
                except UnreadableImage:
                    raise _damaged() from None
                if piece is None:
                    break
                self._piece = memoryview(piece)
                continue
            taken = found.write(self._piece[:left])
            self._piece = self._piece[taken:]
            left -= taken
        self._at += size - left
        return found.getvalue()


def _read(content: bytes, most: int) -> Iterator[tuple[TarEntry, _Stream]]:
    """Yield each entry with the stream at its content, which the caller may read or skip."""
    stream = _Stream(content, most + _OF_HEADERS)
    archive: tarfile.TarFile | None = None
    ended = False
    while True:
        try:
            if archive is None:
                archive = tarfile.TarFile(fileobj=stream, mode="r")  # type: ignore[arg-type]
                info = archive.firstmember  # type: ignore[attr-defined]
                if info is None:
                    raise _damaged()
            else:
                info = tarfile.TarInfo.fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            ended = True  # another archive may follow the zeros
            continue
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            if not ended:
                raise _damaged() from None
            return
        except (TooLong, UnreadableImage):
            raise
        except Exception:  # a damaged header can raise anything at all in there
            raise _damaged() from None
        ended = False
        yield _entry(info), stream
        stream.skip_to(archive.offset)


def _entry(info: tarfile.TarInfo) -> TarEntry:
    problem = None
    if info.sparse is not None:
        problem = "archive_method"
    elif not info.isreg() and not info.isdir():
        problem = "link"
    # Bytes that are not UTF-8 must not reach responses.
    name = info.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return TarEntry(name.replace("\0", "_") or "_", info.size, info.isdir(), problem)


def _damaged() -> UnreadableImage:
    return UnreadableImage("archive_damaged", "The archive is damaged or incomplete.")
