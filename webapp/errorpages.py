"""The only place where an error becomes a page, a problem document (RFC 9457) or a fragment."""

import json
import logging
import math
from http import HTTPStatus

from flask import Flask, Response, render_template, request
from flask_babel import force_locale, gettext
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import DBAPIError
from werkzeug.exceptions import HTTPException, SecurityError

from ml.errors import MemoryBusy
from webapp.accounts.access import API_PREFIX
from webapp.database import db, is_busy, is_full
from webapp.errors import PortalError
from webapp.extensions import current_settings
from webapp.languages import browser_locale
from webapp.logs import name_of, told
from webapp.storage import NoRoom, StorageAway

_log = logging.getLogger(__name__)


def init_app(app: Flask) -> None:
    """Register the handlers of domain errors, HTTP errors and crashes."""
    app.register_error_handler(PortalError, _portal_error)
    app.register_error_handler(CSRFError, csrf_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(NoRoom, _no_room)
    app.register_error_handler(StorageAway, _storage_away)
    app.register_error_handler(MemoryBusy, _memory_busy)
    app.register_error_handler(DBAPIError, _database_error)
    app.register_error_handler(Exception, _crash)


def _portal_error(error: PortalError) -> Response:
    db.session.rollback()
    return _answer(
        error.status, error.message, code=error.code, fields=error.fields, extra=error.extra
    )


def csrf_error(_error: CSRFError) -> Response:
    """Answer a form without a CSRF token, or with one of an earlier session."""
    return _answer(
        400, gettext("This form is out of date. Go back, reload the page and try again.")
    )


def _http_error(error: HTTPException) -> Response:
    if error.response is not None:
        return error.response  # type: ignore[return-value]
    status = error.code or 500
    if isinstance(error, SecurityError):
        # The host name is not ours, so no page can have a URL under it.
        sentence = gettext("The portal does not answer under this host name.")
        return Response(sentence, status=status, content_type="text/plain; charset=utf-8")
    answer = _answer(status, _sentence(status, error), code=_slug(status))
    for name, value in error.get_headers():
        if name.lower() in {"allow", "retry-after", "www-authenticate"}:
            answer.headers[name] = value
    if status == 429:
        answer.headers.setdefault("Retry-After", "60")
    return answer


def _no_room(_error: Exception) -> Response:
    """Answer 503 for a full disk; the client may try again later."""
    db.session.rollback()
    _log.error("%s was refused: a disk is full", name_of(request))
    # The user's language is in the database, which may be what failed (also below).
    with force_locale(browser_locale()):
        message = gettext("The server has no room left. Nothing was stored; please try later.")
        return _later(message, code="storage-full", seconds=120)


def _storage_away(error: StorageAway) -> Response:
    """Answer 503 while the store of images is away; the client may try again later."""
    db.session.rollback()
    _log.error("%s was refused: %s", name_of(request), error)
    with force_locale(browser_locale()):
        message = gettext(
            "The store of images does not answer. Nothing was changed; please try again later."
        )
        return _later(message, code="storage-away", seconds=30)


def _memory_busy(_error: MemoryBusy) -> Response:
    """Answer 503 while other images use the memory; the client may try again later."""
    db.session.rollback()
    _log.warning("%s was refused: others have needed the memory for too long", name_of(request))
    message = gettext(
        "The server is busy with other large images. Nothing was stored; please try again."
    )
    return _later(message, code="busy", seconds=30)


def _database_error(error: DBAPIError) -> Response:
    if is_full(error):
        return _no_room(error)
    if not is_busy(error):
        return _crash(error)
    db.session.rollback()
    _log.error("%s was refused: the database is busy or away", name_of(request))
    with force_locale(browser_locale()):
        message = gettext("The database is busy. Nothing was stored; please try again.")
        return _later(message, code="busy", seconds=5)


def _later(message: str, *, code: str, seconds: int) -> Response:
    answer = _answer(503, message, code=code)
    answer.headers["Retry-After"] = str(seconds)
    return answer


def _crash(error: Exception) -> Response:
    db.session.rollback()
    _log.error("%s failed\n%s", name_of(request), told(error))
    with force_locale(browser_locale()):
        return _answer(500, gettext("Something went wrong on our side. It has been recorded."))


def _sentence(status: int, error: HTTPException) -> str:
    sentences = {
        401: gettext("A valid bearer token is required."),
        403: gettext("You do not have permission to do this."),
        404: gettext("There is nothing at this address, or you do not have access to it."),
        405: gettext("This address does not accept that kind of request."),
        413: _too_large(),
        429: _wait(error),
    }
    return sentences.get(status) or error.description or HTTPStatus(status).phrase


def _wait(error: HTTPException) -> str:
    seconds = getattr(error, "retry_after", None) or 60
    if seconds <= 60:
        return str(gettext("Too many attempts. Please wait a minute."))
    return str(gettext("Too many attempts. Please wait %(n)d minutes.", n=math.ceil(seconds / 60)))


def _too_large() -> str:
    upload, allowed = current_settings().max_upload_bytes, request.max_content_length
    if allowed is not None and allowed < upload:
        sentence = gettext(
            "This is larger than the server accepts: at most %(size)d kB.", size=allowed // 2**10
        )
    else:
        sentence = gettext(
            "This is larger than the server accepts: at most %(size)d MB in one upload.",
            size=upload // 2**20,
        )
    return str(sentence)


def _slug(status: int) -> str:
    return HTTPStatus(status).phrase.lower().replace(" ", "-")


def _answer(
    status: int,
    message: str,
    *,
    code: str | None = None,
    fields: dict[str, str] | None = None,
    extra: dict[str, object] | None = None,
) -> Response:
    title = HTTPStatus(status).phrase
    if request.path.startswith(API_PREFIX) or wants_json():
        problem: dict[str, object] = {
            "type": "about:blank",
            "title": title,
            "status": status,
            "detail": message,
            "code": code or _slug(status),
        }
        if fields:
            problem["errors"] = fields
        problem |= extra or {}
        answer = Response(
            json.dumps(problem), status=status, content_type="application/problem+json"
        )
        if status == 401:
            answer.headers["WWW-Authenticate"] = "Bearer"
        return answer
    page = render_template("errors/error.html", status=status, message=message)
    return Response(page, status=status, content_type="text/html; charset=utf-8")


def wants_json() -> bool:
    """Whether the client prefers JSON to HTML."""
    best = request.accept_mimetypes.best_match(["text/html", "application/json"])
    return best == "application/json"
