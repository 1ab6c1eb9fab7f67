"""Parse the query strings of the study lists."""

import re
import uuid
from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from typing import TypeVar, get_args

from ml.labels import INDEX
from webapp.errors import InvalidInput
from webapp.studies.models import Priority, Status
from webapp.studies.paging import Cursor
from webapp.worklist.queries import AssessmentFilter, HistoryFilters, WorklistFilters

Choice = TypeVar("Choice", bound=StrEnum)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def worklist_filters(query: Mapping[str, str]) -> WorklistFilters:
    """Read the worklist's filters; invalid values are ignored."""
    return WorklistFilters(
        status=_choice(Status, query.get("status")),
        priority=_choice(Priority, query.get("priority")),
        mine=query.get("mine") in {"1", "true", "on"},
    )


def history_filters(query: Mapping[str, str]) -> HistoryFilters:
    """Read the history's filters; invalid values are ignored."""
    return HistoryFilters(
        q=query.get("q", "").replace("\0", "").strip()[:200],
        label=query["label"] if query.get("label") in INDEX else None,
        status=_choice(Status, query.get("status")),
        uploader=_identifier(query.get("uploader")),
        assessed=_assessed(query.get("feedback")),
        since=_day(query.get("from")),
        until=_day(query.get("to")),
    )


def history_query(filters: HistoryFilters) -> dict[str, str]:
    """The filters as parameters of a URL."""
    values = {
        "q": filters.q,
        "label": filters.label,
        "status": filters.status,
        "uploader": filters.uploader,
        "feedback": filters.assessed,
        "from": filters.since,
        "to": filters.until,
    }
    return {name: str(value) for name, value in values.items() if value}


def page_cursor(query: Mapping[str, str]) -> Cursor | None:
    """The cursor of the requested page; an invalid one means the first page."""
    try:
        return Cursor.parse(query["before"]) if query.get("before") else None
    except InvalidInput:
        return None


def _choice(kind: type[Choice], value: str | None) -> Choice | None:
    return kind(value) if value in {member.value for member in kind} else None


def _identifier(value: str | None) -> uuid.UUID | None:
    try:
        return uuid.UUID(value) if value else None
    except ValueError:
        return None


def _assessed(value: str | None) -> AssessmentFilter | None:
    return next((choice for choice in get_args(AssessmentFilter) if choice == value), None)


def _day(value: str | None) -> date | None:
    try:
        return date.fromisoformat(value) if value and _DAY.fullmatch(value) else None
    except ValueError:
        return None
