"""What the tests of account operations share: acting for somebody, and several at once."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

from flask import Flask
from sqlalchemy import select

from tests.factories import Account
from webapp.accounts.models import User
from webapp.audit import AuditEvent
from webapp.database import db
from webapp.errors import PortalError
from webapp.tenancy import acting_for

PASSWORD = "correct horse staple"
MakeUser = Callable[..., Account]


@contextmanager
def acting(app: Flask, account: Account) -> Iterator[User]:
    """The user, with the organisation acted for."""
    with app.app_context(), acting_for(account.organisation_id):
        yield db.session.get_one(User, account.id)


def actions(app: Flask, organisation_id: uuid.UUID) -> list[str]:
    with app.app_context(), acting_for(organisation_id):
        return list(db.session.scalars(select(AuditEvent.action).order_by(AuditEvent.created_at)))


def at_once(app: Flask, *verbs: Callable[[], object]) -> list[object]:
    """Run the verbs at the same moment; their results, or what they raised."""
    together = Barrier(len(verbs))

    def run(verb: Callable[[], object]) -> object:
        with app.app_context():
            together.wait(timeout=30)
            try:
                return verb()
            except PortalError as error:
                return error

    with ThreadPoolExecutor(len(verbs)) as pool:
        return list(pool.map(run, verbs))
