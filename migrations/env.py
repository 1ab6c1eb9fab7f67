"""Alembic's environment: migrates the database that the Flask application is configured for."""

from alembic import context
from alembic.autogenerate.api import AutogenContext
from flask import current_app
from sqlalchemy import MetaData

from webapp.database import UtcDateTime


def render_item(kind: str, item: object, _context: AutogenContext) -> str | bool:
    """Write our own column type as what it is in the database; migrations outlive our modules."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def leave_out_empty_revision(_context: object, _revision: object, directives: list[object]) -> None:
    """`flask db migrate` writes no file where nothing has changed."""
    script = directives[0]
    asked = getattr(context.config.cmd_opts, "autogenerate", False)
    if asked and script.upgrade_ops.is_empty():  # type: ignore[attr-defined]
        directives[:] = []


def run_migrations() -> None:
    """Run inside one transaction, in batch mode so that SQLite can alter tables."""
    database = current_app.extensions["migrate"].db
    metadata: MetaData = database.metadata
    with database.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            # A table is altered by building it anew. With foreign keys on, dropping the old one
            # would delete the rows that refer to it. Outside a transaction, or it has no effect.
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
            connection.exec_driver_sql("PRAGMA foreign_keys=ON")  # it goes back to the pool


if context.is_offline_mode():
    raise SystemExit("Offline migrations are not offered: the database has to be reachable.")
run_migrations()
