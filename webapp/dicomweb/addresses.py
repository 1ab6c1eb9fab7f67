"""Addresses of studies, series and instances (PS3.18 10.1)."""

import re

from flask import url_for
from werkzeug.routing import BaseConverter

_UID = re.compile(r"[0-9][0-9.]{0,63}")


class UidConverter(BaseConverter):
    """A UID in an address; what is none leads nowhere."""

    regex = _UID.pattern


def is_uid(text: str) -> bool:
    """Whether the text could be a UID (PS3.5 9.1)."""
    return _UID.fullmatch(text) is not None


def study_url(study_uid: str) -> str:
    """Where a study is retrieved."""
    return url_for("dicomweb.retrieve", study_uid=study_uid, _external=True)


def series_url(study_uid: str, series_uid: str) -> str:
    """Where a series is retrieved."""
    return url_for("dicomweb.retrieve", study_uid=study_uid, series_uid=series_uid, _external=True)


def instance_url(study_uid: str, series_uid: str, uid: str) -> str:
    """Where an instance is retrieved."""
    return url_for(
        "dicomweb.retrieve", study_uid=study_uid, series_uid=series_uid, uid=uid, _external=True
    )
