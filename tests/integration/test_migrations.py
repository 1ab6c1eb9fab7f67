"""Migrations lead to what the models are, on both databases, and back."""

import flask_migrate
from flask import Flask
from sqlalchemy import inspect

from tests.factories import make_account, make_study
from webapp.accounts.models import Role
from webapp.database import db
from webapp.studies.models import Image, Study
from webapp.tenancy import unscoped


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


def test_earlier_studies_keep_their_images_and_answers_as_one_series(app: Flask) -> None:
    account = make_account(app, Role.CLINICIAN)
    ids = make_study(app, account)
    with app.app_context():
        db.session.remove()
        flask_migrate.downgrade(revision="0001")
        flask_migrate.upgrade()
        with unscoped():
            image = db.session.get_one(Image, ids.image_id)
            assert len(image.predictions) == 1
            assert image.series.study_id == ids.study_id
            assert db.session.get_one(Study, ids.study_id).left_out == {}
