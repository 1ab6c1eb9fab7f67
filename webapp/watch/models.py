"""Weeks that were compared, what they were compared with, and the alarms."""

import uuid
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, LargeBinary, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.accounts.models import User
from webapp.database import Base, Identifier, Timestamped, enum_column
from webapp.tenancy import OrganisationOwned

EVERYTHING = "all"
"""The scope of all studies; the others are ``node:ID`` and ``format:NAME`` of where they came from.
"""
LONGEST_NOTE = 1000


class Baseline(Timestamped, OrganisationOwned, Base):
    """Studies of this installation that later weeks are compared with; the newest one counts.

    It holds figures and answers and no study, patient or picture, so that it stays when studies
    are deleted.

    Attributes:
        model_sha256: of the weights that answered; features of other weights are not comparable.
        first_at, last_at: when the first and the last of its studies were answered.
        figures: (N, 30) little-endian float32 of :data:`ml.serving.observation.STATISTICS`.
        answers: of each study: scope, label, whether it names several classes, is unfamiliar.
        overrides: scope -> studies about which a reader disagreed, and studies assessed.
    """

    __tablename__ = "watch_baseline"

    id: Mapped[Identifier]
    frozen_by_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))
    model_sha256: Mapped[str] = mapped_column(String(64))
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
    studies: Mapped[int]
    figures: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    answers: Mapped[list[list[Any]]] = mapped_column(JSON, deferred=True)
    overrides: Mapped[dict[str, Any]]

    frozen_by: Mapped[User] = relationship()


class Against(StrEnum):
    """What a week was compared with."""

    OWN = "own"  # the organisation's baseline
    PUBLISHED = "published"  # the reference that comes with the model
    NOTHING = "nothing"


class RunVerdict(StrEnum):
    """What came of a comparison."""

    TOO_FEW = "too_few"  # studies, to say anything
    NO_BASELINE = "no_baseline"
    STEADY = "steady"
    CHANGED = "changed"  # a statistic is high; an alarm depends on the weeks before as well


class DriftRun(Timestamped, OrganisationOwned, Base):
    """A week of one scope beside its baseline.

    Attributes:
        week: its Monday, in UTC.
        scope: :data:`EVERYTHING`, or where the studies came from.
        is_final: the week was over; else the row is written again every day.
        figures: :meth:`ml.evaluation.drift.Figure.plain` of each statistic.
        assessed, overridden: studies assessed in the week, and those with a disagreement.
    """

    __tablename__ = "drift_run"
    __table_args__ = (UniqueConstraint("organisation_id", "week", "scope"),)

    id: Mapped[Identifier]
    week: Mapped[date]
    scope: Mapped[str] = mapped_column(String(64))
    is_final: Mapped[bool]
    studies: Mapped[int]
    against: Mapped[Against] = mapped_column(enum_column(Against, "drift_against"))
    baseline_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("watch_baseline.id"))
    model_sha256: Mapped[str | None] = mapped_column(String(64))
    verdict: Mapped[RunVerdict] = mapped_column(enum_column(RunVerdict, "drift_verdict"))
    figures: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    assessed: Mapped[int]
    overridden: Mapped[int]


class DriftAlarm(Timestamped, OrganisationOwned, Base):
    """From when to when something drifted, and what was done about it.

    Attributes:
        family: :class:`ml.serving.observation.Family`; at most one is open of each and scope.
        week: the Monday of the week that raised it.
        evidence: the figures that did.
        cleared_at: None while it is open.
        note: what the steward who acknowledged it says was done.
    """

    __tablename__ = "drift_alarm"
    __table_args__ = (
        Index(
            "uq_drift_alarm_open",
            "organisation_id",
            "scope",
            "family",
            unique=True,
            sqlite_where=text("cleared_at IS NULL"),
            postgresql_where=text("cleared_at IS NULL"),
        ),
    )

    id: Mapped[Identifier]
    scope: Mapped[str] = mapped_column(String(64))
    family: Mapped[str] = mapped_column(String(16))
    week: Mapped[date]
    against: Mapped[Against] = mapped_column(enum_column(Against, "drift_against"))
    evidence: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    cleared_at: Mapped[datetime | None]
    acknowledged_at: Mapped[datetime | None]
    acknowledged_by_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("user.id"))
    note: Mapped[str] = mapped_column(String(LONGEST_NOTE), default="")

    acknowledged_by: Mapped[User | None] = relationship()
