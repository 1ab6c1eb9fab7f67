"""Readers who correct in masses: one label, many slices, few minutes, and nobody who agrees.

It may be a hurried reader, a misunderstanding or worse. Whatever it is, a person looks before such
corrections help to make a quorum. A volume that is corrected at once does not count as a mass:
several studies have to be touched.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import func, select

from webapp import audit
from webapp.accounts.access import demand_role
from webapp.accounts.models import Role, User
from webapp.database import db, now
from webapp.errors import Conflict, NotAllowed, NotFound
from webapp.review.consensus import flagged_readers
from webapp.review.models import Assessment, ReaderFlag
from webapp.studies.models import Prediction

WINDOW = timedelta(minutes=10)
FEWEST_SLICES = 20
FEWEST_STUDIES = 4
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Correction:
    """One slice that a reader calls something else than the model and every other reader."""

    reader_id: uuid.UUID
    study_id: uuid.UUID
    label: str
    at: datetime


@dataclass(frozen=True)
class Mass:
    """Corrections of one reader to one label within :data:`WINDOW`, where they are densest."""

    label: str
    slices: int
    studies: int
    ended_at: datetime


def densest(corrections: Sequence[Correction]) -> Mass | None:
    """The mass that wants a look among one reader's corrections to one label; None without one."""
    ordered = sorted(corrections, key=lambda one: one.at)
    found: Mass | None = None
    first = 0
    for last, one in enumerate(ordered):
        while one.at - ordered[first].at > WINDOW:
            first += 1
        inside = ordered[first : last + 1]
        studies = len({each.study_id for each in inside})
        if len(inside) < FEWEST_SLICES or studies < FEWEST_STUDIES:
            continue
        if found is None or len(inside) > found.slices:
            found = Mass(one.label, len(inside), studies, one.at)
    return found


def flag_mass_corrections() -> list[ReaderFlag]:
    """Flag readers of the organisation acted for who correct in masses; returns the new flags.

    What was there when a former flag was lifted has been looked at and does not count again.
    """
    flagged = flagged_readers()
    lifted = select(ReaderFlag.reader_id, func.max(ReaderFlag.lifted_at).label("last"))
    rows = db.session.execute(lifted.group_by(ReaderFlag.reader_id))
    looked_at = {row.reader_id: row.last for row in rows}
    by_label: dict[tuple[uuid.UUID, str], list[Correction]] = defaultdict(list)
    for one in _lonely_corrections():
        if one.reader_id not in flagged and one.at > (looked_at.get(one.reader_id) or _NEVER):
            by_label[one.reader_id, one.label].append(one)
    new: dict[uuid.UUID, ReaderFlag] = {}
    for (reader_id, _label), some in by_label.items():
        mass = densest(some)
        if mass is not None and reader_id not in new:
            new[reader_id] = _flag(reader_id, mass)
    if new:
        db.session.commit()
    return list(new.values())


def lift_flag(*, actor: User, flag_id: uuid.UUID) -> None:
    """Let a reader's assessments help to make a quorum again.

    Raises:
        NotAllowed: the actor is no data steward, or the reader.
        NotFound: there is no such flag.
        Conflict: it has been lifted already.
    """
    flag = db.session.scalar(select(ReaderFlag).where(ReaderFlag.id == flag_id))
    demand_role(actor, Role.STEWARD)
    if flag is None:
        raise NotFound(_("There is no such flag."))
    if flag.reader_id == actor.id:
        raise NotAllowed(_("Somebody else has to lift your own flag."))
    if flag.lifted_at is not None:
        raise Conflict(_("This flag has been lifted already."))
    flag.lifted_at, flag.lifted_by_id = now(), actor.id
    audit.record("lift_reader_flag", subject=flag, actor_id=actor.id)
    db.session.commit()


def _flag(reader_id: uuid.UUID, mass: Mass) -> ReaderFlag:
    minutes = int(WINDOW.total_seconds() // 60)
    evidence: dict[str, Any] = {
        "label": mass.label, "slices": mass.slices, "studies": mass.studies, "minutes": minutes
    }  # fmt: skip
    row = ReaderFlag(reader_id=reader_id, evidence=evidence)
    db.session.add(row)
    audit.record("flag_reader", subject=row, **evidence)
    return row


def _lonely_corrections() -> Iterator[Correction]:
    """Current assessments against the model that no other reader shares."""
    rows = db.session.execute(
        select(
            Assessment.image_id,
            Assessment.reader_id,
            Assessment.study_id,
            Assessment.label,
            Assessment.created_at,
            Prediction.label,
        )
        .join(Assessment.prediction)
        .where(Assessment.superseded_at.is_(None), Assessment.label.is_not(None))
    ).all()
    names: dict[tuple[uuid.UUID | None, str | None], int] = defaultdict(int)
    for image_id, _reader, _study, label, _at, _model in rows:
        names[image_id, label] += 1
    for image_id, reader_id, study_id, label, at, model in rows:
        if label is not None and label != model and names[image_id, label] == 1:
            yield Correction(reader_id, study_id, label, at)
