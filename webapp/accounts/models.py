"""Organisations, users and their credentials."""

import uuid
from datetime import datetime
from enum import StrEnum

from flask_login import UserMixin
from sqlalchemy import Enum, ForeignKey, String, true
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.accounts.devices import LONGEST_FAMILY, Device
from webapp.database import Base, Identifier, Timestamped, enum_column, now
from webapp.tenancy import OrganisationOwned


class Role(StrEnum):
    """What a user may do; each role includes the previous one."""

    CLINICIAN = "clinician"
    REVIEWER = "reviewer"
    STEWARD = "steward"  # answers for what the next model learns from
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        """Whether this role may do everything that ``other`` may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


def role_column() -> Enum:
    """A column type stored as text with a check constraint, the same on both databases."""
    return Enum(
        Role,
        native_enum=False,
        length=16,
        create_constraint=True,
        name="role",
        values_callable=lambda roles: [role.value for role in roles],
    )


class Organisation(Timestamped, Base):
    """A hospital or practice; everything else belongs to exactly one.

    Attributes:
        blind_reading: readers see each other's assessments only once they have saved their own.
        blind_share: percent of the slices of a reader's queue that are read before the model's
            answer is shown.
    """

    __tablename__ = "organisation"

    id: Mapped[Identifier]
    name: Mapped[str] = mapped_column(String(120), unique=True)
    blind_reading: Mapped[bool] = mapped_column(default=True, server_default=true())
    blind_share: Mapped[int] = mapped_column(default=0, server_default="0")


class User(UserMixin, Timestamped, OrganisationOwned, Base):
    """A person who signs in. Never deleted, only deactivated: the audit trail names them."""

    __tablename__ = "user"

    id: Mapped[Identifier]
    email: Mapped[str] = mapped_column(String(254), unique=True)
    name: Mapped[str] = mapped_column(String(120))
    password_hash: Mapped[str] = mapped_column(String(256))
    role: Mapped[Role] = mapped_column(role_column())
    is_active: Mapped[bool] = mapped_column(default=True)
    locale: Mapped[str | None] = mapped_column(String(16))
    last_seen_at: Mapped[datetime | None]

    organisation: Mapped[Organisation] = relationship(lazy="joined")

    # Token of the current session, set per request; the database has only its hash.
    session_token = ""

    def get_id(self) -> str:
        """The value of the session cookie and the remember cookie."""
        return self.session_token

    def may(self, role: Role | str) -> bool:
        """Whether the user's role includes ``role``."""
        return self.role.includes(Role(role))


class UserSession(Timestamped, OrganisationOwned, Base):
    """A user's session on one device; only the hash of its token is stored.

    Attributes:
        last_seen_at: the last use by a person; polling fragments do not count.
        expires_at: when it ends even if it is used.
        is_remembered: it outlasts the browser and has no idle limit.
        browser, system: as in :class:`Device`; set at sign-in and never updated.
    """

    __tablename__ = "user_session"

    id: Mapped[Identifier]
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"), index=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    last_seen_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    is_remembered: Mapped[bool]
    browser: Mapped[str] = mapped_column(String(LONGEST_FAMILY), server_default="")
    system: Mapped[str] = mapped_column(String(LONGEST_FAMILY), server_default="")

    user: Mapped[User] = relationship()

    @property
    def device(self) -> Device:
        """The device on which the user signed in."""
        return Device(self.browser, self.system)


class Invitation(Timestamped, OrganisationOwned, Base):
    """A single-use link with which one person creates an account before it expires."""

    __tablename__ = "invitation"

    id: Mapped[Identifier]
    email: Mapped[str] = mapped_column(String(254))
    role: Mapped[Role] = mapped_column(role_column())
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    invited_by_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))
    expires_at: Mapped[datetime]
    accepted_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    invited_by: Mapped[User] = relationship()

    @property
    def is_open(self) -> bool:
        """Whether the link still works."""
        return self.accepted_at is None and self.revoked_at is None and self.expires_at > now()


class Scope(StrEnum):
    """What an API token permits; writing includes reading."""

    READ = "read"
    WRITE = "write"


class ApiToken(Timestamped, OrganisationOwned, Base):
    """A bearer token of the API; only its hash is stored.

    Attributes:
        expires_at: None for tokens from before migration 0009, which never expire.
    """

    __tablename__ = "api_token"

    id: Mapped[Identifier]
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"), index=True)
    name: Mapped[str] = mapped_column(String(80))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    scope: Mapped[Scope] = mapped_column(
        enum_column(Scope, "scope"), default=Scope.WRITE, server_default=Scope.WRITE.value
    )

    user: Mapped[User] = relationship()
