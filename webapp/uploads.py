"""Request bodies: their size limits, who may send them, and where they are kept temporarily.

Limits apply before anything is parsed. Only views marked with :func:`takes_files` accept large
bodies, and only from signed-in users. The files of one request share one unnamed temporary file,
which disappears with the request; small files stay in memory.
"""

import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from flask import Flask, Request, current_app, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from werkzeug.exceptions import (
    BadRequest,
    LengthRequired,
    RequestEntityTooLarge,
    RequestTimeout,
    ServiceUnavailable,
)
from werkzeug.formparser import FormDataParser

from webapp.accounts.access import is_public
from webapp.accounts.guard import refuse_visitor
from webapp.database import db
from webapp.extensions import current_settings

View = TypeVar("View", bound=Callable[..., object])

LARGEST_OF_VISITORS = 64 * 2**10
"""Limit in bytes of a body from a visitor who has not signed in."""
LARGEST = 256 * 2**10
"""Limit in bytes of a form or of JSON, unless a view sets another."""
_BESIDE_FILES = 2**20  # form fields and part headers
_MOST_BESIDE_FILES = _BESIDE_FILES + 2**19  # plus what was read but not written yet
_IN_MEMORY = 2**20


def takes_files(view: View) -> View:
    """Let ``view`` accept bodies as large as an upload may be."""
    view.takes_files = True  # type: ignore[attr-defined]
    return view


def takes(largest: int) -> Callable[[View], View]:
    """Let ``view`` accept bodies of up to ``largest`` bytes."""

    def mark(view: View) -> View:
        view.largest_body = largest  # type: ignore[attr-defined]
        return view

    return mark


def init_app(app: Flask) -> None:
    """Bind the limits. They run before anything that reads a body, such as CSRF protection."""
    app.request_class = PortalRequest
    app.before_request(_limit)
    folder = app.extensions["settings"].home / "uploads"
    app.extensions["uploads"] = folder


def _limit() -> ResponseReturnValue | None:
    view = current_app.view_functions.get(request.endpoint or "")
    largest = _largest(view)
    chosen = cast("PortalRequest", request).chosen_limit  # set by a blueprint
    request.max_content_length = largest if chosen is None else min(chosen, largest)
    length = request.content_length
    if length is None and "chunked" in request.headers.get("Transfer-Encoding", "").lower():
        if view is None or is_public(view):
            # Neither the length nor the sender is known.
            raise LengthRequired(_("Send the length of the body."))
        length = largest
        # Werkzeug would truncate a longer body and treat it as complete.
        request.environ["wsgi.input"].limit = request.max_content_length
        request.max_content_length += 1
    if view is None or (length or 0) <= LARGEST_OF_VISITORS:
        return None
    refused = refuse_visitor()
    # Receiving the body takes time: do not hold a database connection meanwhile.
    db.session.rollback()
    return refused


def _largest(view: Callable[..., object] | None) -> int:
    if view is None or is_public(view):
        return LARGEST_OF_VISITORS
    if getattr(view, "takes_files", False):
        # A request may hold several files; the limit per file is checked separately.
        return current_settings().max_upload_bytes + _BESIDE_FILES
    return int(getattr(view, "largest_body", LARGEST))


class Spool:
    """Bytes of several parts in sequence: in memory, or on disk once there are many.

    Raises:
        ServiceUnavailable: on a write, if the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=str(folder))  # noqa: SIM115

    def write(self, content: bytes, at: int) -> int:
        """Write ``content`` at an offset; return the number of bytes written."""
        try:
            if at + len(content) > _IN_MEMORY:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file.seek(at)
            return self._file.write(content)
        except OSError as error:
            raise ServiceUnavailable(
                _("The server has no room for this upload at the moment. Please try again later.")
            ) from error

    def read(self, size: int, at: int) -> bytes:
        """Up to ``size`` bytes from an offset."""
        self._file.seek(at)
        return self._file.read(size)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.seek(0, os.SEEK_END)

    @property
    def is_in_memory(self) -> bool:
        """Whether nothing has been written to the disk."""
        return self._file.name is None

    def close(self) -> None:
        """Release memory and disk space."""
        self._file.close()


class SpooledPart(io.RawIOBase):
    """One part of a request, a range of its spool. Parts are written one after another."""

    def __init__(self, spool: Spool) -> None:
        super().__init__()
        self._spool = spool
        self._start = spool.size
        self._size = 0
        self._at = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        written = self._spool.write(bytes(content), self._start + self._at)
        self._at += written
        self._size = max(self._size, self._at)
        return written

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._at)
        content = self._spool.read(max(0, wanted), self._start + self._at)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def readall(self) -> bytes:
        """The rest in one read; the base class would assemble it from small reads."""
        content = self._spool.read(max(0, self._size - self._at), self._start + self._at)
        self._at += len(content)
        return content

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def __len__(self) -> int:
        return self._size

    def __bool__(self) -> bool:
        return True  # an empty file is a file


class Body:
    """The request body as a stream; errors while reading it become 4xx errors."""

    limit: int | None = None
    """Limit in bytes; needed if the request has no Content-Length."""
    in_files: Callable[[], int] | None = None
    """Bytes of a form's files so far. The rest is kept in memory, so it is limited."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._given = 0

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes.

        Raises:
            RequestEntityTooLarge: the body is longer than ``limit``.
            RequestTimeout: the client stalls or is too slow.
            BadRequest: the body ends early, or its chunks are malformed.
        """
        return self._taken(self._stream.read, size)

    def readline(self, size: int = -1) -> bytes:
        """Up to the end of a line; see :meth:`read`."""
        return self._taken(self._stream.readline, size)

    def _taken(self, read: Callable[[int], bytes], size: int) -> bytes:
        try:
            found = read(size)
        except TimeoutError as error:
            raise RequestTimeout(_("The body of the request came too slowly.")) from error
        except Exception as error:  # each server raises different errors
            raise BadRequest(_("The body of the request is incomplete or damaged.")) from error
        self._given += len(found)
        if self.limit is not None and self._given > self.limit:
            raise RequestEntityTooLarge
        if self.in_files is not None and self._given - self.in_files() > _MOST_BESIDE_FILES:
            raise RequestEntityTooLarge
        return found


class PortalRequest(Request):
    """A request whose uploaded files are spooled."""

    _spool: Spool | None = None

    def __init__(self, environ: dict[str, Any], *args: Any, **options: Any) -> None:
        if "wsgi.input" in environ and not isinstance(environ["wsgi.input"], Body):
            environ["wsgi.input"] = Body(environ["wsgi.input"])
        super().__init__(environ, *args, **options)

    @property
    def chosen_limit(self) -> int | None:
        """The limit set for this request, or None."""
        return self._max_content_length

    def _get_file_stream(self, *_sizes_and_names: object, **_more: object) -> IO[bytes]:
        if self._spool is None:
            self._spool = Spool(current_app.extensions["uploads"])
        return cast("IO[bytes]", SpooledPart(self._spool))

    def make_form_data_parser(self) -> FormDataParser:
        """Limit the total size of a form without its files: werkzeug limits only each field."""
        self.environ["wsgi.input"].in_files = lambda: self._spool.size if self._spool else 0
        return super().make_form_data_parser()

    def close(self) -> None:
        """Close the files and free their space."""
        super().close()
        if self._spool is not None:
            self._spool.close()
