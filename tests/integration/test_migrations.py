"""Migrations lead to what the models are, on both databases, and back."""

import flask_migrate
from flask import Flask
from sqlalchemy import inspect

from webapp.database import db


def tables() -> set[str]:
    return set(inspect(db.engine).get_table_names()) - {"alembic_version"}


def test_migrated_database_is_what_the_models_are(app: Flask) -> None:
    with app.app_context():
        flask_migrate.check()  # raises where a migration is missing
        assert tables() == set(db.metadata.tables)


def test_migrations_can_be_undone_and_done_again(app: Flask) -> None:
    with app.app_context():
        flask_migrate.downgrade(revision="base")
        assert not tables()
        flask_migrate.upgrade()
        assert tables() == set(db.metadata.tables)
