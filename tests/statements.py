"""What the application sends to the database."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from sqlalchemy import event

from webapp.database import db

Statement = tuple[str, Any]  # SQL and its values


@contextmanager
def sent_to_database(app: Flask) -> Iterator[list[Statement]]:
    """The statements of the block, in their order."""
    found: list[Statement] = []

    def note(_connection: object, _cursor: object, sql: str, values: Any, *_rest: object) -> None:
        found.append((sql, values))

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", note)
