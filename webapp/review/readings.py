"""The readings that agreement is computed from."""

import uuid
from collections.abc import Iterator
from enum import StrEnum

from sqlalchemy import select

from webapp.database import db
from webapp.review.agreement import Reading
from webapp.review.models import Assessment
from webapp.studies.models import Study


class Which(StrEnum):
    """Which of a reader's assessments of one thing counts."""

    CURRENT = "current"
    BLIND = "blind"  # the first one, where it was given before another's could be seen


class Scope(StrEnum):
    """What was read."""

    SLICES = "slices"
    STUDIES = "studies"


def readings(which: Which, scope: Scope) -> list[Reading]:
    """Of the organisation acted for; "unsure" names nothing and is no reading."""
    return list(_readings(which, scope))


def _readings(which: Which, scope: Scope) -> Iterator[Reading]:
    unit = Assessment.image_id if scope is Scope.SLICES else Assessment.study_id
    of_scope = Assessment.image_id.is_not(None)
    found = (
        select(
            unit,
            Study.patient_id,
            Assessment.reader_id,
            Assessment.label,
            Assessment.created_at,
            Assessment.blind,
        )
        .join(Assessment.study)
        .where(of_scope if scope is Scope.SLICES else ~of_scope)
        .order_by(Assessment.created_at, Assessment.id)
    )
    if which is Which.CURRENT:
        found = found.where(Assessment.superseded_at.is_(None))
    seen: set[tuple[uuid.UUID, uuid.UUID]] = set()
    for key, patient_id, reader_id, label, at, blind in db.session.execute(found):
        if key is None:
            continue
        first = (key, reader_id) not in seen
        seen.add((key, reader_id))
        if label is None or (which is Which.BLIND and not (first and blind)):
            continue
        yield Reading(key, patient_id, reader_id, label, at.strftime("%Y-%m"))
