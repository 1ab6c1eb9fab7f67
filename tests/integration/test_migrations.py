"""Migrations lead to what the models are, on both databases, and back."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import flask_migrate
import pytest
from flask import Flask
from sqlalchemy import DateTime, MetaData, Table, Uuid, func, inspect, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from tests.factories import assess, make_account, make_study
from tests.unit.webapp.models_admin.candidates import promote, write_model
from webapp.accounts.models import Organisation, Role, User
from webapp.database import db
from webapp.inference.results import model_of, result_of
from webapp.inference.telling import Reason, TellingSlice
from webapp.models_admin.models import Deployment
from webapp.models_admin.serving import fault_of
from webapp.review.models import Assessment, Verdict
from webapp.studies.models import Analysis, Image, Status, Study
from webapp.tenancy import unscoped


def tables() -> set[str]:
    """All but Alembic's own, and those that SQLite keeps the index of texts in."""
    found = set(inspect(db.engine).get_table_names()) - {"alembic_version"}
    return {name for name in found if not name.startswith("study_search")}


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


@dataclass
class OldStudy:
    """A study as it was before analyses, written row by row."""

    organisation_id: uuid.UUID
    user_id: uuid.UUID
    status: str = "done"
    label: str | None = "glioma"
    images: int = 3
    jobs: Sequence[str] = ("done",)
    models: Sequence[str] = ("a",)
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    image_ids: list[uuid.UUID] = field(default_factory=list)

    def write(self) -> None:
        """Insert it and all that belongs to it."""
        day = datetime(2026, 3, 1, tzinfo=UTC)
        patient = uuid.uuid4()
        chances = {"glioma": 0.9, "meningioma": 0.05, "no_tumor": 0.03, "pituitary": 0.02}
        self._insert("patient", id=patient, code=self.id.hex[:8], created_at=day)
        self.image_ids = [uuid.uuid4() for _n in range(self.images)]
        self._insert(
            "study", id=self.id, patient_id=patient, uploaded_by_id=self.user_id, description="",
            priority="routine", status=self.status, created_at=day, left_out={},
            label=self.label, probabilities=chances if self.label else None,
            prediction_set=[self.label] if self.label else None,
            in_distribution=True if self.label else None,
            finished_at=day + timedelta(hours=1) if self.status == "done" else None,
            dissenting_image_ids=[str(self.image_ids[1])] if self.label else None,
        )  # fmt: skip
        self._insert(
            "series", id=self.id, study_id=self.id, position=0, is_volume=self.images > 2,
            missing=0, duplicates=0, created_at=day,
        )  # fmt: skip
        for number, key in enumerate(self.image_ids):
            self._insert(
                "image", id=key, study_id=self.id, series_id=self.id, position=number,
                blob_key="0" * 64, source_format="PNG", frame=0, width=64, height=64,
                value_scale=1.0, value_offset=0.0, created_at=day,
            )  # fmt: skip
        for number, status in enumerate(self.jobs):
            self._insert(
                "inference_job", id=uuid.uuid4(), study_id=self.id, status=status, attempt=1,
                images_total=self.images, images_done=self.images, sent_at=day,
                created_at=day + timedelta(minutes=number),
                finished_at=day + timedelta(hours=1) if status == "done" else None,
            )  # fmt: skip
        for number, name in enumerate(self.models):
            model = uuid.uuid5(uuid.NAMESPACE_URL, name)
            known = select(func.count()).where(table("model_version").c.id == model)
            if not db.session.scalar(known):
                self._insert(
                    "model_version", id=model, name=name, sha256=name * 64, card={}, created_at=day
                )
            for key in self.image_ids:
                said = uuid.uuid4()
                self._insert(
                    "prediction", id=said, image_id=key, model_version_id=model, label="glioma",
                    probabilities=chances, prediction_set=["glioma"], in_distribution=True,
                    ood_score=0.1, quality=[], created_at=day + timedelta(minutes=number),
                )  # fmt: skip
                self._insert(
                    "feedback", id=uuid.uuid4(), image_id=key, prediction_id=said,
                    reader_id=self.user_id, verdict="agree", label="glioma", comment="",
                    created_at=day,
                    superseded_at=None if name == self.models[-1] else day,
                )  # fmt: skip

    def _insert(self, into: str, /, **values: object) -> None:
        rows = table(into)
        if "organisation_id" in rows.c:
            values["organisation_id"] = self.organisation_id
        db.session.execute(rows.insert().values(**values))


def table(name: str) -> Table:
    """A table as it is in the database now, whatever the models say."""
    reflected = Table(name, MetaData(), autoload_with=db.session.connection())
    for column in reflected.columns:  # SQLite knows neither of these
        if column.name == "id" or column.name.endswith("_id"):
            column.type = Uuid()
        elif column.name.endswith("_at"):
            column.type = DateTime(timezone=True)
    return reflected


def count(name: str) -> int:
    return db.session.scalar(select(func.count()).select_from(table(name))) or 0


def test_answers_and_predictions_from_before_analyses_are_all_kept(app: Flask) -> None:
    account = make_account(app, Role.CLINICIAN)
    with app.app_context():
        db.session.remove()
        flask_migrate.downgrade(revision="0004")
        make = partial(OldStudy, account.organisation_id, account.id)
        done = make()
        again = make(jobs=("done", "done"), models=("a", "b"))
        moved_on = make(jobs=("done",), models=("a", "b", "c"))
        overtaken = make(status="queued", label=None, jobs=("running", "queued"), models=())
        failed = make(status="failed", label=None, jobs=("failed",), models=())
        every = (done, again, moved_on, overtaken, failed)
        with unscoped():
            for one in every:
                one.write()
            db.session.commit()
            kept = {name: count(name) for name in ("study", "image", "prediction")}
            assessed = count("feedback")
            db.session.rollback()
        db.session.remove()
        flask_migrate.upgrade()
        with unscoped():
            assert {name: count(name) for name in kept} == kept
            assert count("assessment") == assessed
            found = {one.id: db.session.get_one(Study, one.id) for one in every}
            for one in (done, again, moved_on):
                result = result_of(found[one.id])
                assert result is not None
                assert (result.label, result.key_images) == ("glioma", (one.image_ids[0],))
                assert result.contradicting == {one.image_ids[1]: "glioma"}
                model = model_of(found[one.id])
                assert model is not None
                assert model.name == one.models[-1]
                assert all(image.prediction for image in found[one.id].images)
                assert found[one.id].series[0].is_stack
            named = [
                one.model_version and one.model_version.name for one in found[moved_on.id].analyses
            ]
            assert named == ["a", "b", "c"]
            states = [one.status.value for one in found[overtaken.id].analyses]
            assert states == ["superseded", "queued"]
            assert found[overtaken.id].status is Status.QUEUED
            assert found[failed.id].status is Status.FAILED


def test_earlier_feedback_becomes_assessments_of_the_analysis_that_was_seen(app: Flask) -> None:
    reader = make_account(app, Role.CLINICIAN)
    ids = make_study(app, reader, label="glioma")
    first = {"verdict": Verdict.DISAGREE, "label": "no_tumor", "comment": "first"}
    assess(app, reader, ids, **first)
    assess(app, reader, ids, comment="second", region=[[0, 0], [1, 0], [0.5, 1]])
    with app.app_context():
        db.session.remove()
        flask_migrate.downgrade(revision="0007")
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
        flask_migrate.downgrade(revision="0007")
        found = db.session.execute(text("SELECT comment FROM feedback")).scalars().all()
        assert found == ["kept"]
        db.session.remove()
        flask_migrate.upgrade()


def test_stewards_are_allowed_by_the_database_and_become_reviewers_on_the_way_back(
    app: Flask,
) -> None:
    steward = make_account(app, Role.STEWARD)
    with app.app_context():
        for of in ("user", "invitation"):
            found = inspect(db.engine).get_check_constraints(of)
            (roles,) = [one["sqltext"] for one in found if one["name"] == f"ck_{of}_role"]
            assert "steward" in roles
        with pytest.raises(IntegrityError):
            db.session.execute(text("UPDATE \"user\" SET role = 'emperor'"))
        db.session.remove()
        flask_migrate.downgrade(revision="0011")
        assert db.session.execute(text('SELECT role FROM "user"')).scalar() == "reviewer"
        db.session.remove()
        flask_migrate.upgrade()
        with unscoped():
            assert db.session.get_one(User, steward.id).role is Role.REVIEWER


def test_of_earlier_assessments_the_first_of_a_slice_counts_as_blind(app: Flask) -> None:
    first, second = make_account(app, Role.CLINICIAN), make_account(app, Role.CLINICIAN)
    ids = make_study(app, first)
    for reader in (first, second):
        assess(app, reader, ids)
    with app.app_context():
        db.session.remove()
        flask_migrate.downgrade(revision="0011")
        flask_migrate.upgrade()
        with unscoped():
            ordered = select(Assessment.blind).order_by(Assessment.created_at)
            assert db.session.scalars(ordered).all() == [True, False]


def test_deployments_are_kept_and_still_refuse_changes_where_trials_come(
    app: Flask, tmp_path: Path
) -> None:
    one, other = (make_account(app, Role.STEWARD) for _each in range(2))
    promote(app, one, other, write_model(tmp_path / "model"))
    ids = make_study(app, one)
    with app.app_context():
        db.session.remove()
        flask_migrate.downgrade(revision="0015")
        flask_migrate.upgrade()
        with unscoped():
            (row,) = db.session.scalars(select(Deployment)).all()
            assert fault_of(row) is None
            assert db.session.get_one(Image, ids.image_id).prediction is not None
        with pytest.raises(DBAPIError, match="only ever added"):
            db.session.execute(text("DELETE FROM deployment"))


def test_slices_worth_a_look_are_found_in_earlier_analyses(app: Flask) -> None:
    account = make_account(app, Role.CLINICIAN)
    ids = make_study(app, account, label="glioma", further=["meningioma", "glioma"])
    with app.app_context():
        with unscoped():
            analysis = db.session.get_one(Analysis, ids.analysis_id)
            first, second, third = sorted(analysis.predictions, key=lambda one: one.image.position)
            first.prediction_set, third.prediction_set = ["glioma", "pituitary"], []
            third.in_distribution = False
            analysis.label, analysis.contradicting_images = "glioma", {str(second.image_id): "x"}
            expected = {
                (Reason.UNCERTAIN, first.image_id),
                (Reason.UNFAMILIAR, third.image_id),
                (Reason.CONTRADICTING, second.image_id),
            }
            db.session.commit()
        db.session.remove()
        flask_migrate.downgrade(revision="0015")
        flask_migrate.upgrade()
        with unscoped():
            rows = db.session.scalars(select(TellingSlice)).all()
            assert expected <= {(row.reason, row.image_id) for row in rows}
            assert {row.analysis_id for row in rows} == {ids.analysis_id}
