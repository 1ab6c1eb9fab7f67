"""Logs say what happened and where, but never name a person.

More people read logs than the database. So requests are named by their URL rule, without tokens,
identifiers and query strings, and exceptions by type and traceback, without their messages, which
quote the data that could not be read.
"""

import json
import logging
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from types import TracebackType

from flask import Flask, Request, request
from sqlalchemy.exc import DBAPIError

from webapp import tracing
from webapp.errors import PortalError

ROUTE = "sulcus.route"
"""Key of the WSGI environment for the access log: method and URL rule of the request."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_FORMAT = "%(levelname)s %(name)s: %(message)s"
# They log values of the files that they read, or URLs that they call.
_TALKATIVE = (
    "PIL", "boto3", "botocore", "fontTools", "highdicom", "pydicom", "s3transfer", "sqlalchemy",
    "urllib3",
)  # fmt: skip

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class DiscreetFormatter(logging.Formatter):
    """Formats exceptions without their messages."""

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - logging's name
        """The traceback and the exception's type."""
        return told(ei[1]) if ei[1] is not None else ""


class NamingFormatter(DiscreetFormatter):
    """Adds the ids of the request, the job and the trace to each line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the ids behind it."""
        found = " ".join(f"{name}={value}" for name, value in tracing.ids().items())
        line = super().format(record)
        return f"{line} [{found}]" if found else line


class JsonFormatter(DiscreetFormatter):
    """One JSON object a line: time, level, logger, message, and the ids of the work at hand."""

    def format(self, record: logging.LogRecord) -> str:
        """The object; an exception is in ``exception``, without its message."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
            **tracing.ids(),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = told(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


def formatter(log_format: str, text: str = _FORMAT) -> logging.Formatter:
    """The formatter for ``text`` or ``json``."""
    return JsonFormatter() if log_format == "json" else NamingFormatter(text)


def init_app(app: Flask, *, level: str, log_format: str) -> None:
    """Configure the process's logging and name every request for the access log."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(log_format))
    logging.basicConfig(level=level, handlers=[handler])
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    app.before_request(_name_request)


def keep_quiet(handlers: Iterable[logging.Handler], *, log_format: str = "text") -> None:
    """Make the handlers of another library format exceptions as ours do, and lines if wanted."""
    for handler in handlers:
        handler.addFilter(_without_texts)
        if log_format == "json":
            handler.setFormatter(JsonFormatter())


def _without_texts(record: logging.LogRecord) -> bool:
    """Remove an exception's message from a record, and from the text that Celery builds from it."""
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        record.exc_text = told(error)  # formatters use this if it is set
    context = record.args
    if isinstance(context, dict) and "exc" in context:
        kind = type(error).__qualname__ if error else "an exception"
        record.args = context | dict.fromkeys(("traceback", "args", "kwargs"), "") | {"exc": kind}
    return True


def told(error: BaseException) -> str:
    """An exception and its causes: tracebacks and types, without messages."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    parts = []
    for one in reversed(chain):
        parts += traceback.format_tb(one.__traceback__)
        parts.append(f"{type(one).__module__}.{type(one).__qualname__}{_known_of(one)}\n")
    return "".join(parts).rstrip()


def name_of(asked: Request) -> str:
    """Method and URL rule of a request."""
    method = method_of(asked)
    return f"{method} {asked.url_rule.rule if asked.url_rule else '(no such address)'}"


def method_of(asked: Request) -> str:
    """The method, or ``other``: a client may send any word as method."""
    return asked.method if asked.method in METHODS else "other"


def _known_of(error: BaseException) -> str:
    """The part of an exception's message that never contains data."""
    if isinstance(error, DBAPIError):
        return f": {type(error.orig).__name__} {getattr(error.orig, 'sqlstate', None) or ''}"
    if isinstance(error, OSError):
        return f": {error.strerror}" if error.errno else ""
    return f": {error.code}" if isinstance(error, PortalError) else ""


def _name_request() -> None:
    request.environ[ROUTE] = name_of(request)
