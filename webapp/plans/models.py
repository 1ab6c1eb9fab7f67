"""Versions of an organisation's plan of change, and what was decided about them.

Rows of both tables are only ever added, each signed: the database refuses to change or delete one
(triggers), and a row that was written past the portal is noticed by its signature.
"""

import uuid
from enum import StrEnum

from sqlalchemy import ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.accounts.models import User
from webapp.database import Base, Identifier, Timestamped, enum_column
from webapp.tenancy import OrganisationOwned

LONGEST_TEXT = 20_000
LONGEST_REASON = 1000


class PlanVersion(Timestamped, OrganisationOwned, Base):
    """A plan that somebody proposed; another person decides about it.

    Attributes:
        number: as ``version`` in its text; the plan that ships with the product is 1.
        text: TOML (:mod:`ml.release.change_plan`).
        sha256: of the text's UTF-8 bytes.
    """

    __tablename__ = "plan_version"
    __table_args__ = (UniqueConstraint("organisation_id", "number"),)

    id: Mapped[Identifier]
    number: Mapped[int]
    text: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
    proposed_by_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))
    reason: Mapped[str] = mapped_column(String(LONGEST_REASON))
    signature: Mapped[str] = mapped_column(String(64))

    proposed_by: Mapped[User] = relationship()
    decision: Mapped["PlanDecision | None"] = relationship(back_populates="plan", lazy="joined")


class PlanVerdict(StrEnum):
    """What became of a proposed plan."""

    CONFIRMED = "confirmed"
    DECLINED = "declined"


class PlanDecision(Timestamped, OrganisationOwned, Base):
    """One decision about one plan; the last confirmed plan holds.

    Attributes:
        number: from 1, without a gap.
        previous_signature: of the decision before; empty for the first one.
    """

    __tablename__ = "plan_decision"
    __table_args__ = (UniqueConstraint("organisation_id", "number"), UniqueConstraint("plan_id"))

    id: Mapped[Identifier]
    number: Mapped[int]
    plan_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("plan_version.id"))
    verdict: Mapped[PlanVerdict] = mapped_column(enum_column(PlanVerdict, "plan_verdict"))
    decided_by_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))
    previous_signature: Mapped[str] = mapped_column(String(64), default="")
    signature: Mapped[str] = mapped_column(String(64))

    plan: Mapped[PlanVersion] = relationship(back_populates="decision")
    decided_by: Mapped[User] = relationship()
