"""What can be done with model versions."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from webapp.database import db
from webapp.models_admin.models import ModelVersion

_LONGEST_NAME = 64  # characters, as the column has them
_SUFFIX = 12  # hexadecimal digits of a hash


def register_model(*, name: str, sha256: str, card: Mapping[str, Any]) -> ModelVersion:
    """Return the row of the model with this hash; the first worker that loads it adds it.

    A name stands for one file alone: where another file has it already, the beginning of the hash
    is appended, so that every answer, report and export tells which model spoke.
    """
    known = _find(sha256)
    if known is not None:
        return known
    db.session.add(ModelVersion(name=_unique(name, sha256), sha256=sha256, card=dict(card)))
    try:
        db.session.commit()
    except IntegrityError:
        db.session.rollback()  # another worker was faster
    found = _find(sha256)
    if found is None:
        raise LookupError(f"model version {sha256[:12]} was not kept")
    return found


def _unique(name: str, sha256: str) -> str:
    """The name, or the name with the hash's first digits where another file has it."""
    name = name[:_LONGEST_NAME]
    taken = db.session.scalar(select(ModelVersion.id).where(ModelVersion.name == name).limit(1))
    if taken is None:
        return name
    suffix = f"-{sha256[:_SUFFIX]}"
    return name[: _LONGEST_NAME - len(suffix)] + suffix


def _find(sha256: str) -> ModelVersion | None:
    return db.session.scalar(select(ModelVersion).where(ModelVersion.sha256 == sha256))
