"""``multipart/related`` bodies (RFC 2387, RFC 2046 5.1), read and written part by part.

A request may hold hundreds of instances. Only one of them is in memory at a time.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO

from flask_babel import gettext as _
from werkzeug.exceptions import BadRequest

_CHUNK = 64 * 1024
_LONGEST_HEADERS = 16 * 1024
# RFC 2046 5.1.1 allows 70; Orthanc's have 73.
_LONGEST_BOUNDARY = 200
_LONGEST_PREAMBLE = 64 * 1024


@dataclass(frozen=True)
class Part:
    """One part of a body.

    Attributes:
        headers: by name in small letters.
        content: None where it was larger than the limit; it was passed over then.
    """

    headers: Mapping[str, str]
    content: bytes | None


def read_parts(stream: IO[bytes], boundary: str, *, max_part_bytes: int) -> Iterator[Part]:
    """Read a body.

    Raises:
        BadRequest: the body is not well-formed, or ends too early; parts that came before that
            have been given already.
    """
    reader = _Reader(stream, boundary)
    reader.skip_preamble()
    while (headers := reader.headers()) is not None:
        yield Part(headers, reader.content(max_part_bytes))


def new_boundary() -> str:
    """A boundary that no content holds."""
    return secrets.token_hex(16)


def written_parts(parts: Iterable[tuple[str, bytes]], boundary: str) -> Iterator[bytes]:
    """A body of parts, each a content type and a content."""
    for content_type, content in parts:
        yield f"--{boundary}\r\nContent-Type: {content_type}\r\n\r\n".encode()
        yield content
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
        # The line end before the first delimiter is not sent.
        self._buffer = bytearray(b"\r\n")

    def skip_preamble(self) -> None:
        self._upto(self._delimiter, longest=_LONGEST_PREAMBLE)

    def headers(self) -> dict[str, str] | None:
        """The headers of the next part; None behind the last one."""
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

    def content(self, longest: int) -> bytes | None:
        """The content of this part; None where it is longer than allowed."""
        content, kept = bytearray(), len(self._delimiter) - 1
        too_long = False
        # A part without content: the line end of its headers is that of the delimiter.
        self._buffer[:0] = b"\r\n"
        while (end := self._buffer.find(self._delimiter)) < 0:
            self._move(content, len(self._buffer) - kept)
            if len(content) > longest + 2:
                too_long = True
                content.clear()
            self._fill()
        self._move(content, end)
        del self._buffer[: len(self._delimiter)]
        return None if too_long or len(content) > longest + 2 else bytes(content[2:])

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

    def _move(self, content: bytearray, count: int) -> None:
        if count > 0:
            content += self._buffer[:count]
            del self._buffer[:count]

    def _fill(self) -> None:
        chunk = self._stream.read(_CHUNK)
        if not chunk:
            raise BadRequest(_("The body ends before its last part."))
        self._buffer += chunk


def _malformed() -> BadRequest:
    return BadRequest(_("The body is not well-formed multipart."))
