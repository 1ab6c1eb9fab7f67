"""What the database keeps for lists says what the studies say, whatever happens to them."""

import uuid
from collections import Counter
from collections.abc import Callable

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from flask import Flask
from sqlalchemy import inspect, select, text

from tests.factories import Account, StudyIds, assess, make_study
from tests.unit.webapp.worklist.test_history import add_studies
from webapp import database
from webapp.accounts.queries import find_user_by_address
from webapp.corrections.moving import NewStudy, move_images
from webapp.corrections.operations import (
    Correction,
    Deletion,
    DeletionReason,
    correct_study,
    delete_study,
)
from webapp.database import db, renew_statistics
from webapp.inference.analyses import claim_analysis, fail_analysis, request_analysis
from webapp.review.models import Assessment, Verdict
from webapp.studies import listing
from webapp.studies.listing import (
    SEPARATOR,
    StudyListing,
    StudyTally,
    contains,
    index_texts,
    merge_tallies,
    status_counts,
)
from webapp.studies.models import Priority, Status, Study
from webapp.studies.queries import find_study, images_of
from webapp.tenancy import acting_for, unscoped

MakeUser = Callable[..., Account]


def kept() -> dict[uuid.UUID, tuple[object, ...]]:
    """What lists see, by study."""
    return {
        row.study_id: (
            row.organisation_id, row.created_at, row.uploaded_by_id, row.patient_id, row.priority,
            row.status, row.label, row.text, row.agreeing, row.disagreeing, row.unsure,
        )
        for row in db.session.scalars(
            select(StudyListing).execution_options(populate_existing=True)
        )
    }  # fmt: skip


def true() -> dict[uuid.UUID, tuple[object, ...]]:
    """The same, read from the studies themselves."""
    said = Counter(
        db.session.execute(
            select(Assessment.study_id, Assessment.verdict).where(
                Assessment.superseded_at.is_(None)
            )
        )
    )
    return {
        study.id: (
            study.organisation_id, study.created_at, study.uploaded_by_id, study.patient_id,
            study.priority, study.status,
            study.current_analysis.label if study.status is Status.DONE else None,
            f"{study.patient.code}{SEPARATOR}{study.description}".lower(),
            *(said[study.id, verdict] for verdict in Verdict),
        )
        for study in db.session.scalars(select(Study).execution_options(populate_existing=True))
    }  # fmt: skip


def check() -> None:
    """Compare both, and the numbers of studies."""
    db.session.rollback()
    with unscoped():
        assert kept() == true()
        found: Counter[tuple[object, ...]] = Counter()
        for row in db.session.scalars(select(StudyTally).execution_options(populate_existing=True)):
            found[row.organisation_id, row.uploaded_by_id, row.priority, row.status] += row.amount
        counted = Counter(
            (one.organisation_id, one.uploaded_by_id, one.priority, one.status)
            for one in db.session.scalars(select(Study))
        )
        assert +found == counted
        assert all(amount >= 0 for amount in found.values())
        db.session.rollback()


def test_listing_follows_whatever_happens_to_studies(app: Flask, make_user: MakeUser) -> None:
    reader, other = make_user(), make_user()
    ids = make_study(app, reader, further=["meningioma"])
    gone, redone = make_study(app, other), make_study(app, reader)
    with app.app_context(), acting_for(reader.organisation_id):
        check()
    for verdict, label in ((Verdict.AGREE, None), (Verdict.DISAGREE, "pituitary")):
        assess(app, reader, ids, verdict=verdict, label=label)  # the second supersedes the first
    assess(app, other, ids, images=None, verdict=Verdict.UNSURE)
    assess(app, other, gone)
    with app.app_context(), acting_for(reader.organisation_id):
        check()
        user = find_user_by_address(reader.email)
        correct_study(
            actor=user,
            study_id=ids.study_id,
            correction=Correction(
                patient_code="Ä-7", description="ÜBER alles", priority=Priority.URGENT
            ),
        )
        check()
        assert kept_text(ids) == f"ä-7{SEPARATOR}über alles"
        _again(redone)
        check()
        study = find_study(ids.study_id)
        move_images(
            actor=user,
            study_id=study.id,
            image_ids=[images_of(study)[0].id],
            target=NewStudy("N-1"),
        )
        check()
        delete_study(
            actor=find_user_by_address(other.email),
            study_id=gone.study_id,
            deletion=Deletion(DeletionReason.TEST),
        )
        check()
        assert sum(status_counts().values()) == 3
        merge_tallies()
        check()


def kept_text(ids: StudyIds) -> str:
    found = select(StudyListing.text).where(StudyListing.study_id == ids.study_id)
    return db.session.scalars(found).one()


def _again(ids: StudyIds) -> None:
    """A new analysis, which fails."""
    analysis = request_analysis(find_study(ids.study_id))
    db.session.commit()
    check()
    claim = claim_analysis(analysis.id)
    check()
    assert claim is not None
    fail_analysis(claim, reason="gave_up")


def test_numbers_are_added_up_once(app: Flask, make_user: MakeUser) -> None:
    account = make_user()
    with app.app_context(), acting_for(account.organisation_id):
        add_studies(app, account, 30, status=Status.RUNNING)
        before = status_counts()
        assert before == {"running": 30}
        assert merge_tallies() > 30
        assert status_counts() == before
        assert merge_tallies() == 0
        check()


FOUND = {
    "follow": 1, "FOLLOW-UP": 1, "w": 1, "p-0": 3, "p-002": 1, "ärz": 1, "ÄRZTIN": 1, "50%": 1,
    "0% o": 1, "5_%": 0, '"quoted"': 1, "p-000follow": 0, f"p-000{SEPARATOR}follow": 0,
    "nowhere": 0,
}  # fmt: skip


@pytest.mark.parametrize("few", [1000, 0])
def test_search_finds_parts_of_code_and_description(
    app: Flask, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(listing, "_FEW", few)  # by the index of texts, or back in time
    account, stranger = make_user(), make_user(organisation="Hospital B")
    for who in (account, stranger):
        for words in ("follow-up", '"quoted" 50% of', "Ärztin"):
            add_studies(app, who, 1, description=words)
    with app.app_context(), acting_for(account.organisation_id):
        found = {
            words: len(
                db.session.scalars(select(StudyListing.study_id).where(contains(words))).all()
            )
            for words in FOUND
        }
    assert found == FOUND


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_triggers_outlive_a_rebuilt_table(app: Flask, make_user: MakeUser) -> None:
    account = make_user()
    add_studies(app, account, 1)
    triggers = text("SELECT name FROM sqlite_master WHERE type = 'trigger' ORDER BY name")
    with app.app_context():
        before = db.session.scalars(triggers).all()
        db.session.rollback()
        with db.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
            connection.commit()
            operations = Operations(MigrationContext.configure(connection))
            for table in ("study", "analysis", "assessment", "study_listing"):
                with operations.batch_alter_table(table, recreate="always"):
                    pass
            connection.commit()
            connection.exec_driver_sql("PRAGMA foreign_keys=ON")
        assert db.session.scalars(triggers).all() == before
        db.session.rollback()
    add_studies(app, account, 1, status=Status.DONE)
    with app.app_context(), acting_for(account.organisation_id):
        check()
        assert status_counts() == {"queued": 1, "done": 1}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_index_of_texts_follows_when_the_extension_comes_later(
    app: Flask, make_user: MakeUser
) -> None:
    account = make_user()
    add_studies(app, account, 2)
    with app.app_context(), acting_for(account.organisation_id):
        try:
            db.session.execute(text("DROP EXTENSION pg_trgm CASCADE"))
            db.session.commit()
            assert not index_texts()
            found = select(StudyListing.study_id).where(contains("p-001"))
            assert len(db.session.scalars(found).all()) == 1
        finally:
            db.session.rollback()
            db.session.execute(text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
            db.session.commit()
        assert index_texts()
        assert not index_texts()
        names = {one["name"] for one in inspect(db.engine).get_indexes("study_listing")}
        assert "ix_study_listing_text" in names


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_statistics_follow_growth_and_reach_open_connections(
    app: Flask, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_MANY_NEW", 20)
    account = make_user()
    known = text("SELECT count(*) FROM sqlite_stat1 WHERE tbl = 'study_listing'")
    with app.app_context(), db.engine.connect() as other, db.engine.connect() as connection:
        assert "study_listing" not in renew_statistics(connection)
        version = other.exec_driver_sql("PRAGMA schema_version").scalar_one()
        other.rollback()
        add_studies(app, account, 30)
        assert "study_listing" in renew_statistics(connection)
        assert connection.scalar(known)
        assert other.exec_driver_sql("PRAGMA schema_version").scalar_one() > version
        connection.rollback()
        assert renew_statistics(connection) == []
