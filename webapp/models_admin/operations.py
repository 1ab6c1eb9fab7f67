"""What can be done with model versions."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from webapp.database import db
from webapp.models_admin.models import ModelVersion


def register_model(*, name: str, sha256: str, card: Mapping[str, Any]) -> ModelVersion:
    """Return the row of the model with this hash; the first worker that loads it adds it."""
    known = _find(sha256)
    if known is not None:
        return known
    db.session.add(ModelVersion(name=name, sha256=sha256, card=dict(card)))
    try:
        db.session.commit()
    except IntegrityError:
        db.session.rollback()  # another worker was faster
    found = _find(sha256)
    if found is None:
        raise LookupError(f"model version {sha256[:12]} was not kept")
    return found


def _find(sha256: str) -> ModelVersion | None:
    return db.session.scalar(select(ModelVersion).where(ModelVersion.sha256 == sha256))
