"""Server-side sessions: a cookie is valid only while its database row exists.

The session cookie and the remember cookie hold the same random token. Signing out, a new password
and closing the account delete rows, so that copies of a cookie stop working.
"""

import secrets
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta

from flask_babel import gettext as _
from sqlalchemy import ColumnElement, and_, delete, not_, select, update
from sqlalchemy.orm import contains_eager

from webapp import audit
from webapp.accounts.devices import Device
from webapp.accounts.models import User, UserSession
from webapp.accounts.queries import token_hash
from webapp.database import db, now, write_if_free
from webapp.errors import NotFound
from webapp.extensions import current_settings
from webapp.tenancy import acting_for, unscoped

SESSION_LASTS = timedelta(days=14)
"""Maximum lifetime of a session; also how long a remembered device stays signed in."""
# At most one write per minute instead of one per request.
_SEEN_EVERY = timedelta(minutes=1)


def begin_session(user: User, *, is_remembered: bool = False, device: Device | None = None) -> None:
    """Add a session in the current transaction; its token is then ``user.session_token``."""
    token, moment, device = secrets.token_urlsafe(32), now(), device or Device()
    ended = delete(UserSession).where(UserSession.user_id == user.id, not_(_is_open(moment)))
    db.session.execute(ended.execution_options(synchronize_session=False))
    db.session.add(
        UserSession(
            user_id=user.id,
            organisation_id=user.organisation_id,
            token_hash=token_hash(token),
            last_seen_at=moment,
            expires_at=moment + SESSION_LASTS,
            is_remembered=is_remembered,
            browser=device.browser,
            system=device.system,
        )
    )
    user.session_token = token


def open_session(*, user: User, is_remembered: bool = False, device: Device | None = None) -> None:
    """Begin a session after an account was created or a password changed."""
    with acting_for(user.organisation_id):
        begin_session(user, is_remembered=is_remembered, device=device)
        db.session.commit()


def user_of_session(token: str, *, by_person: bool) -> User | None:
    """The active user of an open session, or None.

    Args:
        by_person: whether a person acted, which restarts the idle time.
    """
    moment = now()
    with unscoped():
        row = db.session.scalar(
            select(UserSession)
            .join(UserSession.user)
            .where(UserSession.token_hash == token_hash(token), User.is_active, _is_open(moment))
            .options(contains_eager(UserSession.user))
        )
        if row is None:
            return None
        user = row.user
        user.session_token = token
        if by_person and row.last_seen_at < moment - min(_SEEN_EVERY, _idle_limit() / 4):
            seen = update(UserSession).where(UserSession.id == row.id)
            write_if_free(seen.values(last_seen_at=moment))
    return user


def sign_out(*, user: User) -> None:
    """End the current session."""
    db.session.execute(
        delete(UserSession).where(UserSession.token_hash == token_hash(user.session_token))
    )
    audit.record("sign_out", subject=user, actor_id=user.id)
    db.session.commit()


def sign_out_everywhere(*, user: User) -> None:
    """End all sessions of the user, including the current one."""
    end_sessions(user)
    audit.record("sign_out_everywhere", subject=user, actor_id=user.id)
    db.session.commit()


def end_sessions(user: User) -> None:
    """Delete all sessions of the user in the current transaction."""
    db.session.flush()  # the user's row first: a concurrent sign-in waits for it
    db.session.execute(delete(UserSession).where(UserSession.user_id == user.id))


def end_session(*, user: User, session_id: uuid.UUID) -> None:
    """End one of the user's own sessions; raises :class:`NotFound`."""
    found = select(UserSession).where(UserSession.id == session_id, UserSession.user_id == user.id)
    row = db.session.scalar(found.where(_is_open(now())))
    if row is None:
        raise NotFound(_("There is no such session, or it has ended."))
    audit.record("end_session", subject=row, actor_id=user.id)
    # As a statement, because the row may be deleted concurrently.
    db.session.execute(delete(UserSession).where(UserSession.id == row.id))
    db.session.commit()


def end_other_sessions(*, user: User) -> None:
    """End all sessions of the user except the current one."""
    db.session.execute(
        delete(UserSession).where(
            UserSession.user_id == user.id,
            UserSession.token_hash != token_hash(user.session_token),
        )
    )
    audit.record("end_other_sessions", subject=user, actor_id=user.id)
    db.session.commit()


def list_sessions(user: User) -> Sequence[UserSession]:
    """The user's open sessions, most recently used first."""
    return db.session.scalars(
        select(UserSession)
        .where(UserSession.user_id == user.id, _is_open(now()))
        .order_by(UserSession.last_seen_at.desc(), UserSession.id)
    ).all()


def is_acted_in(row: UserSession, user: User) -> bool:
    """Whether ``row`` is the user's current session."""
    return row.token_hash == token_hash(user.session_token)


def _idle_limit() -> timedelta:
    return timedelta(minutes=current_settings().session_idle_minutes)


def _is_open(moment: datetime) -> ColumnElement[bool]:
    in_use = UserSession.last_seen_at > moment - _idle_limit()
    return and_(UserSession.expires_at > moment, in_use | UserSession.is_remembered)
