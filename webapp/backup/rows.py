"""Rows of a table as lines of JSON, the same for both databases, and back.

Values keep their exact meaning: times with their zone, floats digit by digit, and JSON columns as
the text that the database has, since NULL and JSON's own ``null`` are different values there.
"""

import base64
import gzip
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Column, Connection, Table, Text, TypeDecorator, bindparam, cast, null

_AT_ONCE = 1000  # rows of one statement
_READ: Mapping[type, Callable[[Any], Any]] = {
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    uuid.UUID: uuid.UUID,
    bytes: base64.b64decode,
}


def write_rows(connection: Connection, table: Table, path: Path) -> int:
    """Write all rows of a table to a gzipped file; return how many.

    Args:
        connection: inside the transaction whose view of the database is to be kept.
    """
    columns = [
        cast(column, Text).label(column.name) if isinstance(column.type, JSON) else column
        for column in table.columns
    ]
    statement = table.select().with_only_columns(*columns)
    count = 0
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=3) as file:
        for row in connection.execution_options(yield_per=_AT_ONCE).execute(statement):
            file.write(json.dumps([_plain(value) for value in row]) + "\n")
            count += 1
    return count


def read_rows(connection: Connection, table: Table, path: Path) -> int:
    """Insert the rows of a file that :func:`write_rows` wrote; return how many.

    Columns that point at rows of the same table, or around a circle of tables, stay NULL until
    :func:`link_rows`.
    """
    later = {column.name for column in late_columns(table)}
    count = 0
    for rows in _chunks(_values(table, path)):
        connection.execute(
            table.insert(),
            [
                {name: None if name in later else value for name, value in row.items()}
                for row in rows
            ],
        )
        count += len(rows)
    return count


def link_rows(connection: Connection, table: Table, path: Path) -> None:
    """Fill the columns that :func:`read_rows` left out; call it once all rows are there."""
    for column in late_columns(table):
        (key,) = table.primary_key.columns
        statement = (
            table.update()
            .where(key == bindparam("_key"))
            .values({column.name: bindparam("_value", type_=column.type)})
        )
        links = (
            {"_key": row[key.name], "_value": row[column.name]}
            for row in _values(table, path)
            if row[column.name] is not None
        )
        for some in _chunks(links):
            connection.execute(statement, some)


def late_columns(table: Table) -> list[Column[Any]]:
    """Columns whose rows may come later than the row that names them."""
    return [
        column
        for column in table.columns
        for key in column.foreign_keys
        if key.use_alter or key.column.table is table
    ]


def _values(table: Table, path: Path) -> Iterator[dict[str, Any]]:
    columns = list(table.columns)
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            plain = json.loads(line)
            yield {
                column.name: _typed(column, value)
                for column, value in zip(columns, plain, strict=True)
            }


def _plain(value: object) -> object:
    match value:
        case datetime() | date():
            return value.isoformat()
        case uuid.UUID():
            return str(value)
        case bytes():
            return base64.b64encode(value).decode()
    return value


def _typed(column: Column[Any], value: Any) -> Any:
    if isinstance(column.type, JSON):
        if value is None:
            return null()
        return JSON.NULL if value == "null" else json.loads(value)
    if value is None:
        return None
    kind = column.type.impl_instance if isinstance(column.type, TypeDecorator) else column.type
    read = _READ.get(kind.python_type)
    return read(value) if read else value


def _chunks(rows: Iterator[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    while some := list(islice(rows, _AT_ONCE)):
        yield some
