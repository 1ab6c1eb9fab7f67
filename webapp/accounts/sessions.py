"""Sessions as the server knows them: a cookie is worth something only while its row is here.

The session cookie and the remember cookie hold the same random token. Signing out, a new password
and a closed account delete rows, so that no copy of a cookie works any longer.
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
"""However much it is used; also how long a device remembers who signed in."""
# One write a minute instead of one a request.
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
    """Begin a session of somebody who has just got an account or a new password."""
    with acting_for(user.organisation_id):
        begin_session(user, is_remembered=is_remembered, device=device)
        db.session.commit()


def user_of_session(token: str, *, by_person: bool) -> User | None:
    """The active user of an open session, or None.

    Args:
        by_person: somebody did something; the session is idle from now on, not from before.
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
    """End the session acted in."""
    db.session.execute(
        delete(UserSession).where(UserSession.token_hash == token_hash(user.session_token))
    )
    audit.record("sign_out", subject=user, actor_id=user.id)
    db.session.commit()


def sign_out_everywhere(*, user: User) -> None:
    """End all sessions of the user, the one acted in as well."""
    end_sessions(user)
    audit.record("sign_out_everywhere", subject=user, actor_id=user.id)
    db.session.commit()


def end_sessions(user: User) -> None:
    """Delete all sessions of the user in the current transaction."""
    db.session.flush()  # first what the sessions end for: a sign-in beside it waits for that row
    db.session.execute(delete(UserSession).where(UserSession.user_id == user.id))


def end_session(*, user: User, session_id: uuid.UUID) -> None:
    """End one of the user's own sessions; raises :class:`NotFound` where there is no such one."""
    found = select(UserSession).where(UserSession.id == session_id, UserSession.user_id == user.id)
    row = db.session.scalar(found.where(_is_open(now())))
    if row is None:
        raise NotFound(_("There is no such session, or it has ended."))
    audit.record("end_session", subject=row, actor_id=user.id)
    # As a statement: somebody may end the same one beside this.
    db.session.execute(delete(UserSession).where(UserSession.id == row.id))
    db.session.commit()


def end_other_sessions(*, user: User) -> None:
    """End all sessions of the user but the one acted in."""
    db.session.execute(
        delete(UserSession).where(
            UserSession.user_id == user.id,
            UserSession.token_hash != token_hash(user.session_token),
        )
    )
    audit.record("end_other_sessions", subject=user, actor_id=user.id)
    db.session.commit()


def list_sessions(user: User) -> Sequence[UserSession]:
    """The user's open sessions, the last used first."""
    return db.session.scalars(
        select(UserSession)
        .where(UserSession.user_id == user.id, _is_open(now()))
        .order_by(UserSession.last_seen_at.desc(), UserSession.id)
    ).all()


def is_acted_in(row: UserSession, user: User) -> bool:
    """Whether it is the session that the user acts in now."""
    return row.token_hash == token_hash(user.session_token)


def _idle_limit() -> timedelta:
    return timedelta(minutes=current_settings().session_idle_minutes)


def _is_open(moment: datetime) -> ColumnElement[bool]:
    in_use = UserSession.last_seen_at > moment - _idle_limit()
    return and_(UserSession.expires_at > moment, in_use | UserSession.is_remembered)
