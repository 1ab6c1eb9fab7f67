"""Unpack gzip, bzip2 and xz streams in pieces, to limit memory."""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Protocol, TypeVar

from ml.errors import UnreadableImage


class _Unpacker(Protocol):
    """Of one member."""

    @property
    def eof(self) -> bool:
        """Whether the member has come to its end."""
        ...


Unpacker = TypeVar("Unpacker", bound=_Unpacker)
_Packed = bz2.BZ2Decompressor | lzma.LZMADecompressor

GZIP, _BZIP2, _XZ = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0"
_PACKED_PIECE = 2**16  # packed bytes per step
PIECE = 2**20
"""Default size of a piece in bytes."""
XZ_MEMORY = 128 * 2**20
"""Memory limit in bytes for unpacking xz; the file determines the dictionary size."""


def is_packed(content: bytes) -> bool:
    """Whether it is one of these streams."""
    return content.startswith((GZIP, _BZIP2, _XZ))


def is_xz(content: bytes) -> bool:
    """Whether unpacking may take ``XZ_MEMORY``."""
    return content.startswith(_XZ)


def start(content: bytes, size: int) -> bytes:
    """The first ``size`` bytes, unpacked if needed; fewer if the content is shorter."""
    if not is_packed(content):
        return content[:size]
    found = b""
    try:
        for piece in pieces(content, size):
            found += piece
            if len(found) >= size:
                break
    except UnreadableImage:
        pass  # keep what there is
    return found[:size]


def pieces(content: bytes, size: int = PIECE) -> Iterator[bytes]:
    """The content in pieces of at most ``size`` bytes, unpacked if needed.

    Concatenated streams count as one.

    Raises:
        UnreadableImage: ``truncated``, also during iteration.
    """
    try:
        if content.startswith(GZIP):
            yield from inflated(content, size)
        elif content.startswith((_BZIP2, _XZ)):
            yield from _unpacked(content, size)
        else:
            for at in range(0, len(content), size):
                yield content[at : at + size]
    except (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError):
        raise UnreadableImage(
            "truncated", "The compressed file is damaged or incomplete."
        ) from None


def gzipped(parts: Iterable[bytes]) -> bytes:
    """All parts in one gzip member without file name and time."""
    compressor = zlib.compressobj(1, wbits=zlib.MAX_WBITS | 16)
    packed = io.BytesIO()  # joining a list would copy the pieces once more
    for part in parts:
        packed.write(compressor.compress(part))
    packed.write(compressor.flush())
    return packed.getvalue()


def inflated(content: bytes, size: int) -> Iterator[bytes]:
    """The contents of all gzip members in pieces of at most ``size`` bytes.

    Python's own reader scans the text fields of a member's header byte by byte, and they can be as
    long as the file.

    Raises:
        EOFError: the last member is incomplete.
        zlib.error: the data are not gzip.
    """

    def feed(unpacker: "zlib._Decompress", packed: bytes) -> Generator[bytes, None, bytes]:
        yield unpacker.decompress(packed, size)
        return unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail

    unpacker = yield from _through_members(
        content, lambda: zlib.decompressobj(zlib.MAX_WBITS | 16), feed
    )
    while not unpacker.eof:
        piece = unpacker.decompress(b"", size)
        if not piece:
            raise EOFError
        yield piece


def _unpacked(content: bytes, size: int) -> Iterator[bytes]:
    def feed(unpacker: _Packed, packed: bytes) -> Generator[bytes, None, bytes]:
        yield unpacker.decompress(packed, size)
        while not unpacker.eof and not unpacker.needs_input:
            yield unpacker.decompress(b"", size)
        return unpacker.unused_data if unpacker.eof else b""

    unpacker = yield from _through_members(content, lambda: _fresh(content), feed)
    if not unpacker.eof:
        raise EOFError


def _through_members(
    content: bytes,
    fresh: Callable[[], Unpacker],
    feed: Callable[[Unpacker, bytes], Generator[bytes, None, bytes]],
) -> Generator[bytes, None, Unpacker]:
    """What the members of a file hold, one after the other.

    Args:
        fresh: an unpacker for the next member.
        feed: yields what packed bytes hold, and returns those that are to be fed again.

    Returns:
        The unpacker of the last member, which need not have come to its end.
    """
    unpacker = fresh()
    for at in range(0, len(content), _PACKED_PIECE):
        rest = content[at : at + _PACKED_PIECE]
        while rest:
            if unpacker.eof:
                rest = rest.lstrip(b"\0")  # some pad the file behind a member
                if not rest:
                    break
                unpacker = fresh()
            rest = yield from feed(unpacker, rest)
    return unpacker


def _fresh(content: bytes) -> _Packed:
    if content.startswith(_BZIP2):
        return bz2.BZ2Decompressor()
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
