"""The database: base class, column types and the SQLite settings that every connection gets."""

import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import JSON, DateTime, Dialect, Engine, Enum, ExceptionContext, MetaData, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from webapp.tenancy import LimitedSession


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, aware on both databases; SQLite itself would forget the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("a moment without a time zone cannot be stored")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Names of constraints are fixed, so that migrations can change them on both databases."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        datetime: UtcDateTime(),
        dict[str, Any]: JSON(),
        dict[str, float]: JSON(),
        dict[str, int]: JSON(),
        dict[str, str]: JSON(),
        list[str]: JSON(),
        list[float]: JSON(),
    }


Identifier = Annotated[uuid.UUID, mapped_column(primary_key=True, default=uuid.uuid4)]
"""A random primary key: addresses that hold it tell nothing and cannot be guessed."""


def now() -> datetime:
    """The current moment in UTC."""
    return datetime.now(UTC)


class Timestamped:
    """Adds ``created_at``."""

    created_at: Mapped[datetime] = mapped_column(default=now)


def enum_column(kind: type[StrEnum], name: str) -> Enum:
    """Stored as text with a check, the same on both databases."""
    return Enum(
        kind,
        native_enum=False,
        length=16,
        create_constraint=True,
        name=name,
        values_callable=lambda members: [member.value for member in members],
    )


# Models inherit from Base and not from db.Model, so that type checkers understand them.
db = SQLAlchemy(metadata=Base.metadata, session_options={"class_": LimitedSession})


@event.listens_for(Engine, "connect")
def _configure_sqlite(connection: Any, _record: Any) -> None:
    if not type(connection).__module__.startswith("sqlite3"):
        return
    # SQLite's own knows ASCII alone: a search for "ähnlich" has to find "Ähnlich".
    connection.create_function("lower", 1, _lower, deterministic=True)
    cursor = connection.cursor()
    # Readers do not wait for the writer, and the worker writes beside the web process.
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()


@event.listens_for(Engine, "handle_error")
def _keep_values_out_of_texts(context: ExceptionContext) -> None:
    """PostgreSQL repeats the values that it refuses; the text of an error may go to a log."""
    original, wrapped = context.original_exception, context.sqlalchemy_exception
    state = getattr(original, "sqlstate", None)
    if state is None:
        return
    kind = f"{type(original).__module__}.{type(original).__name__}"
    text = str(original).partition("\n")[0]  # behind it: DETAIL: Key (email)=(…) already exists.
    if state.startswith("22"):  # data exceptions quote the value at once
        text = f"SQLSTATE {state}"
    original.args = (text,)
    if wrapped is not None:
        wrapped.args = (f"({kind}) {text}",)


def _lower(text: str | None) -> str | None:
    return None if text is None else str(text).lower()
