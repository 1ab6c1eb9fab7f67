"""``multipart/related`` bodies (RFC 2387, RFC 2046 5.1), read and written part by part.

A request may contain hundreds of instances, so only one part is held at a time, in a file.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO

from flask_babel import gettext as _
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from webapp.uploads import Spool

_CHUNK = 64 * 1024
_LONGEST_HEADERS = 16 * 1024
# RFC 2046 5.1.1 allows 70; Orthanc uses 73.
_LONGEST_BOUNDARY = 200
_LONGEST_PREAMBLE = 64 * 1024
_MOST_PARTS = 10_000


@dataclass(frozen=True)
class Part:
    """One part of a body.

    Attributes:
        headers: by lower-case name.
        spool: holds the content until the next part is read.
        size: of the content in bytes; None if it exceeds the limit.
    """

    headers: Mapping[str, str]
    spool: Spool
    size: int | None

    @property
    def content(self) -> bytes:
        """The whole content; empty if it exceeds the limit."""
        return self.spool.read(self.size or 0, 0)


def read_parts(
    stream: IO[bytes], boundary: str, *, max_part_bytes: int, spool: Spool
) -> Iterator[Part]:
    """Read the parts of a body; parts before an error are yielded.

    Args:
        spool: receives the content of each part in turn.

    Raises:
        BadRequest: the body is malformed or ends early.
        RequestEntityTooLarge: it has more than 10,000 parts.
        ServiceUnavailable: the disk is full.
    """
    reader = _Reader(stream, boundary)
    reader.skip_preamble()
    count = 0
    while (headers := reader.headers()) is not None:
        count += 1
        if count > _MOST_PARTS:
            raise RequestEntityTooLarge(_("The body has more than 10,000 parts."))
        yield Part(headers, spool, reader.content(max_part_bytes, spool))


def new_boundary() -> str:
    """A random boundary that occurs in no content."""
    return secrets.token_hex(16)


def written_parts(parts: Iterable[tuple[str, Iterable[bytes]]], boundary: str) -> Iterator[bytes]:
    """Encode parts, each given as content type and content in pieces."""
    for content_type, pieces in parts:
        yield f"--{boundary}\r\nContent-Type: {content_type}\r\n\r\n".encode()
        yield from pieces
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


class _Reader:
    def __init__(self, stream: IO[bytes], boundary: str) -> None:
        if not (
            1 <= len(boundary) <= _LONGEST_BOUNDARY
            and boundary.isascii()
            and boundary.isprintable()
        ):
            raise BadRequest(_("The body has no valid boundary."))
        self._stream = stream
        self._delimiter = b"\r\n--" + boundary.encode()
        # The first delimiter has no line break before it.
        self._buffer = bytearray(b"\r\n")

    def skip_preamble(self) -> None:
        self._upto(self._delimiter, longest=_LONGEST_PREAMBLE)

    def headers(self) -> dict[str, str] | None:
        """The headers of the next part; None after the last one."""
        while len(self._buffer) < 2:
            self._fill()
        if self._buffer.startswith(b"--"):
            return None
        lines = self._upto(b"\r\n\r\n", longest=_LONGEST_HEADERS).decode("latin-1").split("\r\n")
        if lines[0].strip(" \t"):
            raise _malformed()
        headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                raise _malformed()
            headers[name.strip().lower()] = value.strip()
        return headers

    def content(self, longest: int, spool: Spool) -> int | None:
        """Write this part's content; return its size, or None if it exceeds the limit."""
        kept, size = len(self._delimiter) - 1, 0
        # In an empty part the line break after the headers belongs to the delimiter.
        self._buffer[:0] = b"\r\n"
        skipped = 2
        while True:
            end = self._buffer.find(self._delimiter)
            count = max(0, len(self._buffer) - kept if end < 0 else end)
            if size <= longest and count > skipped:
                spool.write(bytes(self._buffer[skipped:count]), size)
            size += max(0, count - skipped)
            skipped = max(0, skipped - count)
            del self._buffer[:count]
            if end >= 0:
                del self._buffer[: len(self._delimiter)]
                return size if size <= longest else None
            self._fill()

    def _upto(self, mark: bytes, *, longest: int) -> bytes:
        start = 0
        while (end := self._buffer.find(mark, start)) < 0:
            if len(self._buffer) > longest:
                raise _malformed()
            start = max(0, len(self._buffer) - len(mark))
            self._fill()
        found = bytes(self._buffer[:end])
        del self._buffer[: end + len(mark)]
        return found

    def _fill(self) -> None:
        chunk = self._stream.read(_CHUNK)
        if not chunk:
            raise BadRequest(_("The body ends before its last part."))
        self._buffer += chunk


def _malformed() -> BadRequest:
    return BadRequest(_("The body is not well-formed multipart."))
