"""Static files under addresses that change with them, so that browsers need not ask again.

The version is part of the path, ``/static/VERSION/js/app.js``: scripts and style sheets that name
one another by relative paths stay within it. Without a version, files are served as Flask does,
and revalidated. Texts are compressed once a process, when they are first asked for; pages are
not, since they hold secrets beside what a caller sent (the BREACH attack).
"""

import gzip
import hashlib
import mimetypes
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import brotli
from flask import Flask, Response, request
from werkzeug.exceptions import NotFound
from werkzeug.security import safe_join

_DIGITS = 12
_YEAR = 365 * 24 * 3600  # seconds
_TEXTS = frozenset({".css", ".js", ".json", ".mjs", ".svg"})
_SMALL = 1000  # bytes, below which compressing saves no packet
# The largest file takes a fifth of a second at these levels, and seconds at the highest ones.
_ENCODINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "br": lambda content: brotli.compress(content, quality=5),
    "gzip": lambda content: gzip.compress(content, 6, mtime=0),
}


def init_app(app: Flask) -> None:
    """Version the static files of ``app``; in debug mode they change under it, and are not."""
    if app.static_folder is None or app.debug:
        return
    version = _version(Path(app.static_folder))

    def add_version(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == "static":
            values["filename"] = f"{version}/{values['filename']}"

    def send(filename: str) -> Response:
        first, _slash, rest = filename.partition("/")
        if first != version:
            return app.send_static_file(filename)
        response = _compressed(app, rest) or app.send_static_file(rest)
        if Path(rest).suffix in _TEXTS:
            response.vary.add("Accept-Encoding")
        response.cache_control.no_cache = None
        response.cache_control.public = True
        response.cache_control.max_age = _YEAR
        response.cache_control.immutable = True
        return response

    app.url_defaults(add_version)
    app.view_functions["static"] = send


def _compressed(app: Flask, name: str) -> Response | None:
    """The file in an encoding that the browser takes; None if it is to be sent as it is."""
    encoding = request.accept_encodings.best_match(_ENCODINGS)
    path = safe_join(str(app.static_folder), name)
    if encoding is None or path is None or "Range" in request.headers:
        return None
    if Path(path).suffix not in _TEXTS:
        return None
    try:
        content, tag = _encoded(path, encoding)
    except OSError as error:
        raise NotFound from error
    if content is None:
        return None
    response = app.response_class(content, mimetype=mimetypes.guess_type(path)[0])
    response.content_encoding = encoding
    response.set_etag(tag)
    response.make_conditional(request)
    return response


@lru_cache(maxsize=1000)
def _encoded(path: str, encoding: str) -> tuple[bytes | None, str]:
    """The content and its tag; the files of a version never change."""
    content = Path(path).read_bytes()
    if len(content) < _SMALL:
        return None, ""
    encoded = _ENCODINGS[encoding](content)
    return encoded, hashlib.sha256(encoded).hexdigest()[:_DIGITS]


@lru_cache
def _version(folder: Path) -> str:
    """Once a process, however many applications it makes."""
    return version_of(folder)


def version_of(folder: Path) -> str:
    """Hexadecimal digits that change with the name or the content of any file in ``folder``."""
    digest = hashlib.sha256()
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        digest.update(f"{path.relative_to(folder)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:_DIGITS]
