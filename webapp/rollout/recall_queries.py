"""What pages and API read about recalls, each reader what is the reader's."""

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flask_babel import gettext as _
from sqlalchemy import ColumnElement, Select, case, func, or_, select
from sqlalchemy.orm import aliased, joinedload

from webapp.accounts.models import Role, User
from webapp.database import db
from webapp.errors import NotFound
from webapp.inference.results import StudyResult, result_of_analysis
from webapp.models_admin.models import ModelVersion
from webapp.review.models import Assessment
from webapp.rollout.comparison import ChangedSlice
from webapp.rollout.models import Change, RecallCase, RecallRun, RecallStatus
from webapp.studies.models import Analysis, Image, Prediction, Study
from webapp.tenancy import acting_for

SHOWN_CASES = 50
SHOWN_SLICES = 4  # of a case
_RISK = case({change.value: rank for rank, change in enumerate(Change)}, value=RecallCase.change)


@dataclass(frozen=True)
class ShownCase:
    """A case with both answers, as they are put into words.

    Attributes:
        slices: those that both models call differently, or else the key slice.
        is_current: the study still shows the earlier answer.
    """

    row: RecallCase
    before: StudyResult
    after: StudyResult
    slices: Sequence[ChangedSlice]
    further: int
    is_current: bool


def list_recalls() -> Sequence[RecallRun]:
    """All of the organisation acted for, newest first."""
    return db.session.scalars(
        select(RecallRun)
        .order_by(RecallRun.created_at.desc(), RecallRun.id)
        .options(joinedload(RecallRun.candidate))
    ).all()


def find_recall(run_id: uuid.UUID) -> RecallRun:
    """One of the organisation acted for; raises :class:`NotFound`."""
    row = db.session.scalar(select(RecallRun).where(RecallRun.id == run_id))
    if row is None:
        raise NotFound(_("There is no such recall."))
    return row


def find_case(case_id: uuid.UUID, *, reader: User) -> RecallCase:
    """A case that the reader may see; raises :class:`NotFound`."""
    row = db.session.scalar(_cases_of(reader).where(RecallCase.id == case_id))
    if row is None:
        raise NotFound(_("There is no such study to acknowledge."))
    return row


def count_open(reader: User) -> int:
    """Cases of the reader that nobody has acknowledged."""
    found = _cases_of(reader).where(RecallCase.acknowledged_at.is_(None))
    return db.session.scalar(found.with_only_columns(func.count(RecallCase.id))) or 0


def count_for_navigation(reader: User) -> int:
    """The same on any page, also on one about an error, where no organisation is acted for."""
    with acting_for(reader.organisation_id):
        return count_open(reader)


def list_cases(reader: User, *, acknowledged: bool = False) -> list[ShownCase]:
    """Cases of the reader, the riskiest first; the acknowledged ones by time."""
    done = RecallCase.acknowledged_at
    found = _cases_of(reader).where(done.is_not(None) if acknowledged else done.is_(None))
    order = (done.desc(),) if acknowledged else (_RISK, RecallCase.created_at.desc())
    rows = db.session.scalars(
        found.order_by(*order, RecallCase.id)
        .limit(SHOWN_CASES)
        .options(
            joinedload(RecallCase.study),
            joinedload(RecallCase.before).joinedload(Analysis.model_version),
            joinedload(RecallCase.after)
            .joinedload(Analysis.model_version)
            .load_only(ModelVersion.name),
            joinedload(RecallCase.acknowledged_by),
        )
    ).all()
    slices = _changed_slices(rows)
    return [shown for row in rows if (shown := _shown(row, slices[row.id])) is not None]


def _shown(row: RecallCase, slices: Sequence[ChangedSlice]) -> ShownCase | None:
    before, after = result_of_analysis(row.before), result_of_analysis(row.after)
    if before is None or after is None:
        return None
    return ShownCase(
        row=row,
        before=before,
        after=after,
        slices=slices[:SHOWN_SLICES],
        further=max(0, len(slices) - SHOWN_SLICES),
        is_current=row.study.current_analysis_id == row.before_id,
    )


def _cases_of(reader: User) -> Select[RecallCase]:
    """Those of studies that the reader uploaded or assessed; all of them for a steward."""
    found = (
        select(RecallCase)
        .join(RecallRun, RecallRun.id == RecallCase.run_id)
        .join(Study, Study.id == RecallCase.study_id)
        .where(RecallRun.status != RecallStatus.WITHDRAWN)
    )
    return found if reader.may(Role.STEWARD) else found.where(_is_of(reader))


def _is_of(reader: User) -> ColumnElement[bool]:
    assessed = select(Assessment.study_id).where(Assessment.reader_id == reader.id)
    return or_(Study.uploaded_by_id == reader.id, Study.id.in_(assessed))


def _changed_slices(rows: Sequence[RecallCase]) -> Mapping[uuid.UUID, list[ChangedSlice]]:
    """Of each case the slices that are called otherwise, or the new key slice without one."""
    before, after = aliased(Prediction), aliased(Prediction)
    found = db.session.execute(
        select(RecallCase.id, Image.id, Image.position, before.label, after.label)
        .join(after, after.analysis_id == RecallCase.after_id)
        .join(
            before,
            (before.analysis_id == RecallCase.before_id) & (before.image_id == after.image_id),
        )
        .join(Image, Image.id == after.image_id)
        .where(RecallCase.id.in_([row.id for row in rows]), Image.study_id == RecallCase.study_id)
        .order_by(Image.position)
    ).all()
    keys = {row.id: (row.after.key_image_ids or [""])[0] for row in rows}
    slices: dict[uuid.UUID, list[ChangedSlice]] = defaultdict(list)
    said = [
        (case_id, ChangedSlice(image_id, position, was, called))
        for case_id, image_id, position, was, called in found
    ]
    for case_id, one in said:
        if one.before != one.after:
            slices[case_id].append(one)
    for case_id, one in said:
        if not slices[case_id] and str(one.image_id) == keys[case_id]:
            slices[case_id].append(one)
    return slices
