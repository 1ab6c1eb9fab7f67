"""Logs tell what happened and where, and never whom it was about.

Logs travel further than the database does. So requests are named by the rule of their address,
without links' tokens, identifiers and query strings, and exceptions by their kind and place,
without their texts: those repeat what could not be read.
"""

import logging
import traceback
from collections.abc import Iterable
from types import TracebackType

from flask import Flask, Request, request
from sqlalchemy.exc import DBAPIError

from webapp.errors import PortalError

ROUTE = "sulcus.route"
"""Of the WSGI environment, for the access log: what was asked for, without what was in it."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_FORMAT = "%(levelname)s %(name)s: %(message)s"
# They write down values of the files that they read, or addresses that they call.
_TALKATIVE = ("PIL", "pydicom", "highdicom", "urllib3", "fontTools", "sqlalchemy")

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class DiscreetFormatter(logging.Formatter):
    """Writes exceptions without their texts."""

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - logging's name
        """Where it happened and of which kind it was."""
        return told(ei[1]) if ei[1] is not None else ""


def init_app(app: Flask, *, level: str) -> None:
    """Set the process's logs up; name every request for the access log."""
    handler = logging.StreamHandler()
    handler.setFormatter(DiscreetFormatter(_FORMAT))
    logging.basicConfig(level=level, handlers=[handler])
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    app.before_request(_name_request)


def keep_quiet(handlers: Iterable[logging.Handler]) -> None:
    """Let handlers that another library has made write exceptions as ours do."""
    for handler in handlers:
        handler.addFilter(_without_texts)


def _without_texts(record: logging.LogRecord) -> bool:
    """Take an exception's text out of a record, and out of the message that Celery makes of it."""
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        record.exc_text = told(error)  # formatters write this down, where it is there
    context = record.args
    if isinstance(context, dict) and "exc" in context:
        kind = type(error).__qualname__ if error else "an exception"
        record.args = context | dict.fromkeys(("traceback", "args", "kwargs"), "") | {"exc": kind}
    return True


def told(error: BaseException) -> str:
    """An exception and what led to it: places in the code and kinds, no texts."""
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
    """Method and rule of a request."""
    method = method_of(asked)
    return f"{method} {asked.url_rule.rule if asked.url_rule else '(no such address)'}"


def method_of(asked: Request) -> str:
    """The method, or ``other``: a client may send any word."""
    return asked.method if asked.method in METHODS else "other"


def _known_of(error: BaseException) -> str:
    """What an exception says in fixed words."""
    if isinstance(error, DBAPIError):
        return f": {type(error.orig).__name__} {getattr(error.orig, 'sqlstate', None) or ''}"
    if isinstance(error, OSError):
        return f": {error.strerror}" if error.errno else ""
    return f": {error.code}" if isinstance(error, PortalError) else ""


def _name_request() -> None:
    request.environ[ROUTE] = name_of(request)
