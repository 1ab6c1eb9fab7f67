"""Static files under addresses that change with them, so that browsers need not ask again.

The version is part of the path, ``/static/VERSION/js/app.js``: scripts and style sheets that name
one another by relative paths stay within it. Without a version, files are served as Flask does,
and revalidated.
"""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask import Flask, Response

_DIGITS = 12
_YEAR = 365 * 24 * 3600  # seconds


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
        response = app.send_static_file(rest)
        response.cache_control.no_cache = None
        response.cache_control.public = True
        response.cache_control.max_age = _YEAR
        response.cache_control.immutable = True
        return response

    app.url_defaults(add_version)
    app.view_functions["static"] = send


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
