"""Alembic environment for the database that the Flask application is configured for."""

from alembic import context
from alembic.autogenerate.api import AutogenContext
from flask import current_app
from sqlalchemy import MetaData

from webapp.database import UtcDateTime


def render_item(kind: str, item: object, _context: AutogenContext) -> str | bool:
    """Write our column type as its SQLAlchemy type, so that migrations import none of our code."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def leave_out_empty_revision(_context: object, _revision: object, directives: list[object]) -> None:
    """Make `flask db migrate` write no file if nothing has changed."""
    script = directives[0]
    asked = getattr(context.config.cmd_opts, "autogenerate", False)
    if asked and script.upgrade_ops.is_empty():  # type: ignore[attr-defined]
        directives[:] = []


def run_migrations() -> None:
    """Migrate in one transaction, in batch mode because SQLite cannot alter most columns."""
    database = current_app.extensions["migrate"].db
    metadata: MetaData = database.metadata
    with database.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            # Batch mode alters a table by rebuilding it. With foreign keys on, dropping the old
            # table would delete the rows that refer to it. The pragma has no effect inside a
            # transaction, so it comes first.
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
            connection.commit()
        context.configure(
            connection=connection,
            target_metadata=metadata,
            render_as_batch=True,
            compare_type=True,
            render_item=render_item,
            process_revision_directives=leave_out_empty_revision,
        )
        with context.begin_transaction():
            context.run_migrations()
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA foreign_keys=ON")  # the pool reuses the connection


if context.is_offline_mode():
    raise SystemExit("Offline migrations are not offered: the database has to be reachable.")
run_migrations()
