"""No statement reaches another organisation's rows, whoever forgets to ask for it."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import aliased, joinedload, selectinload

from tests.factories import Account, make_study
from webapp.accounts.models import Organisation, User
from webapp.audit import AuditEvent
from webapp.database import db
from webapp.studies.models import Image, Patient, Study
from webapp.tenancy import (
    ForeignRow,
    ScopeMissing,
    UnlimitedStatement,
    acting_for,
    unscoped,
    update_by_key,
)


@pytest.fixture
def ours(make_user: Callable[..., Account]) -> Account:
    return make_user(organisation="Hospital A")


@pytest.fixture
def theirs(make_user: Callable[..., Account]) -> Account:
    return make_user(organisation="Hospital B")


def test_a_query_finds_only_the_rows_of_the_organisation_acted_for(
    app: Flask, ours: Account, theirs: Account
) -> None:
    with app.app_context():
        for account in (ours, theirs):
            with acting_for(account.organisation_id):
                assert db.session.scalars(select(User.id)).all() == [account.id]
                assert db.session.scalar(select(func.count()).select_from(User)) == 1
                other = aliased(User)
                assert db.session.scalars(select(other.id)).all() == [account.id]
        with unscoped():
            assert db.session.scalar(select(func.count(User.id))) == 2


def test_a_foreign_id_is_not_found(app: Flask, ours: Account, theirs: Account) -> None:
    with app.app_context(), acting_for(ours.organisation_id):
        assert db.session.get(User, theirs.id) is None
        assert db.session.scalar(select(User).where(User.id == theirs.id)) is None


def test_joins_and_loaded_relations_are_limited_as_well(
    app: Flask, ours: Account, theirs: Account
) -> None:
    mine, foreign = make_study(app, ours), make_study(app, theirs)
    with app.app_context(), acting_for(ours.organisation_id):
        joined = select(Image.id).join(Study).where(Study.id.in_([mine.study_id, foreign.study_id]))
        assert db.session.scalars(joined).all() == [mine.image_id]
        through_others = select(Organisation.name, Study.id).join(
            Study, Study.organisation_id == Organisation.id
        )
        assert [row.id for row in db.session.execute(through_others)] == [mine.study_id]
        inside = select(func.count()).select_from(select(Study.id).subquery())
        assert db.session.scalar(inside) == 1
        for option in (selectinload(Study.images), joinedload(Study.images)):
            studies = db.session.scalars(select(Study).options(option)).unique().all()
            assert [study.id for study in studies] == [mine.study_id]


def test_updates_and_deletes_leave_other_organisations_alone(
    app: Flask, ours: Account, theirs: Account
) -> None:
    with app.app_context():
        with acting_for(ours.organisation_id):
            db.session.execute(update(User).values(name="Changed"))
            db.session.execute(delete(AuditEvent))
            db.session.commit()
        with unscoped():
            names = {user.id: user.name for user in db.session.scalars(select(User))}
            kept = set(db.session.scalars(select(AuditEvent.organisation_id)))
    assert names[ours.id] == "Changed"
    assert names[theirs.id] != "Changed"
    assert kept == {theirs.organisation_id}


@pytest.mark.parametrize(
    "statement",
    [select(User), select(User.id), select(func.count(User.id)), update(User).values(name="x")],
)
def test_without_an_organisation_statements_about_owned_rows_fail(
    app: Flask, ours: Account, statement: object
) -> None:
    with app.app_context(), pytest.raises(ScopeMissing):
        db.session.execute(statement)  # type: ignore[call-overload]


def test_a_row_of_another_organisation_cannot_be_written(
    app: Flask, ours: Account, theirs: Account
) -> None:
    with app.app_context(), acting_for(ours.organisation_id):
        db.session.add(Patient(code="P-1", organisation_id=theirs.organisation_id))
        with pytest.raises(ForeignRow):
            db.session.flush()


def test_a_foreign_row_at_hand_cannot_be_changed(
    app: Flask, ours: Account, theirs: Account
) -> None:
    with app.app_context():
        with unscoped():
            foreign = db.session.get_one(User, theirs.id)
        with acting_for(ours.organisation_id):
            foreign.name = "Changed"
            with pytest.raises(ForeignRow):
                db.session.flush()


def test_a_new_row_belongs_to_the_organisation_acted_for(app: Flask, ours: Account) -> None:
    with app.app_context(), acting_for(ours.organisation_id):
        patient = Patient(code="P-1")
        db.session.add(patient)
        db.session.commit()
        assert patient.organisation_id == ours.organisation_id


def test_scopes_end_with_their_block(app: Flask, ours: Account) -> None:
    with app.app_context():
        with acting_for(ours.organisation_id), unscoped():
            pass
        with pytest.raises(ScopeMissing):
            db.session.scalar(select(User))


def test_threads_have_scopes_of_their_own(app: Flask, ours: Account, theirs: Account) -> None:
    def own_users(account: Account) -> list[uuid.UUID]:
        with app.app_context(), acting_for(account.organisation_id):
            return list(db.session.scalars(select(User.id)))

    with ThreadPoolExecutor(4) as pool:
        accounts = [ours, theirs] * 10
        assert list(pool.map(own_users, accounts)) == [[account.id] for account in accounts]


@pytest.mark.parametrize(
    "write",
    [
        lambda row: db.session.execute(update(User), [row]),
        lambda row: db.session.execute(update(User), [row, row]),
        lambda row: db.session.execute(insert(User), [row]),
        lambda row: db.session.execute(insert(User).values(**row)),
        lambda row: db.session.bulk_update_mappings(User, [row]),
        lambda row: db.session.bulk_insert_mappings(User, [row]),
        lambda row: db.session.bulk_save_objects([User(**row)]),
    ],
)
def test_writing_by_key_is_refused_but_to_the_system_itself(
    app: Flask, ours: Account, theirs: Account, write: Callable[[dict[str, object]], object]
) -> None:
    row: dict[str, object] = {"id": theirs.id, "name": "changed"}
    with app.app_context():
        with acting_for(ours.organisation_id), pytest.raises(UnlimitedStatement):
            write(row)
        with pytest.raises(UnlimitedStatement):
            write(row)
        db.session.rollback()
        with unscoped():
            assert db.session.get_one(User, theirs.id).name != "changed"
            db.session.execute(update(User), [row])
            assert db.session.scalar(select(User.name).where(User.id == theirs.id)) == "changed"


def test_rows_are_updated_by_key_only_where_all_are_ours(
    app: Flask, ours: Account, theirs: Account
) -> None:
    with app.app_context(), acting_for(ours.organisation_id):
        update_by_key(db.session, User, [{"id": ours.id, "name": "new"}])
        assert db.session.scalar(select(User.name)) == "new"
        for row in (
            {"id": theirs.id, "name": "changed"},
            {"id": uuid.uuid4(), "name": "changed"},
            {"id": ours.id, "organisation_id": theirs.organisation_id},
        ):
            with pytest.raises(ForeignRow):
                update_by_key(db.session, User, [{"id": ours.id, "name": "newer"}, row])
        assert db.session.scalar(select(User.name)) == "new"
