"""Operations on accounts; each is one transaction with an audit entry."""

import secrets
import uuid
from datetime import timedelta

from flask_babel import gettext as _
from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import joinedload

from webapp import audit
from webapp.accounts import passwords
from webapp.accounts.access import demand_role
from webapp.accounts.checks import checked_email, checked_language, checked_name
from webapp.accounts.devices import Device
from webapp.accounts.models import ApiToken, Invitation, Organisation, Role, Scope, User
from webapp.accounts.queries import (
    find_invitation,
    find_user_by_address,
    no_account_yet,
    token_hash,
    user_by_address,
)
from webapp.accounts.sessions import begin_session, end_sessions
from webapp.database import db, now, one_at_a_time, write_if_free
from webapp.errors import Conflict, ExpiredToken, InvalidInput, NotAllowed, NotFound
from webapp.tenancy import acting_for, unscoped

DEFAULT_ORGANISATION = "Default"
INVITATION_LASTS = timedelta(days=7)
TOKEN_PREFIX = "sulcus_"  # noqa: S105 - what tokens start with, not one
TOKEN_DAYS = (30, 90, 365)
"""Permitted lifetimes of a new API token, in days."""
DEFAULT_TOKEN_DAYS = 90
# Lock for rules about several rows: a single first account, unique addresses, at least one
# administrator, single use of an invitation.
_ACCOUNTS = "accounts"
# At most one write per minute instead of one per request.
_LAST_USED_EVERY = timedelta(minutes=1)


def create_first_account(*, organisation: str, name: str, email: str, password: str) -> User:
    """Create the first organisation and its administrator.

    Raises:
        NotFound: an account already exists.
        InvalidInput: a value is invalid.
    """
    organisation = checked_name(organisation, field="organisation")
    name, email = checked_name(name), checked_email(email)
    passwords.check_rules(password, email=email, name=name)
    password_hash = passwords.hash_password(password)
    with unscoped():
        one_at_a_time([_ACCOUNTS])
        if not no_account_yet():
            db.session.rollback()
            raise NotFound(_("An account already exists. Please sign in."))
        user = User(
            organisation=_organisation(organisation),
            name=name,
            email=email,
            role=Role.ADMIN,
            password_hash=password_hash,
            last_seen_at=now(),
        )
        _add_user("create_first_account", user, actor=user)
        db.session.commit()
    return user


def create_user(
    *,
    email: str,
    password: str,
    role: Role,
    name: str = "",
    organisation: str = DEFAULT_ORGANISATION,
) -> User:
    """Create an account from the command line; administrators :func:`invite`.

    Args:
        name: by default the part of ``email`` before the @.
        organisation: its name; a new one is created.

    Raises:
        InvalidInput: a value is invalid.
        Conflict: an account with this address exists.
    """
    email = checked_email(email)
    name = checked_name(name or email.partition("@")[0])
    passwords.check_rules(password, email=email, name=name)
    organisation = checked_name(organisation, field="organisation")
    password_hash = passwords.hash_password(password)
    with unscoped():
        one_at_a_time([_ACCOUNTS])
        _refuse_known_address(email)
        user = User(
            organisation=_organisation(organisation),
            name=name,
            email=email,
            role=role,
            password_hash=password_hash,
        )
        _add_user("create_user", user, actor=None)
        db.session.commit()
    return user


def sign_in(
    *, email: str, password: str, is_remembered: bool = False, device: Device | None = None
) -> User:
    """Check address and password and begin a session, whose token is ``session_token``.

    Raises:
        InvalidInput: they do not match, or the account is closed; the message does not say which.
    """
    user = user_by_address(email)
    checked = user.password_hash if user else None
    fits = passwords.matches(password, checked)
    if user is None or checked is None:
        raise _wrong_sign_in()
    with acting_for(user.organisation_id):
        if not (fits and user.is_active):
            why = "closed account" if fits else "wrong password"
            audit.record("refuse_sign_in", subject=user, reason=why)
            db.session.commit()
            raise _wrong_sign_in()
        renewed = passwords.hash_password(password) if passwords.is_outdated(checked) else checked
        # If the password or the account was changed concurrently, no row matches.
        found = db.session.scalar(
            update(User)
            .where(User.id == user.id, User.password_hash == checked, User.is_active)
            .values(last_seen_at=now(), password_hash=renewed)
            .returning(User.id)
        )
        if found is None:
            db.session.rollback()
            raise _wrong_sign_in()
        begin_session(user, is_remembered=is_remembered, device=device)
        audit.record("sign_in", subject=user, actor_id=user.id)
        db.session.commit()
    return user


def change_password(*, user: User, current: str, new: str) -> None:
    """Set a new password, end all of the user's sessions and revoke their API tokens.

    The caller opens a new session.

    Raises:
        InvalidInput: ``current`` is wrong, or ``new`` breaks a rule.
    """
    if not passwords.matches(current, user.password_hash):
        message = _("The current password is incorrect.")
        raise InvalidInput(message, fields={"current": message})
    _replace_password(user, new)
    audit.record("change_password", subject=user, actor_id=user.id)
    db.session.commit()


def set_password(*, email: str, password: str) -> User:
    """Set a user's password from the command line, like :func:`change_password`.

    Raises:
        NotFound: there is no such user.
        InvalidInput: the password breaks a rule.
    """
    user = find_user_by_address(email)
    with acting_for(user.organisation_id):
        _replace_password(user, password)
        audit.record("set_password", subject=user)
        db.session.commit()
    return user


def choose_language(*, user: User, locale: str) -> None:
    """Store the language of the user's pages.

    Raises:
        InvalidInput: it is not in :data:`webapp.languages.LANGUAGES`.
    """
    user.locale = checked_language(locale)
    audit.record("choose_language", subject=user, actor_id=user.id, locale=locale)
    db.session.commit()


def invite(*, actor: User, email: str, role: Role) -> tuple[Invitation, str]:
    """Invite a person into the actor's organisation; revokes their earlier invitation.

    Returns:
        The invitation and its token; only the token's hash is stored.

    Raises:
        InvalidInput: the address is invalid.
        Conflict: the organisation has an account with this address.
    """
    email = checked_email(email)
    with acting_for(actor.organisation_id):
        # That an account exists in another organisation is told only to the holder of the link.
        _refuse_known_address(email)
    token = secrets.token_urlsafe(32)
    invitation = Invitation(
        email=email,
        role=role,
        token_hash=token_hash(token),
        invited_by_id=actor.id,
        expires_at=now() + INVITATION_LASTS,
    )
    with acting_for(actor.organisation_id):
        _revoke_open_invitations(Invitation.email == email)
        db.session.add(invitation)
        audit.record("invite", subject=invitation, actor_id=actor.id, role=role.value)
        db.session.commit()
    return invitation, token


def accept_invitation(*, token: str, name: str, password: str) -> User:
    """Create the account that the invitation is for; it works once.

    Raises:
        NotFound: no such invitation, or it was used, revoked or has expired.
        InvalidInput: a value is invalid.
        Conflict: an account with this address exists.
    """
    email = find_invitation(token).email
    name = checked_name(name)
    passwords.check_rules(password, email=email, name=name)
    password_hash = passwords.hash_password(password)
    with unscoped():
        one_at_a_time([_ACCOUNTS])
        invitation = find_invitation(token)  # again: it may have been used meanwhile
        if user_by_address(email) is not None:
            owner = invitation.organisation_id
            audit.record("refuse_invitation", subject=invitation, organisation_id=owner)
            db.session.commit()
            raise Conflict(_("This invitation cannot be used. Ask whoever sent it to you."))
        user = User(
            organisation_id=invitation.organisation_id,
            name=name,
            email=email,
            role=invitation.role,
            password_hash=password_hash,
            last_seen_at=now(),
        )
        invitation.accepted_at = now()
        _add_user("accept_invitation", user, actor=user)
        db.session.commit()
    return user


def revoke_invitation(*, actor: User, invitation_id: uuid.UUID) -> None:
    """Revoke an invitation; raises :class:`NotFound` if there is no such open one."""
    invitation = db.session.scalar(select(Invitation).where(Invitation.id == invitation_id))
    if invitation is None or not invitation.is_open:
        raise NotFound(_("There is no such invitation, or it has expired."))
    invitation.revoked_at = now()
    audit.record("revoke_invitation", subject=invitation, actor_id=actor.id)
    db.session.commit()


def change_user(*, actor: User, user_id: uuid.UUID, role: Role, is_active: bool) -> User:
    """Set a user's role, and whether the account is active.

    Closing an account ends its sessions and revokes its API tokens. A user who is no longer an
    administrator also loses their open invitations.

    Raises:
        NotFound: there is no such user.
        Conflict: the organisation would be left without an administrator.
    """
    one_at_a_time([_ACCOUNTS])
    fresh = select(User).where(User.id == user_id).execution_options(populate_existing=True)
    user: User | None = db.session.scalar(fresh)
    if user is None:
        db.session.rollback()
        raise NotFound(_("There is no such user."))
    if not (is_active and role is Role.ADMIN):
        _refuse_last_administrator(user)
        _revoke_open_invitations(Invitation.invited_by_id == user.id)
    user.role, user.is_active = role, is_active
    if not is_active:
        _shut_out(user)
    audit.record(
        "change_user", subject=user, actor_id=actor.id, role=role.value, is_active=is_active
    )
    db.session.commit()
    return user


def set_reading(*, actor: User, blind_reading: bool, blind_share: int | None = None) -> None:
    """Set how the organisation's readers work.

    Args:
        blind_reading: they see each other's assessments only after saving their own.
        blind_share: percent of a reader's queue that is read before the model's answer is shown,
            0 to 100; None leaves it as it is.

    Raises:
        NotAllowed: the actor is no administrator.
        InvalidInput: the share is out of range.
    """
    demand_role(actor, Role.ADMIN)
    if blind_share is not None and not 0 <= blind_share <= 100:
        raise InvalidInput.of_field("blind_share", _("Give a number from 0 to 100."))
    actor.organisation.blind_reading = blind_reading
    audit.record("set_blind_reading", actor_id=actor.id, is_on=blind_reading)
    if blind_share is not None and blind_share != actor.organisation.blind_share:
        actor.organisation.blind_share = blind_share
        audit.record("set_blind_share", actor_id=actor.id, percent=blind_share)
    db.session.commit()


def create_token(
    *, user: User, name: str, days: int = DEFAULT_TOKEN_DAYS, scope: Scope = Scope.WRITE
) -> tuple[ApiToken, str]:
    """Create a bearer token for the API.

    Args:
        days: its lifetime, one of :data:`TOKEN_DAYS`.
        scope: read only, or read and write.

    Returns:
        The row and the token; only the token's hash is stored.

    Raises:
        InvalidInput: the name is missing or too long, or the lifetime is not permitted.
    """
    name = checked_name(name, longest=80)
    if days not in TOKEN_DAYS:
        message = _("Not a valid choice.")
        raise InvalidInput(message, fields={"days": message})
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    row = ApiToken(
        user_id=user.id,
        name=name,
        token_hash=token_hash(token),
        expires_at=now() + timedelta(days=days),
        scope=scope,
    )
    with acting_for(user.organisation_id):
        db.session.add(row)
        audit.record("create_token", subject=row, actor_id=user.id, days=days, scope=scope.value)
        db.session.commit()
    return row, token


def revoke_token(*, user: User, token_id: uuid.UUID) -> None:
    """Revoke one of the user's own tokens; raises :class:`NotFound`."""
    row = db.session.scalar(
        select(ApiToken).where(ApiToken.id == token_id, ApiToken.user_id == user.id)
    )
    if row is None or row.revoked_at is not None:
        raise NotFound(_("There is no such token."))
    row.revoked_at = now()
    audit.record("revoke_token", subject=row, actor_id=user.id)
    db.session.commit()


def user_of_token(token: str, *, writes: bool = False) -> User | None:
    """The active user that a bearer token belongs to, or None.

    Args:
        writes: whether the request changes something.

    Raises:
        ExpiredToken: the token has expired.
        NotAllowed: the token is read-only.
    """
    moment = now()
    with unscoped():
        row = db.session.scalar(
            select(ApiToken)
            .where(ApiToken.token_hash == token_hash(token), ApiToken.revoked_at.is_(None))
            .options(joinedload(ApiToken.user))
        )
        if row is None or not row.user.is_active:
            return None
        if row.expires_at is not None and row.expires_at <= moment:
            raise ExpiredToken(_("This token has expired. Create a new one in the portal."))
        if writes and row.scope is not Scope.WRITE:
            raise NotAllowed(_("This token may only read."))
        user = row.user
        if row.last_used_at is None or row.last_used_at < moment - _LAST_USED_EVERY:
            used = update(ApiToken).where(ApiToken.id == row.id)
            write_if_free(used.values(last_used_at=moment))
    return user


def _organisation(name: str) -> Organisation:
    known = db.session.scalar(select(Organisation).where(Organisation.name == name))
    return known or Organisation(name=name)


def _add_user(action: str, user: User, *, actor: User | None) -> None:
    db.session.add(user)
    db.session.flush()
    audit.record(
        action,
        subject=user,
        actor_id=actor.id if actor else None,
        organisation_id=user.organisation_id,
        role=user.role.value,
    )


def _refuse_known_address(email: str) -> None:
    """Refuse an address with an account in the current organisation, or, unscoped, in any."""
    if db.session.scalar(select(User.id).where(User.email == email)) is None:
        return
    db.session.rollback()
    message = _("There is already an account with this e-mail address.")
    raise Conflict(message, fields={"email": message})


def _refuse_last_administrator(user: User) -> None:
    other = select(User.id).where(User.id != user.id, User.role == Role.ADMIN, User.is_active)
    if db.session.scalar(other.limit(1)) is None:
        db.session.rollback()
        raise Conflict(_("The organisation needs at least one active administrator."))


def _revoke_open_invitations(which: ColumnElement[bool]) -> None:
    db.session.execute(
        update(Invitation)
        .where(which, Invitation.accepted_at.is_(None), Invitation.revoked_at.is_(None))
        .values(revoked_at=now())
        .execution_options(synchronize_session="fetch")
    )


def _replace_password(user: User, new: str) -> None:
    passwords.check_rules(new, email=user.email, name=user.name)
    user.password_hash = passwords.hash_password(new)
    _shut_out(user)


def _shut_out(user: User) -> None:
    """End all sessions and revoke all tokens of the user, in the current transaction."""
    end_sessions(user)
    db.session.execute(
        update(ApiToken)
        .where(ApiToken.user_id == user.id, ApiToken.revoked_at.is_(None))
        .values(revoked_at=now())
    )


def _wrong_sign_in() -> InvalidInput:
    return InvalidInput(_("The e-mail address or password is incorrect."))
