"""Parse a QIDO-RS query (PS3.18 8.3.4) into SQL conditions on instances."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from flask_babel import gettext as _
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from sqlalchemy import ColumnElement, false, or_, select
from sqlalchemy.orm import InstrumentedAttribute, aliased
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import BadRequest

from webapp.studies.models import Instance

MOST_RESULTS = 1000
_MOST_UIDS = 500
_TAG = re.compile(r"[0-9a-fA-F]{8}")
_DATE_RANGE = re.compile(r"(\d{8})?(-)?(\d{8})?", re.ASCII)

# De-identification removes these, so only universal matching finds anything.
_NEVER_KEPT = {
    "AccessionNumber",
    "OtherPatientIDs",
    "PatientBirthDate",
    "ReferringPhysicianName",
    "StudyID",
}
# Attributes with an index that leads to few instances.
_KEYS = {
    "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID", "PatientName"
}  # fmt: skip


@dataclass
class Query:
    """A parsed query.

    Attributes:
        conditions: all must hold.
        fields: keywords of further attributes to return.
        everything: whether to return all available attributes.
        ignored: keywords that are not matched.
        is_keyed: a condition names studies, series, instances or a patient, of which there are few.
        is_dated: a condition is about the date of the study.
    """

    conditions: list[ColumnElement[bool]] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    everything: bool = False
    ignored: list[str] = field(default_factory=list)
    is_keyed: bool = False
    is_dated: bool = False
    limit: int = MOST_RESULTS
    offset: int = 0


def parse_query(arguments: MultiDict[str, str]) -> Query:
    """Parse the parameters of a query; raises 400 for invalid ones."""
    query = Query()
    for name, value in arguments.items(multi=True):
        if not value.isprintable():
            raise BadRequest(_("A query parameter is not valid."))
        match name:
            case "limit":
                query.limit = min(_whole_number(value), MOST_RESULTS)
            case "offset":
                query.offset = _whole_number(value)
            case "includefield":
                _include(query, value)
            case "fuzzymatching":
                if value.lower() == "true":
                    query.ignored.append(name)
            case "accept":
                pass  # webapp.dicomweb.media
            case _:
                _match(query, name, value)
    return query


def _include(query: Query, value: str) -> None:
    for text in value.split(","):
        if text.lower() == "all":
            query.everything = True
        elif text:
            query.fields.append(_keyword(text))


def _match(query: Query, name: str, value: str) -> None:
    keyword = _keyword(name)
    if value in {"", "*"}:
        return  # universal matching, PS3.4 C.2.2.2.3
    if condition := _CONDITIONS.get(keyword):
        query.conditions.append(condition(value))
        query.is_keyed |= keyword in _KEYS and not {"*", "?"} & set(value)
        query.is_dated |= keyword == "StudyDate"
    elif keyword in _NEVER_KEPT:
        query.conditions.append(false())
    else:
        query.ignored.append(keyword)


def _keyword(text: str) -> str:
    """The keyword of an attribute given by keyword or tag; raises 400 if there is none."""
    tag = int(text, 16) if _TAG.fullmatch(text) else tag_for_keyword(text)
    keyword = keyword_for_tag(tag) if tag is not None else ""
    if not keyword:
        raise BadRequest(_("A query parameter is not valid."))
    return keyword


def _whole_number(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 9):
        raise BadRequest(_("A query parameter is not valid."))
    return int(value)


def _uids(column: InstrumentedAttribute[str]) -> Callable[[str], ColumnElement[bool]]:
    """List of UID matching, PS3.4 C.2.2.2.2."""

    def condition(value: str) -> ColumnElement[bool]:
        wanted = [uid for uid in re.split(r"[,\\]", value) if uid]
        if len(wanted) > _MOST_UIDS:
            raise BadRequest(_("A query parameter is not valid."))
        return column.in_(wanted)

    return condition


def _text(column: InstrumentedAttribute[str]) -> Callable[[str], ColumnElement[bool]]:
    """Single value and wild card matching, PS3.4 C.2.2.2.1 and C.2.2.2.4."""

    def condition(value: str) -> ColumnElement[bool]:
        if not {"*", "?"} & set(value):
            return column == value
        pattern = re.sub(r"([\\%_])", r"\\\1", value).replace("*", "%").replace("?", "_")
        return column.like(pattern, escape="\\")

    return condition


def _patient_name(value: str) -> ColumnElement[bool]:
    """Match the name: it is the pseudonym, as a family name."""
    return _text(Instance.patient_code)(value.rstrip("^"))


def _number(column: InstrumentedAttribute[Any]) -> Callable[[str], ColumnElement[bool]]:
    def condition(value: str) -> ColumnElement[bool]:
        known = re.fullmatch(r"-?\d{1,9}", value, re.ASCII)
        return column == int(value) if known else false()

    return condition


def _dates(column: InstrumentedAttribute[date | None]) -> Callable[[str], ColumnElement[bool]]:
    """Range matching, PS3.4 C.2.2.2.5."""

    def condition(value: str) -> ColumnElement[bool]:
        found = _DATE_RANGE.fullmatch(value)
        if found is None or (found[2] is None and found[3] is not None):
            raise BadRequest(_("A query parameter is not valid."))
        first, last = _day(found[1]), _day(found[3])
        if not found[2]:
            return column == first
        conditions = []
        if first:
            conditions.append(column >= first)
        if last:
            conditions.append(column <= last)
        return conditions[0] if len(conditions) == 1 else conditions[0] & conditions[1]

    return condition


def _day(text: str | None) -> date | None:
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y%m%d").date()  # noqa: DTZ007 - a date has no zone
    except ValueError as error:
        raise BadRequest(_("A query parameter is not valid.")) from error


def _modalities_in_study(value: str) -> ColumnElement[bool]:
    """Match studies in which any series has one of the modalities."""
    other = aliased(Instance)
    modalities = [one for one in re.split(r"[,\\]", value) if one]
    matches = or_(*(_text(other.modality)(one) for one in modalities))
    there = select(other.id).where(other.study_uid == Instance.study_uid, matches)
    return there.correlate(Instance).exists()


_CONDITIONS: Mapping[str, Callable[[str], ColumnElement[bool]]] = {
    "StudyInstanceUID": _uids(Instance.study_uid),
    "SeriesInstanceUID": _uids(Instance.series_uid),
    "SOPInstanceUID": _uids(Instance.uid),
    "SOPClassUID": _uids(Instance.sop_class_uid),
    "AvailableTransferSyntaxUID": _uids(Instance.transfer_syntax_uid),
    "PatientID": _text(Instance.patient_code),
    "PatientName": _patient_name,
    "Modality": _text(Instance.modality),
    "ModalitiesInStudy": _modalities_in_study,
    "StudyDate": _dates(Instance.acquired_on),
    "InstanceNumber": _number(Instance.number),
    "Rows": _number(Instance.rows),
    "Columns": _number(Instance.columns),
    "NumberOfFrames": _number(Instance.frames),
}
