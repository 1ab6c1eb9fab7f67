"""URLs of studies, series and instances (PS3.18 10.1)."""

import re
from typing import Any

from flask import url_for
from werkzeug.routing import BaseConverter

from webapp.extensions import current_settings

_UID = re.compile(r"[0-9][0-9.]{0,63}")


class UidConverter(BaseConverter):
    """A UID in a URL; other text gives 404."""

    regex = _UID.pattern


def is_uid(text: str) -> bool:
    """Whether the text has the characters and length of a UID (PS3.5 9.1)."""
    return _UID.fullmatch(text) is not None


def study_url(study_uid: str) -> str:
    """The URL that retrieves a study."""
    return _address(study_uid=study_uid)


def series_url(study_uid: str, series_uid: str) -> str:
    """The URL that retrieves a series."""
    return _address(study_uid=study_uid, series_uid=series_uid)


def instance_url(study_uid: str, series_uid: str, uid: str) -> str:
    """The URL that retrieves an instance."""
    return _address(study_uid=study_uid, series_uid=series_uid, uid=uid)


def _address(**uids: Any) -> str:
    """Absolute with ``public_url``, else relative: a client's Host header is never repeated."""
    return current_settings().public_url + url_for("dicomweb.retrieve", **uids)
