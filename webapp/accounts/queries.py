"""Read-only queries on accounts, for views and commands."""

import hashlib
from collections.abc import Sequence

from flask_babel import gettext as _
from sqlalchemy import func, select
from sqlalchemy.orm import joinedload

from webapp.accounts.checks import address_or_none
from webapp.accounts.models import ApiToken, Invitation, User
from webapp.database import db, now
from webapp.errors import NotFound
from webapp.tenancy import acting_for, unscoped


def no_account_yet() -> bool:
    """Whether no account exists."""
    with unscoped():
        return db.session.scalar(select(User.id).limit(1)) is None


def list_users() -> Sequence[User]:
    """The users by name: of the current organisation, or all if unscoped."""
    return db.session.scalars(select(User).order_by(func.lower(User.name), User.email)).all()


def user_by_address(email: str) -> User | None:
    """The user with this address, in any organisation, or None."""
    address = address_or_none(email)
    if address is None:
        return None
    with unscoped():
        return db.session.scalar(select(User).where(User.email == address))


def find_user_by_address(email: str) -> User:
    """Like :func:`user_by_address`, but raises :class:`NotFound`."""
    user = user_by_address(email)
    if user is None:
        raise NotFound(_("There is no user with this e-mail address."))
    return user


def list_invitations() -> Sequence[Invitation]:
    """The open invitations of the current organisation, newest first."""
    return db.session.scalars(
        select(Invitation)
        .where(
            Invitation.accepted_at.is_(None),
            Invitation.revoked_at.is_(None),
            Invitation.expires_at > now(),
        )
        .order_by(Invitation.created_at.desc())
    ).all()


def find_invitation(token: str) -> Invitation:
    """The open invitation with this token, with its sender loaded; raises :class:`NotFound`."""
    with unscoped():
        invitation = db.session.scalar(
            select(Invitation)
            .where(Invitation.token_hash == token_hash(token))
            .options(joinedload(Invitation.invited_by))
            .execution_options(populate_existing=True)
        )
    if invitation is None or not invitation.is_open:
        raise NotFound(
            _("This invitation has been used or revoked, or has expired. Ask for a new one.")
        )
    return invitation


def list_tokens(user: User) -> Sequence[ApiToken]:
    """The user's API tokens that are not revoked, newest first."""
    with acting_for(user.organisation_id):
        return db.session.scalars(
            select(ApiToken)
            .where(ApiToken.user_id == user.id, ApiToken.revoked_at.is_(None))
            .order_by(ApiToken.created_at.desc())
        ).all()


def token_hash(token: str) -> str:
    """The stored hash of an invitation's or API token, in hexadecimal.

    SHA-256 is enough: tokens have 32 random bytes and cannot be guessed.
    """
    return hashlib.sha256(token.encode()).hexdigest()
