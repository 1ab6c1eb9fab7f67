"""The single layer that separates organisations; it covers every query.

Every model that belongs to an organisation inherits from :class:`OrganisationOwned`. Each ORM
statement then gets the condition ``organisation_id = …`` for the organisation of the request or
task. Without an organisation, statements about owned models raise :class:`ScopeMissing`; system
code that must work across organisations uses :func:`unscoped`.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from flask import g
from flask_sqlalchemy.session import Session as FlaskSession
from sqlalchemy import ForeignKey, event, false, func, select, update
from sqlalchemy.orm import (
    Mapped,
    MappedColumn,
    ORMExecuteState,
    Session,
    UOWTransaction,
    mapped_column,
    scoped_session,
    with_loader_criteria,
)

_EVERYTHING = object()
_KEYS_AT_ONCE = 1000


class ScopeMissing(RuntimeError):
    """A statement about owned rows ran without an organisation: a programming error."""


class ForeignRow(RuntimeError):
    """A row of another organisation was about to be written: a programming error."""


class UnlimitedStatement(RuntimeError):
    """Rows were about to be written by key, without the condition: a programming error."""


class LimitedSession(FlaskSession):
    """The portal's session, without SQLAlchemy's legacy bulk methods, which bypass this layer."""

    def bulk_save_objects(self, *_arguments: Any, **_options: Any) -> None:
        """Raise :class:`UnlimitedStatement` outside :func:`unscoped`."""
        _refuse_unless_unscoped("bulk_save_objects")
        super().bulk_save_objects(*_arguments, **_options)

    def bulk_insert_mappings(self, *_arguments: Any, **_options: Any) -> None:
        """Raise :class:`UnlimitedStatement` outside :func:`unscoped`."""
        _refuse_unless_unscoped("bulk_insert_mappings")
        super().bulk_insert_mappings(*_arguments, **_options)

    def bulk_update_mappings(self, *_arguments: Any, **_options: Any) -> None:
        """Raise :class:`UnlimitedStatement` outside :func:`unscoped`."""
        _refuse_unless_unscoped("bulk_update_mappings")
        super().bulk_update_mappings(*_arguments, **_options)


def owner_without_index() -> MappedColumn[uuid.UUID]:
    """The column of the organisation in a table of millions, without an index of its own.

    Every statement names the organisation, and most organisations have most of the rows: a planner
    that knows no better reads all of them by that index. Where an organisation is what a list
    begins with, an index of several columns begins with it.
    """
    return mapped_column(ForeignKey("organisation.id"))


class OrganisationOwned:
    """Mixin of every model whose rows belong to one organisation."""

    organisation_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("organisation.id"), index=True)


@contextmanager
def acting_for(organisation_id: uuid.UUID) -> Iterator[None]:
    """Limit every statement inside the block to one organisation."""
    with _scope(organisation_id):
        yield


@contextmanager
def unscoped() -> Iterator[None]:
    """Allow system code to work across organisations: sign-in, the queue, housekeeping."""
    with _scope(_EVERYTHING):
        yield


def set_request_scope(organisation_id: uuid.UUID) -> None:
    """Limit the rest of the request to one organisation."""
    g.organisation_scope = organisation_id


def current_organisation_id() -> uuid.UUID:
    """The organisation of the current scope.

    Raises:
        ScopeMissing: there is none.
    """
    scope = g.get("organisation_scope")
    if not isinstance(scope, uuid.UUID):
        raise ScopeMissing("no organisation is set")
    return scope


@contextmanager
def _scope(value: object) -> Iterator[None]:
    before = g.get("organisation_scope")
    g.organisation_scope = value
    try:
        yield
    finally:
        g.organisation_scope = before


def update_by_key(
    session: Session | scoped_session[Any],
    model: type[OrganisationOwned],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Update rows of the current organisation, each by its ``id``, in one statement.

    Raises:
        ForeignRow: a row does not exist, or is or would become another organisation's.
    """
    if not rows:
        return
    owner = current_organisation_id()
    key: Any = model.id  # type: ignore[attr-defined]
    keys = list({row["id"] for row in rows})
    found = 0
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        some = keys[start : start + _KEYS_AT_ONCE]
        found += session.scalar(select(func.count(key)).where(key.in_(some))) or 0
    if found != len(keys) or any(row.get("organisation_id", owner) != owner for row in rows):
        raise ForeignRow(f"{model.__name__} does not belong to the organisation acted for")
    with unscoped():
        session.execute(update(model), rows)


def _writes_by_key(state: ORMExecuteState) -> bool:
    """Whether no condition can be added: a bulk update by primary key, or an insert."""
    if state.is_insert:
        mapper = state.bind_mapper
        return mapper is not None and issubclass(mapper.class_, OrganisationOwned)
    return state.is_update and isinstance(state.parameters, list)


def _refuse_unless_unscoped(what: str) -> None:
    if g.get("organisation_scope") is not _EVERYTHING:
        raise UnlimitedStatement(f"{what} by key would reach rows of every organisation")


@event.listens_for(Session, "do_orm_execute")
def _limit_to_organisation(state: ORMExecuteState) -> None:
    if state.is_column_load:
        return
    scope = g.get("organisation_scope")
    if scope is _EVERYTHING:
        return
    if _writes_by_key(state):
        _refuse_unless_unscoped(state.statement.__class__.__name__)
    if not (state.is_select or state.is_update or state.is_delete):
        return
    if scope is None:
        if any(issubclass(mapper.class_, OrganisationOwned) for mapper in state.all_mappers):
            raise ScopeMissing(f"{state.statement.__class__.__name__} without an organisation")
        # A statement can reach owned rows although no mapper names them; it then finds none.
        condition: Any = with_loader_criteria(
            OrganisationOwned, lambda _cls: false(), include_aliases=True
        )
    else:
        condition = with_loader_criteria(
            OrganisationOwned, lambda cls: cls.organisation_id == scope, include_aliases=True
        )
    state.statement = state.statement.options(condition)


@event.listens_for(Session, "before_flush")
def _refuse_foreign_rows(session: Session, _flush: UOWTransaction, _instances: Any) -> None:
    scope = g.get("organisation_scope")
    if scope is _EVERYTHING:
        return
    for row in (*session.new, *session.dirty, *session.deleted):
        if not isinstance(row, OrganisationOwned):
            continue
        owner: uuid.UUID | None = row.organisation_id  # not set yet on a new row
        if owner is None and scope is not None:
            row.organisation_id = scope
        elif owner != scope:
            raise ForeignRow(f"{type(row).__name__} does not belong to the organisation acted for")
