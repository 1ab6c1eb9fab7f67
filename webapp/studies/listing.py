"""What lists of studies are made of: one narrow row a study, numbers, and the search.

A list is asked for by what a study's current analysis says, by what readers say, and in the order
of time. No index spans several tables, so the database keeps a copy of all of it beside each
study, and changes it in the same transaction as the original: triggers of migration 0021
(docs/decisions/0051). Nothing in here is written by the application, but for :func:`merge_tallies`.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    ForeignKey,
    Identity,
    Index,
    Select,
    String,
    Text,
    column,
    delete,
    func,
    insert,
    literal,
    literal_column,
    select,
    table,
    text,
)
from sqlalchemy.orm import InstrumentedAttribute, Mapped, mapped_column

from webapp.database import Base, db, enum_column
from webapp.studies.models import Priority, Status
from webapp.tenancy import OrganisationOwned, owner_without_index, unscoped

SEPARATOR = "\x1f"
"""Stands between code and description in :attr:`StudyListing.text`."""
SHORTEST_INDEXED = 3
"""Characters of the shortest word that the index of texts can look up."""
_FEW = 1000
_PARTS = 10  # of the number of one kind, before they are added up

_URGENT = "study_listing.priority = 'urgent'"
_READ = "study_listing.agreeing + study_listing.disagreeing + study_listing.unsure"
_OPEN = f"{_URGENT} AND {_READ} = 0 AND study_listing.status NOT IN ('failed', 'rejected')"
_BY_TIME = ("created_at", "study_id")


def _index(name: str, *columns: str, where: str | None = None) -> Index:
    condition = text(where.replace("study_listing.", "")) if where else None
    return Index(
        f"ix_study_listing_{name}",
        *columns,
        *_BY_TIME,
        sqlite_where=condition,
        postgresql_where=condition,
    )


class StudyListing(OrganisationOwned, Base):
    """One study as lists see it, kept by the database.

    Every index ends with the time and the id, so that a page is the beginning of a range of it.

    Attributes:
        created_at, uploaded_by_id, patient_id, priority: those of the study.
        status: that of its current analysis.
        label: the current analysis's answer; None until it is done.
        agreeing, disagreeing, unsure: numbers of current assessments of each verdict.
        text: patient code and description in lower case, with :data:`SEPARATOR` between.
    """

    __tablename__ = "study_listing"
    __table_args__ = (
        _index("newest", "organisation_id"),
        _index("status", "organisation_id", "status"),
        _index("label", "organisation_id", "label"),
        _index("uploader", "organisation_id", "uploaded_by_id"),
        _index("uploader_status", "uploaded_by_id", "status"),
        _index("patient", "patient_id"),
        _index("urgent", "organisation_id", where=_URGENT),
        _index("open_urgent", "organisation_id", where=_OPEN),
        _index("unread", "organisation_id", where=f"{_READ} = 0"),
        _index("read", "organisation_id", where=f"{_READ} > 0"),
        _index("agreeing", "organisation_id", where="agreeing > 0"),
        _index("disagreeing", "organisation_id", where="disagreeing > 0"),
        _index("unsure", "organisation_id", where="unsure > 0"),
    )

    number: Mapped[int] = mapped_column(Identity(always=False), primary_key=True)
    study_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("study.id", ondelete="CASCADE"), unique=True
    )
    organisation_id: Mapped[uuid.UUID] = owner_without_index()
    created_at: Mapped[datetime]
    uploaded_by_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))
    patient_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("patient.id"))
    priority: Mapped[Priority] = mapped_column(enum_column(Priority, "priority"))
    status: Mapped[Status] = mapped_column(enum_column(Status, "status"))
    label: Mapped[str | None] = mapped_column(String(16))
    agreeing: Mapped[int]
    disagreeing: Mapped[int]
    unsure: Mapped[int]
    text: Mapped[str] = mapped_column(Text)


class StudyTally(OrganisationOwned, Base):
    """A part of the number of studies of one kind; the number itself is their sum.

    Triggers only add rows, so that no transaction waits for another one's. :func:`merge_tallies`
    adds them up.
    """

    __tablename__ = "study_tally"
    __table_args__ = (
        Index("ix_study_tally_kind", "organisation_id", "status", "priority", "uploaded_by_id"),
    )

    id: Mapped[int] = mapped_column(Identity(always=False), primary_key=True)
    organisation_id: Mapped[uuid.UUID] = owner_without_index()
    uploaded_by_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))
    priority: Mapped[Priority] = mapped_column(enum_column(Priority, "priority"))
    status: Mapped[Status] = mapped_column(enum_column(Status, "status"))
    amount: Mapped[int]


def _written(condition: str) -> ColumnElement[bool]:
    """A condition as text, not bound: the planner has to see that a partial index holds it."""
    # Without a type: SQLite's dialect compares booleans with 1, and the planner sees no more.
    found: ColumnElement[bool] = literal_column(f"({condition})")
    return found


is_urgent = _written(_URGENT)
is_open_urgent = _written(_OPEN)


def is_assessed() -> ColumnElement[bool]:
    """Whether somebody's assessment of the study is current."""
    return _written(f"{_READ} > 0")


def is_unread() -> ColumnElement[bool]:
    """Whether nobody's assessment of the study is current."""
    return _written(f"{_READ} = 0")


def has_verdict(verdict: str) -> ColumnElement[bool]:
    """Whether a current assessment has this verdict: ``agree``, ``disagree`` or ``unsure``."""
    column = {"agree": "agreeing", "disagree": "disagreeing", "unsure": "unsure"}[verdict]
    return _written(f"study_listing.{column} > 0")


def status_counts(
    *, priority: Priority | None = None, uploader: uuid.UUID | None = None
) -> dict[str, int]:
    """Number of studies of the current organisation in each state."""
    wanted = select(StudyTally.status, func.sum(StudyTally.amount)).group_by(StudyTally.status)
    if priority:
        wanted = wanted.where(StudyTally.priority == priority)
    if uploader:
        wanted = wanted.where(StudyTally.uploaded_by_id == uploader)
    return {status.value: int(count) for status, count in db.session.execute(wanted) if count}


def contains(words: str) -> ColumnElement[bool]:
    """Whether code or description contain ``words``, ignoring case.

    Where few studies do, the index of texts names them. Where many do, or the words are too short
    for it, a list meets enough of them while it goes back in time.
    """
    if SEPARATOR in words:
        return literal(False)
    found = _few_with(words) if len(words) >= SHORTEST_INDEXED else None
    return _matches(words) if found is None else StudyListing.study_id.in_(found)


def _matches(words: str) -> ColumnElement[bool]:
    # "%", "_" and the escape character are matched literally.
    return StudyListing.text.contains(func.lower(_escaped(words)), escape="/")


def _escaped(words: str) -> str:
    return words.replace("/", "//").replace("%", "/%").replace("_", "/_")


def _few_with(words: str) -> Sequence[uuid.UUID] | None:
    """The studies with these words; None where they are more than a few."""
    found = db.session.scalars(_looked_up(words).limit(_FEW + 1)).all()
    return None if len(found) > _FEW else found


def _looked_up(words: str) -> Select[uuid.UUID]:
    wanted = select(StudyListing.study_id)
    if db.engine.dialect.name == "postgresql":
        return wanted.where(_matches(words))
    phrase = '"{}"'.format(words.lower().replace('"', '""'))
    return wanted.join(_SEARCH, _SEARCH.c.rowid == StudyListing.number).where(
        literal_column("study_search").match(phrase)
    )


def merge_tallies() -> int:
    """Add up the parts of the numbers of studies, of all organisations, and commit.

    Returns:
        How many parts there are less.
    """
    with unscoped():
        wanted = select(*_KIND).group_by(*_KIND).having(func.count() > _PARTS)
        kinds = [tuple(row) for row in db.session.execute(wanted)]
        db.session.rollback()
        merged = sum(_merge(kind) for kind in kinds)
    if merged and db.engine.dialect.name == "postgresql":
        # Now, and not when PostgreSQL finds the time: each count passes over rows that are gone.
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM study_tally")
    return merged


def _merge(kind: tuple[Any, ...]) -> int:
    # Each part is deleted, and counted, by one transaction only, whoever else does the same.
    gone = db.session.scalars(
        delete(StudyTally)
        .where(*(column == value for column, value in zip(_KIND, kind, strict=True)))
        .returning(StudyTally.amount)
        .execution_options(synchronize_session=False)
    ).all()
    if amount := sum(gone):
        names = (column.key for column in _KIND)
        kept = dict(zip(names, kind, strict=True))
        db.session.execute(insert(StudyTally).values(**kept, amount=amount))
    db.session.commit()
    return len(gone) - bool(amount)


def index_texts() -> bool:
    """Make the index of texts that a migration could not make for want of pg_trgm.

    Returns:
        Whether it was made now.
    """
    if db.engine.dialect.name != "postgresql":
        return False
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.scalar(text("SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'")):
            return False
        if connection.scalar(text("SELECT to_regclass('ix_study_listing_text')")):
            return False
        connection.exec_driver_sql(
            "CREATE INDEX CONCURRENTLY ix_study_listing_text ON study_listing"
            " USING gin (text gin_trgm_ops)"
        )
        return True


_SEARCH = table("study_search", column("rowid"))  # SQLite's index of texts
_KIND: tuple[InstrumentedAttribute[Any], ...] = (
    StudyTally.organisation_id,
    StudyTally.status,
    StudyTally.priority,
    StudyTally.uploaded_by_id,
)
