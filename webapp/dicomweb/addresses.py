"""Addresses of studies, series and instances (PS3.18 10.1)."""

import re
from typing import Any

from flask import url_for
from werkzeug.routing import BaseConverter

from webapp.extensions import current_settings

_UID = re.compile(r"[0-9][0-9.]{0,63}")


class UidConverter(BaseConverter):
    """A UID in an address; what is none leads nowhere."""

    regex = _UID.pattern


def is_uid(text: str) -> bool:
    """Whether the text could be a UID (PS3.5 9.1)."""
    return _UID.fullmatch(text) is not None


def study_url(study_uid: str) -> str:
    """Where a study is retrieved."""
    return _address(study_uid=study_uid)


def series_url(study_uid: str, series_uid: str) -> str:
    """Where a series is retrieved."""
    return _address(study_uid=study_uid, series_uid=series_uid)


def instance_url(study_uid: str, series_uid: str, uid: str) -> str:
    """Where an instance is retrieved."""
    return _address(study_uid=study_uid, series_uid=series_uid, uid=uid)


def _address(**uids: Any) -> str:
    """Under the public address, else relative: a caller's Host header is repeated nowhere."""
    return current_settings().public_url + url_for("dicomweb.retrieve", **uids)
