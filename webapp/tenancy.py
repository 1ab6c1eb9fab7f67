"""The one layer that keeps organisations apart; no query can forget it.

Every model that belongs to an organisation inherits from :class:`OrganisationOwned`. Each ORM
statement then gets the condition ``organisation_id = …`` of the organisation that the request (or
the task) acts for. Without one, statements about owned models raise :class:`ScopeMissing`; code
of the system itself that must look across organisations says so with :func:`unscoped`.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import g
from sqlalchemy import ForeignKey, event, false
from sqlalchemy.orm import (
    Mapped,
    ORMExecuteState,
    Session,
    UOWTransaction,
    mapped_column,
    with_loader_criteria,
)

_EVERYTHING = object()


class ScopeMissing(RuntimeError):
    """A statement about owned rows ran without an organisation: a mistake in our code."""


class ForeignRow(RuntimeError):
    """A row of another organisation was about to be written: a mistake in our code."""


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
    """Let the system itself look across organisations: sign-in, the queue, housekeeping."""
    with _scope(_EVERYTHING):
        yield


def set_request_scope(organisation_id: uuid.UUID) -> None:
    """Limit the rest of the request to one organisation."""
    g.organisation_scope = organisation_id


def current_organisation_id() -> uuid.UUID:
    """The organisation acted for.

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


@event.listens_for(Session, "do_orm_execute")
def _limit_to_organisation(state: ORMExecuteState) -> None:
    if state.is_column_load or not (state.is_select or state.is_update or state.is_delete):
        return
    scope = g.get("organisation_scope")
    if scope is _EVERYTHING:
        return
    if scope is None:
        if any(issubclass(mapper.class_, OrganisationOwned) for mapper in state.all_mappers):
            raise ScopeMissing(f"{state.statement.__class__.__name__} without an organisation")
        # A statement can reach owned rows without naming the mapper first; then it finds none.
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
