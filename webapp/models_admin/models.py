"""Versions of the classifier, so that every prediction names the model that made it."""

from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from webapp.database import Base, Identifier, Timestamped


class ModelVersion(Timestamped, Base):
    """One set of weights, known by its hash. Shared by all organisations."""

    __tablename__ = "model_version"

    id: Mapped[Identifier]
    name: Mapped[str] = mapped_column(String(64))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    card: Mapped[dict[str, Any]]
