"""Content negotiation: media types and transfer syntaxes (PS3.18 8.7)."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.request import parse_http_list

from flask import request
from flask_babel import gettext as _
from pydicom.uid import ExplicitVRLittleEndian
from werkzeug.exceptions import NotAcceptable
from werkzeug.http import parse_options_header

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
OCTETS = "application/octet-stream"
AS_STORED = "*"
_UNQUOTED = re.compile(r"(;\s*type)=([^\s\";,]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Wanted:
    """One entry of the Accept header; ``part_type`` is its ``type`` parameter."""

    media_type: str
    part_type: str | None = None
    transfer_syntax: str | None = None
    quality: float = 1.0


@dataclass(frozen=True)
class Representation:
    """The form of the response: multipart or a single part, and its transfer syntaxes.

    ``syntaxes`` may contain :data:`AS_STORED`.
    """

    multipart: bool
    syntaxes: frozenset[str]


def wanted() -> list[Wanted]:
    """What the client accepts, highest quality value first."""
    header = request.args.get("accept") or request.headers.get("Accept") or "*/*"
    found = [_entry(text) for text in parse_http_list(header)]
    return sorted((one for one in found if one.quality > 0), key=lambda one: -one.quality)


def check_json() -> None:
    """Raise 406 if the client does not accept DICOM JSON."""
    if not any(_fits(one.media_type, (DICOM_JSON, "application/json")) for one in wanted()):
        raise _not_acceptable(DICOM_JSON)


def delivery(part_type: str, *, alone: bool) -> Representation:
    """Choose how to send parts of a media type.

    Args:
        alone: there is only one part, which may be sent without multipart.

    Raises:
        NotAcceptable: the client accepts neither form.
    """
    first: bool | None = None
    syntaxes: set[str] = set()
    for one in wanted():
        multipart = _as_multipart(one, part_type)
        if multipart is None or not (multipart or alone):
            continue
        first = multipart if first is None else first
        if multipart is first:
            syntaxes.add(one.transfer_syntax or ExplicitVRLittleEndian)
    if first is None:
        raise _not_acceptable(f'multipart/related; type="{part_type}"')
    return Representation(first, frozenset(syntaxes))


def image_type(offered: Collection[str]) -> str:
    """The client's preferred media type among those offered; raises 406 if it accepts none."""
    for one in wanted():
        for each in offered:
            if _fits(one.media_type, (each,)):
                return each
    raise _not_acceptable(", ".join(offered))


def parse_media_type(text: str) -> tuple[str, dict[str, str]]:
    """A media type and its parameters.

    Many programs send ``type=application/dicom`` unquoted, against RFC 2045 5.1, as in the
    examples of older editions of PS3.18; such a value is read up to the next parameter.
    """
    return parse_options_header(_UNQUOTED.sub(r'\1="\2"', text))


def _entry(text: str) -> Wanted:
    media_type, options = parse_media_type(text)
    try:
        quality = float(options.get("q", "1"))
    except ValueError:
        quality = 0.0
    part_type = options.get("type")
    return Wanted(
        media_type=media_type.lower(),
        part_type=part_type.lower() if part_type else None,
        transfer_syntax=options.get("transfer-syntax"),
        quality=quality,
    )


def _as_multipart(one: Wanted, part_type: str) -> bool | None:
    """True for a multipart response with such parts, False for a single part, None for neither."""
    if one.media_type in {"multipart/related", "multipart/*", "*/*"}:
        return True if one.part_type in {None, part_type, "*/*"} else None
    return False if one.media_type == part_type else None


def _fits(media_type: str, offered: Collection[str]) -> bool:
    kinds = {each.partition("/")[0] + "/*" for each in offered}
    return media_type == "*/*" or media_type in offered or media_type in kinds


def _not_acceptable(offered: str) -> NotAcceptable:
    return NotAcceptable(_("This is available only as %(types)s.", types=offered))
