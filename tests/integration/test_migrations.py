"""Migrations lead to what the models are, on both databases, and back."""

import flask_migrate
from flask import Flask
from sqlalchemy import inspect, select, text

from tests.factories import assess, make_account, make_study
from webapp.accounts.models import Organisation, Role
from webapp.database import db
from webapp.review.models import Assessment, Verdict
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


def test_earlier_feedback_becomes_assessments_of_the_analysis_that_was_seen(app: Flask) -> None:
    reader = make_account(app, Role.CLINICIAN)
    ids = make_study(app, reader, label="glioma")
    first = {"verdict": Verdict.DISAGREE, "label": "no_tumor", "comment": "first"}
    assess(app, reader, ids, **first)
    assess(app, reader, ids, comment="second", region=[[0, 0], [1, 0], [0.5, 1]])
    with app.app_context():
        db.session.remove()
        flask_migrate.downgrade(revision="0005")
        assert db.session.execute(text("SELECT count(*) FROM feedback")).scalar() == 2
        db.session.remove()
        flask_migrate.upgrade()
        with unscoped():
            earlier, current = db.session.scalars(
                select(Assessment).order_by(Assessment.created_at)
            )
            assert (earlier.label, earlier.comment) == ("no_tumor", "first")
            assert earlier.superseded_at is not None
            assert (current.comment, current.superseded_at) == ("second", None)
            assert current.region == {"points": [[0, 0], [1, 0], [0.5, 1]]}
            for one in (earlier, current):
                assert (one.study_id, one.image_id) == (ids.study_id, ids.image_id)
                assert (one.analysis_id, one.finding) == (ids.analysis_id, "")
            organisation = db.session.get_one(Organisation, reader.organisation_id)
            assert organisation.blind_reading


def test_what_the_old_table_has_no_place_for_goes_on_the_way_back(app: Flask) -> None:
    reader = make_account(app, Role.CLINICIAN)
    kept, lost = make_study(app, reader), make_study(app, reader)
    assess(app, reader, kept, comment="kept")
    assess(app, reader, lost, images=None)
    assess(app, reader, lost, verdict=Verdict.DISAGREE, label="other", finding="stroke")
    with app.app_context():
        db.session.remove()
        flask_migrate.downgrade(revision="0005")
        found = db.session.execute(text("SELECT comment FROM feedback")).scalars().all()
        assert found == ["kept"]
        db.session.remove()
        flask_migrate.upgrade()
