"""Cursors for lists sorted from new to old, as opaque words in URLs."""

import base64
import binascii
import re
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, Self, TypeVar

from flask_babel import gettext as _
from sqlalchemy import ColumnElement, and_, or_
from sqlalchemy.orm import InstrumentedAttribute

from webapp.errors import InvalidInput

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAYOUT = struct.Struct(">q16s")  # microseconds since 1970, identifier
CURSOR = re.compile(r"^A[A-Za-z0-3][A-Za-z0-9_-]{30}$")
"""Pattern of cursors until the year 9950; every match can be parsed."""


class _Listed(Protocol):
    @property
    def id(self) -> uuid.UUID: ...
    @property
    def created_at(self) -> datetime: ...


Row = TypeVar("Row", bound=_Listed)


@dataclass(frozen=True)
class Cursor:
    """The last row of a page; the next page starts after it. Not signed: it grants no access."""

    created_at: datetime
    id: uuid.UUID

    @classmethod
    def after(cls, row: _Listed) -> Self:
        """The cursor of the page after ``row``."""
        return cls(row.created_at, row.id)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the output of :meth:`__str__`.

        Raises:
            InvalidInput: ``text`` is not a cursor.
        """
        try:
            micros, identifier = _LAYOUT.unpack(base64.b64decode(text, b"-_", validate=True))
            return cls(_EPOCH + timedelta(microseconds=micros), uuid.UUID(bytes=identifier))
        except (ValueError, OverflowError, binascii.Error, struct.error) as error:
            message = _("This cursor was not issued by the portal.")
            raise InvalidInput(message, fields={"cursor": message}) from error

    def __str__(self) -> str:
        micros = (self.created_at - _EPOCH) // timedelta(microseconds=1)
        return base64.urlsafe_b64encode(_LAYOUT.pack(micros, self.id.bytes)).decode("ascii")

    def condition(
        self,
        created_at: InstrumentedAttribute[datetime],
        identifier: InstrumentedAttribute[uuid.UUID],
    ) -> ColumnElement[bool]:
        """The condition for rows after this one, given a model's two columns."""
        # Not one "or" for everything: an index can begin at the time.
        return and_(
            created_at <= self.created_at,
            or_(created_at < self.created_at, identifier < self.id),
        )


def cut(rows: Sequence[Row], size: int) -> tuple[list[Row], str | None]:
    """Cut rows, read with one more than ``size``, to a page and the next page's cursor."""
    page = list(rows[:size])
    return page, str(Cursor.after(page[-1])) if page and len(rows) > size else None
