"""What became of a reader's assessments: from the consensus to the model that learnt of it.

The number of statements does not depend on the number of assessments on a page.
"""

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import aliased, contains_eager, joinedload

from webapp.accounts.models import User
from webapp.database import db
from webapp.learning.learnable import Withdrawn, withdrawn
from webapp.learning.models import Retraining, RetrainingStatus, Snapshot, SnapshotSlice
from webapp.models_admin.models import Candidate, Deployment, DeploymentKind
from webapp.review.consensus import Consensus, State, consensus_of_slices, flagged_readers
from webapp.review.models import OTHER, Assessment
from webapp.studies.models import Analysis, Image, Prediction, Status, Study
from webapp.studies.paging import Cursor, cut

PAGE_SIZE = 25


class Counting(StrEnum):
    """Whether an assessment counts for the label of its slice, or why not."""

    COUNTED = "counted"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"
    STUDY = "study"  # of a study as a whole
    UNSURE = "unsure"
    OTHER = "other"  # none of the model's classes
    FLAGGED = "flagged"
    NOT_INDEPENDENT = "not_independent"


@dataclass(frozen=True)
class Learnt:
    """A candidate that was made with the slice.

    Attributes:
        served_since: when it first came to serve; None if it never did.
    """

    model: str
    served_since: datetime | None


@dataclass(frozen=True)
class Kept:
    """A snapshot that holds the slice.

    Attributes:
        label: what it is called there.
        is_held_out: models are judged on it and do not learn from it.
    """

    snapshot: str
    label: str
    is_held_out: bool
    learnt: Sequence[Learnt]


@dataclass(frozen=True)
class NewAnswer:
    """What the model says of the slice in a later analysis of its study."""

    label: str
    model: str


@dataclass(frozen=True)
class Outcome:
    """What became of one assessment.

    Attributes:
        said_by_model: the answer that it is about; None of a study without one.
        state, agreed: of the slice, by all its readers; None of a whole study. ``state`` is given
            to those whose own assessment of the slice is there, so it tells nobody too early.
        kept: snapshots that were taken while the assessment was current.
    """

    assessment: Assessment
    counting: Counting
    said_by_model: str | None
    state: State | None
    agreed: str | None
    kept: Sequence[Kept]
    new_answer: NewAnswer | None


@dataclass(frozen=True)
class OutcomesPage:
    """One page, and the cursor of the next one."""

    items: Sequence[Outcome]
    next_cursor: str | None


def outcomes_page(reader: User, *, after: Cursor | None, size: int = PAGE_SIZE) -> OutcomesPage:
    """What became of a reader's assessments, newest first; also of those replaced since."""
    wanted = (
        select(Assessment)
        .join(Assessment.study)
        .where(Assessment.reader_id == reader.id)
        .order_by(Assessment.created_at.desc(), Assessment.id.desc())
        .limit(size + 1)
        .options(
            contains_eager(Assessment.study),
            joinedload(Assessment.image),
            joinedload(Assessment.prediction),
            joinedload(Assessment.analysis),
        )
    )
    if after is not None:
        wanted = wanted.where(after.condition(Assessment.created_at, Assessment.id))
    rows, next_cursor = cut(db.session.scalars(wanted).all(), size)
    return OutcomesPage(_outcomes(reader, rows), next_cursor)


def _outcomes(reader: User, rows: Sequence[Assessment]) -> list[Outcome]:
    ids = [one.image_id for one in rows if one.image_id is not None]
    flagged = flagged_readers()
    found = consensus_of_slices(ids, untrusted=flagged)
    out, kept, answers = withdrawn(), _kept(ids), _new_answers(ids)
    is_flagged = reader.id in flagged
    return [
        _outcome(
            one,
            counting=_counting(one, out, is_flagged=is_flagged),
            consensus=found.get(one.image_id) if one.image_id else None,
            kept=kept.get(one.image_id, ()) if one.image_id else (),
            answer=answers.get(one.image_id) if one.image_id else None,
        )
        for one in rows
    ]


@dataclass(frozen=True)
class _Taken:
    at: datetime
    kept: Kept


@dataclass(frozen=True)
class _Later:
    number: int
    answer: NewAnswer


def _outcome(
    one: Assessment,
    *,
    counting: Counting,
    consensus: Consensus | None,
    kept: Sequence[_Taken],
    answer: _Later | None,
) -> Outcome:
    said = one.prediction.label if one.prediction else one.analysis.label
    until = one.superseded_at
    later = answer is not None and answer.number > one.analysis.number
    return Outcome(
        assessment=one,
        counting=counting,
        said_by_model=said,
        state=consensus.state if consensus else None,
        agreed=consensus.label if consensus and consensus.rule else None,
        kept=[
            each.kept
            for each in kept
            if each.at >= one.created_at and (until is None or each.at < until)
        ],
        new_answer=answer.answer if later and answer is not None else None,
    )


def _counting(one: Assessment, out: Withdrawn, *, is_flagged: bool) -> Counting:
    if one.superseded_at is not None:
        return Counting.SUPERSEDED
    if one.image is None:
        return Counting.STUDY
    if out.holds(one.image):
        return Counting.WITHDRAWN
    if one.label is None:
        return Counting.UNSURE
    if one.label == OTHER:
        return Counting.OTHER
    if is_flagged:
        return Counting.FLAGGED
    return Counting.COUNTED if one.blind else Counting.NOT_INDEPENDENT


def _kept(ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, Sequence[_Taken]]:
    """Snapshots that hold these slices, oldest first, with the models that learnt from them."""
    rows = db.session.execute(
        select(
            SnapshotSlice.image_id, SnapshotSlice.label, SnapshotSlice.part,
            Snapshot.id, Snapshot.name, Snapshot.created_at,
        )
        .join(SnapshotSlice.snapshot)
        .where(SnapshotSlice.image_id.in_(ids))
        .order_by(Snapshot.created_at, Snapshot.id)
    ).all()  # fmt: skip
    learnt = _learnt({row.id for row in rows})
    found: dict[uuid.UUID, list[_Taken]] = defaultdict(list)
    for row in rows:
        held_out = row.part != "training"
        models = () if held_out else learnt.get(row.id, ())
        kept = Kept(row.name, row.label, held_out, models)
        found[row.image_id].append(_Taken(row.created_at, kept))
    return found


def _learnt(snapshot_ids: set[uuid.UUID]) -> Mapping[uuid.UUID, Sequence[Learnt]]:
    """Candidates that were made from these snapshots, oldest first."""
    made = db.session.scalars(
        select(Retraining)
        .join(Retraining.candidate)
        .where(Retraining.snapshot_id.in_(snapshot_ids), Retraining.status == RetrainingStatus.DONE)
        .order_by(Retraining.finished_at, Retraining.id)
        .options(contains_eager(Retraining.candidate))
    ).all()
    since = _served_since({one.candidate_id for one in made if one.candidate_id})
    found: dict[uuid.UUID, list[Learnt]] = defaultdict(list)
    for one in made:
        candidate: Candidate | None = one.candidate
        if candidate is not None:
            model = candidate.model_version.name
            found[one.snapshot_id].append(Learnt(model, since.get(candidate.id)))
    return found


def _served_since(candidate_ids: set[uuid.UUID]) -> dict[uuid.UUID, datetime]:
    rows = db.session.execute(
        select(Deployment.candidate_id, Deployment.created_at)
        .where(
            Deployment.candidate_id.in_(candidate_ids),
            Deployment.kind == DeploymentKind.PROMOTION,
        )
        .order_by(Deployment.number.desc())
    )
    return {one: at for one, at in rows if one is not None}


def _new_answers(ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, _Later]:
    """What current analyses say of these slices."""
    current = aliased(Analysis)
    rows = db.session.execute(
        select(Prediction, current)
        .join(Image, Image.id == Prediction.image_id)
        .join(Study, Study.id == Image.study_id)
        .join(current, current.id == Study.current_analysis_id)
        .where(
            Prediction.image_id.in_(ids),
            Prediction.analysis_id == current.id,
            current.status == Status.DONE,
        )
        .options(joinedload(current.model_version))
    )
    return {
        said.image_id: _Later(
            analysis.number,
            NewAnswer(said.label, analysis.model_version.name if analysis.model_version else ""),
        )
        for said, analysis in rows
    }
