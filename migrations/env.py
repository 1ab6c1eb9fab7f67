"""Alembic environment for the database that the Flask application is configured for."""

from typing import Any

from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.ddl.sqlite import SQLiteImpl
from flask import current_app
from sqlalchemy import MetaData, Table, text

from webapp.database import UtcDateTime, renew_statistics

_REBUILT = "_alembic_tmp_"
_SEARCH = "study_search"
_SEARCH_INDEX = "ix_study_listing_text"


class KeepsTriggers(SQLiteImpl):
    """SQLite's part of Alembic, which keeps the triggers of a table that batch mode rebuilds."""

    __dialect__ = "sqlite"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._triggers: dict[str, list[str]] = {}

    def drop_table(self, table: Table, **options: Any) -> None:
        """Drop it, and remember its triggers in case it comes back."""
        found = text("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :name")
        rows = self._exec(found.bindparams(name=table.name))
        self._triggers[table.name] = list(rows.scalars()) if rows else []
        super().drop_table(table, **options)

    def rename_table(self, old_table_name: str, new_table_name: Any, schema: Any = None) -> None:
        """Rename it; the rebuilt table gets the triggers of the one whose name it takes."""
        if not old_table_name.startswith(_REBUILT):
            super().rename_table(old_table_name, new_table_name, schema)
            return
        # Triggers of other tables name this one, which is not there right now.
        self._exec(text("PRAGMA legacy_alter_table=ON"))
        super().rename_table(old_table_name, new_table_name, schema)
        self._exec(text("PRAGMA legacy_alter_table=OFF"))
        for statement in self._triggers.pop(str(new_table_name), []):
            self._exec(text(statement.replace(":", "\\:")))


def is_in_models(name: str | None, kind: str, _parents: object) -> bool:
    """Leave out what only one of the databases has: the index of texts (migration 0021)."""
    if kind == "table":
        return not (name or "").startswith(_SEARCH)
    return not (kind == "index" and name == _SEARCH_INDEX)


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
            include_name=is_in_models,
            process_revision_directives=leave_out_empty_revision,
        )
        with context.begin_transaction():
            context.run_migrations()
        renew_statistics(connection)
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA foreign_keys=ON")  # the pool reuses the connection


if context.is_offline_mode():
    raise SystemExit("Offline migrations are not offered: the database has to be reachable.")
run_migrations()
