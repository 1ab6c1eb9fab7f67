"""Assessment of readers on images."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.accounts.models import User
from webapp.database import Base, Identifier, Timestamped, enum_column
from webapp.studies.models import Image, Prediction
from webapp.tenancy import OrganisationOwned


class Verdict(StrEnum):
    """What a reader thinks of the model's answer."""

    AGREE = "agree"
    DISAGREE = "disagree"
    UNSURE = "unsure"


class Confidence(StrEnum):
    """How sure the reader is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Assessment(Timestamped, OrganisationOwned, Base):
    """One reader's answer about one image. The current one has no ``superseded_at``.

    ``label`` is the class that the reader holds for right: the model's own for ``agree``, the
    reader's for ``disagree``, None for ``unsure``. ``region`` is a polygon of ``[x, y]`` points
    as fractions of width and height.
    """

    __tablename__ = "feedback"
    __table_args__ = (
        Index(
            "uq_feedback_current",
            "image_id",
            "reader_id",
            unique=True,
            sqlite_where=text("superseded_at IS NULL"),
            postgresql_where=text("superseded_at IS NULL"),
        ),
    )

    id: Mapped[Identifier]
    image_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("image.id", ondelete="CASCADE"), index=True
    )
    prediction_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("prediction.id", ondelete="CASCADE")
    )
    reader_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"), index=True)
    verdict: Mapped[Verdict] = mapped_column(enum_column(Verdict, "verdict"))
    label: Mapped[str | None] = mapped_column(String(16))
    confidence: Mapped[Confidence | None] = mapped_column(enum_column(Confidence, "confidence"))
    comment: Mapped[str] = mapped_column(Text, default="")
    region: Mapped[dict[str, Any] | None]
    superseded_at: Mapped[datetime | None]

    image: Mapped[Image] = relationship()
    prediction: Mapped[Prediction] = relationship()
    reader: Mapped[User] = relationship()
