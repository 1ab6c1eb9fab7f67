"""The database: base class, column types, retries, and the settings of SQLite connections."""

import hashlib
import random
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    JSON,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Enum,
    ExceptionContext,
    Executable,
    MetaData,
    event,
    func,
    inspect,
    literal_column,
    select,
    table,
    text,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.types import TypeDecorator

from webapp.tenancy import LimitedSession

_TRIES = 10
_TRIES_LAST = 20.0  # seconds: SQLite alone waits half of that before it gives up once
# serialization_failure, deadlock_detected, lock_not_available; classes 57 and 08 mean that the
# server is unavailable.
_POSTGRES_BUSY = ("40001", "40P01", "55P03", "57", "08")
_MANY_NEW = 500  # rows of a table; fewer are read quickly by any plan
_POSTGRES_FULL = "53100"  # disk_full

Found = TypeVar("Found")


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC, timezone-aware on both databases; SQLite itself drops the time zone."""

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
    """Base of all models. Constraint names are fixed, so that migrations can refer to them."""

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
"""A random primary key: URLs that contain it reveal nothing and cannot be guessed."""


def now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)


class Timestamped:
    """Adds ``created_at``."""

    created_at: Mapped[datetime] = mapped_column(default=now)


def enum_column(kind: type[StrEnum], name: str) -> Enum:
    """A column type stored as text with a check constraint, the same on both databases."""
    return Enum(
        kind,
        native_enum=False,
        length=16,
        create_constraint=True,
        name=name,
        values_callable=lambda members: [member.value for member in members],
    )


# Models inherit from Base, not from db.Model, so that type checkers understand them.
db = SQLAlchemy(metadata=Base.metadata, session_options={"class_": LimitedSession})


def retried(work: Callable[[], Found]) -> Found:
    """Run a short transaction; retry it after a conflict, a lost race or a locked database.

    Args:
        work: reads everything that it depends on, writes and commits; the session is rolled
            back between attempts.

    Raises:
        DBAPIError, StaleDataError: from the last attempt, or at once if a retry cannot help.
    """
    deadline = time.monotonic() + _TRIES_LAST
    for number in range(1, _TRIES + 1):
        try:
            return work()
        except (DBAPIError, StaleDataError) as error:
            db.session.rollback()
            lost = isinstance(error, IntegrityError | StaleDataError) or is_busy(error)
            if not lost or number == _TRIES or time.monotonic() > deadline:
                raise
        # Random, so that two transactions that collided do not collide again.
        time.sleep(random.uniform(0, 0.02 * 2**number))  # noqa: S311
    raise AssertionError("the last try returns or raises")


def write_if_free(statement: Executable) -> None:
    """Do a small write and commit; skip it if the database is busy."""
    try:
        db.session.execute(statement)
        db.session.commit()
    except OperationalError:
        db.session.rollback()


def one_at_a_time(names: Iterable[str]) -> None:
    """Wait until no other transaction holds any of ``names``; hold them until this one ends.

    Objects loaded before may be stale by then, so the session reloads them.
    """
    connection = db.session.connection()
    if connection.dialect.name == "postgresql":
        for key in sorted({_lock_key(name) for name in names}):  # a fixed order avoids deadlocks
            connection.execute(select(func.pg_advisory_xact_lock(key)))
    elif not connection.connection.dbapi_connection.in_transaction:  # type: ignore[union-attr]
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # SQLite has only one writer
    db.session.expire_all()


def renew_statistics(connection: Connection) -> list[str]:
    """Let the database count again what its planner has to know, where that has changed much.

    PostgreSQL does so by itself, minutes later. SQLite never does, and without these numbers it
    takes an index of few values for as good as any.

    Returns:
        The tables that had changed.
    """
    if connection.dialect.name == "postgresql":
        return _analyze_postgresql(connection)
    return _analyze_sqlite(connection)


def _analyze_postgresql(connection: Connection) -> list[str]:
    changed = connection.scalars(
        text(
            "SELECT s.relname FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid"
            " WHERE s.schemaname = current_schema()"
            " AND s.n_mod_since_analyze > :some + greatest(c.reltuples, 0)"
        ),
        {"some": _MANY_NEW},
    ).all()
    connection.commit()
    with connection.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as apart:
        for name in changed:
            # With VACUUM, counts read an index alone, and need not look at each row.
            apart.exec_driver_sql(f'VACUUM (ANALYZE) "{name}"')
    return list(changed)


def _analyze_sqlite(connection: Connection) -> list[str]:
    known = _known_to_sqlite(connection)
    tables = connection.scalars(
        text(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
            " AND name NOT LIKE 'sqlite%' AND name NOT LIKE 'study_search%'"
        )
    ).all()
    last: Any = func.max(literal_column("rowid"))  # found at once, where a count reads the table
    changed = [
        name
        for name in tables
        if (connection.scalar(select(last).select_from(table(name))) or 0)
        > 2 * known.get(name, 0) + _MANY_NEW
    ]
    connection.commit()
    if changed:
        # A sample of each index: milliseconds, however large the tables are.
        connection.exec_driver_sql("PRAGMA analysis_limit=1000")
        for name in changed:
            connection.exec_driver_sql(f'ANALYZE "{name}"')
        # Other connections read the statistics again when the schema changes.
        connection.exec_driver_sql("CREATE TABLE statistics_changed (id INTEGER)")
        connection.exec_driver_sql("DROP TABLE statistics_changed")
    connection.exec_driver_sql("PRAGMA optimize")
    connection.commit()
    return changed


def _known_to_sqlite(connection: Connection) -> dict[str, int]:
    """Numbers of rows of tables, as the planner believes them."""
    if not inspect(connection).has_table("sqlite_stat1"):
        return {}
    known: dict[str, int] = {}
    for name, figures in connection.execute(text("SELECT tbl, stat FROM sqlite_stat1")):
        known[name] = max(known.get(name, 0), int(figures.split()[0]))
    return known


def _lock_key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def is_busy(error: Exception) -> bool:
    """Whether the database is locked or unavailable, or aborted this transaction in a conflict."""
    if not isinstance(error, DBAPIError):
        return False
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
    return error.connection_invalidated or _sqlstate(error).startswith(_POSTGRES_BUSY)


def is_full(error: Exception) -> bool:
    """Whether the database's disk is full."""
    if not isinstance(error, DBAPIError):
        return False
    code = getattr(error.orig, "sqlite_errorcode", None)
    return code == sqlite3.SQLITE_FULL or _sqlstate(error) == _POSTGRES_FULL


def _sqlstate(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


@event.listens_for(Engine, "connect")
def _configure_sqlite(connection: Any, _record: Any) -> None:
    if not type(connection).__module__.startswith("sqlite3"):
        return
    # SQLite's lower() knows only ASCII: a search for "ähnlich" has to find "Ähnlich".
    connection.create_function("lower", 1, _lower, deterministic=True)
    cursor = connection.cursor()
    # WAL: readers do not wait for the writer, and the worker writes beside the web process.
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()


@event.listens_for(Engine, "handle_error")
def _keep_values_out_of_texts(context: ExceptionContext) -> None:
    """Remove the values that PostgreSQL quotes: the text of an error may be logged."""
    original, wrapped = context.original_exception, context.sqlalchemy_exception
    state = getattr(original, "sqlstate", None)
    if state is None:
        return
    kind = f"{type(original).__module__}.{type(original).__name__}"
    text = str(original).partition("\n")[0]  # the rest: DETAIL: Key (email)=(…) already exists.
    if state.startswith("22"):  # data exceptions quote the value in the first line
        text = f"SQLSTATE {state}"
    original.args = (text,)
    if wrapped is not None:
        wrapped.args = (f"({kind}) {text}",)


def _lower(text: str | None) -> str | None:
    return None if text is None else str(text).lower()
