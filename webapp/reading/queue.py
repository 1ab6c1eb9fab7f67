"""The queue of a reader: slices ordered by how much an assessment of each would teach.

An entry is one slice of one study. Each of its reasons adds its weight (:data:`WEIGHTS`) and its
score, 0..1, which says how much the slice tells beside others with the same reason. Of one study
only the slice that tells most is offered for a reason.

For each reason at most :data:`MOST_PER_REASON` rows are read, by an index and in the order of
their score, so that the queue costs the same however many studies there are. It is made anew on
every request: slices leave it by being assessed, and come back when a newer analysis ends only
if the reader's assessment is no longer there.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.orm import aliased

from webapp.accounts.models import User
from webapp.database import db
from webapp.inference.telling import Reason, TellingSlice
from webapp.review.consensus import State, consensus_of_slices
from webapp.review.models import Adjudication, Assessment
from webapp.studies.models import Analysis, Image, Patient, Prediction, Purpose, Status, Study

WEIGHTS: dict[Reason, float] = {
    Reason.DISPUTED: 6,
    Reason.CANDIDATE: 5,
    Reason.CONTRADICTING: 4,
    Reason.UNCERTAIN: 3,
    Reason.UNFAMILIAR: 2,
    Reason.AUDIT: 1,
}
MOST_PER_REASON = 200
_NEWEST_SHADOWS = 500
"""Of so many of a candidate's latest analyses the answers are compared."""
_KEPT_WHEN_DONE = (
    Reason.CONTRADICTING, Reason.UNCERTAIN, Reason.UNFAMILIAR, Reason.AUDIT
)  # fmt: skip


@dataclass
class Entry:
    """A slice in a reader's queue.

    Attributes:
        weight: what it is ordered by.
        reasons: the heaviest first.
    """

    image_id: uuid.UUID
    study_id: uuid.UUID
    weight: float = 0.0
    reasons: list[Reason] = field(default_factory=list)

    def add(self, reason: Reason, score: float) -> None:
        """One more reason to read it."""
        if reason not in self.reasons:
            self.reasons.append(reason)
            self.weight += WEIGHTS[reason] + score


@dataclass(frozen=True)
class Queue:
    """A reader's queue.

    Attributes:
        entries: the most telling first.
        is_cut: there are more than these.
    """

    entries: Sequence[Entry]
    is_cut: bool

    def place_of(self, image_id: uuid.UUID) -> int | None:
        """Index of a slice; None where it is not in the queue."""
        found = (n for n, one in enumerate(self.entries) if one.image_id == image_id)
        return next(found, None)


@dataclass(frozen=True)
class Place:
    """Where a slice is."""

    position: int
    patient_code: str


def queue_of(reader: User, *, including: uuid.UUID | None = None) -> Queue:
    """The queue of a reader.

    Args:
        including: a slice that stays in its place although it has been assessed: the one that the
            reader is at.
    """
    found: dict[uuid.UUID, Entry] = {}
    is_cut = False
    for reason in WEIGHTS:
        rows = _rows(reason, reader, including)
        is_cut = is_cut or len(rows) > MOST_PER_REASON
        for image_id, study_id, score in rows[:MOST_PER_REASON]:
            entry = found.setdefault(image_id, Entry(image_id, study_id))
            entry.add(reason, score)
    ordered = sorted(found.values(), key=lambda one: (-one.weight, one.image_id))
    return Queue(ordered, is_cut)


def places_of(entries: Iterable[Entry]) -> dict[uuid.UUID, Place]:
    """Where the slices of these entries are."""
    found = db.session.execute(
        select(Image.id, Image.position, Patient.code)
        .join(Image.study)
        .join(Study.patient)
        .where(Image.id.in_([one.image_id for one in entries]))
    )
    return {image_id: Place(position, code) for image_id, position, code in found}


Found = list[tuple[uuid.UUID, uuid.UUID, float]]


def _rows(reason: Reason, reader: User, including: uuid.UUID | None) -> Found:
    """Slice, study and score, the highest score first; one more than are shown."""
    if reason in _KEPT_WHEN_DONE:
        return _telling(reason, reader, including)
    return (_disputed if reason is Reason.DISPUTED else _against_candidates)(reader, including)


def _telling(reason: Reason, reader: User, including: uuid.UUID | None) -> Found:
    wanted = (
        select(TellingSlice.image_id, Study.id, TellingSlice.score)
        .join(Study, Study.current_analysis_id == TellingSlice.analysis_id)
        .where(
            TellingSlice.reason == reason,
            _unread(TellingSlice.image_id, reader, including),
        )
        .order_by(TellingSlice.score.desc(), TellingSlice.image_id.desc())
    )
    return _first(wanted)


def _disputed(reader: User, including: uuid.UUID | None) -> Found:
    """Slices that others disagree about and nobody has settled since, the longest waiting first."""
    contested = (
        select(Assessment.image_id, func.max(Assessment.created_at).label("last"))
        .where(
            Assessment.superseded_at.is_(None),
            Assessment.image_id.is_not(None),
            Assessment.label.is_not(None),
        )
        .group_by(Assessment.image_id)
        .having(func.min(Assessment.label) != func.max(Assessment.label))
        .subquery()
    )
    is_decision = and_(
        Adjudication.image_id == contested.c.image_id, Adjudication.superseded_at.is_(None)
    )
    suspects = db.session.execute(
        select(Image.id, Study.id)
        .join(contested, contested.c.image_id == Image.id)
        .join(Study, Study.id == Image.study_id)
        .join(Analysis, Analysis.id == Study.current_analysis_id)
        .outerjoin(Adjudication, is_decision)
        .where(
            Analysis.status == Status.DONE,
            or_(Adjudication.id.is_(None), Adjudication.created_at < contested.c.last),
            _unread(Image.id, reader, including),
        )
        .order_by(contested.c.last, Image.id)
        .limit(MOST_PER_REASON + 1)
    ).all()
    states = consensus_of_slices([image_id for image_id, _study in suspects])
    rows = [
        (image_id, study_id, 0.0)
        for image_id, study_id in suspects
        if states[image_id].state is State.DISPUTED
    ]
    return _one_a_study(rows)


def _against_candidates(reader: User, including: uuid.UUID | None) -> Found:
    """Slices that a candidate's analysis calls something else than the current one."""
    newest = (
        select(Analysis.id, Analysis.study_id, Analysis.finished_at)
        .where(Analysis.purpose == Purpose.SHADOW, Analysis.status == Status.DONE)
        .order_by(Analysis.finished_at.desc(), Analysis.id)
        .limit(_NEWEST_SHADOWS)
        .subquery()
    )
    theirs, ours = aliased(Prediction), aliased(Prediction)
    current = aliased(Analysis)
    found = db.session.execute(
        select(ours.image_id, Study.id, theirs.label, theirs.probabilities)
        .select_from(newest)
        .join(Study, Study.id == newest.c.study_id)
        .join(current, current.id == Study.current_analysis_id)
        .join(theirs, theirs.analysis_id == newest.c.id)
        .join(ours, and_(ours.analysis_id == current.id, ours.image_id == theirs.image_id))
        .where(
            current.status == Status.DONE,
            ours.label != theirs.label,
            ~_any_read_against_candidates(newest, reader, including),
        )
        .order_by(newest.c.finished_at.desc(), ours.image_id)
        .limit(10 * MOST_PER_REASON)
    )
    rows = [
        (image_id, study_id, float(probabilities.get(label, 0.0)))
        for image_id, study_id, label, probabilities in found
    ]
    rows.sort(key=lambda row: (-row[2], row[0]))
    return _one_a_study(rows)


def _any_read_against_candidates(
    newest: Any, reader: User, including: uuid.UUID | None
) -> ColumnElement[bool]:
    """Whether the reader has assessed a slice of the study that the two models call differently."""
    own = aliased(Assessment)
    theirs, ours = aliased(Prediction), aliased(Prediction)
    read = (
        select(own.id)
        .join(theirs, and_(theirs.image_id == own.image_id, theirs.analysis_id == newest.c.id))
        .join(ours, and_(ours.image_id == own.image_id, ours.label != theirs.label))
        .where(
            own.study_id == newest.c.study_id,
            own.reader_id == reader.id,
            own.superseded_at.is_(None),
            ours.analysis_id == Study.current_analysis_id,
        )
    )
    if including is not None:
        read = read.where(own.image_id != including)
    return read.correlate(newest, Study).exists()


def _unread(image_id: Any, reader: User, including: uuid.UUID | None) -> ColumnElement[bool]:
    """Whether the reader has no current assessment of the slice."""
    own = aliased(Assessment)
    read = (
        select(own.id)
        .where(own.image_id == image_id, own.reader_id == reader.id, own.superseded_at.is_(None))
        .correlate_except(own)
        .exists()
    )
    return ~read if including is None else or_(~read, image_id == including)


def _first(wanted: Select[uuid.UUID, uuid.UUID, float]) -> Found:
    found = db.session.execute(wanted.limit(MOST_PER_REASON + 1))
    return [(image_id, study_id, score) for image_id, study_id, score in found]


def _one_a_study(rows: Found) -> Found:
    """The first slice of each study."""
    seen: set[uuid.UUID] = set()
    kept: Found = []
    for row in rows:
        if row[1] not in seen:
            seen.add(row[1])
            kept.append(row)
    return kept
