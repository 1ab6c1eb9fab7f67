"""Read-only queries for lists of studies and jobs, for pages and the API.

The number of statements never depends on the number of rows.
"""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, Select, case, false, func, select
from sqlalchemy.orm import joinedload, lazyload

from webapp.accounts.models import User
from webapp.database import db, now
from webapp.inference.results import StudyResult, result_of
from webapp.review.models import Assessment, Verdict
from webapp.review.queries import listed_for, sees_all
from webapp.studies.listing import (
    StudyListing,
    contains,
    has_verdict,
    is_assessed,
    is_open_urgent,
    is_unread,
    is_urgent,
    status_counts,
)
from webapp.studies.models import (
    Analysis,
    Patient,
    Priority,
    Purpose,
    Status,
    Study,
)
from webapp.studies.paging import Cursor, cut
from webapp.studies.queries import image_counts

PAGE_SIZE = 25
_PINNED_AT_MOST = 10
_NEVER_PINNED = (Status.FAILED, Status.REJECTED)
_JOBS_SHOWN = 100

AssessmentFilter = Literal["none", "any", "agree", "disagree", "unsure"]


@dataclass(frozen=True)
class WorklistFilters:
    """Filters of the worklist; None and False do not filter."""

    status: Status | None = None
    priority: Priority | None = None
    mine: bool = False


@dataclass(frozen=True)
class HistoryFilters:
    """Filters of the history; empty fields do not filter.

    Attributes:
        q: part of the patient code or the description, ignoring case.
        patient_code: the whole patient code.
        since: first day of upload, UTC.
        until: last day of upload, UTC.
    """

    q: str = ""
    patient_code: str = ""
    label: str | None = None
    status: Status | None = None
    uploader: uuid.UUID | None = None
    assessed: AssessmentFilter | None = None
    since: date | None = None
    until: date | None = None


@dataclass(frozen=True)
class OwnWork:
    """How much of a study one reader has assessed.

    Attributes:
        slices: number of slices.
        is_complete: the whole study, all its key slices, or every image.
        is_outdated: the whole study, but on the basis of an earlier analysis.
    """

    slices: int = 0
    is_complete: bool = False
    is_outdated: bool = False


@dataclass(frozen=True)
class StudyRow:
    """One line of a list.

    Attributes:
        images_done: number of images that the current analysis has finished.
        assessment_count: current assessments of all readers, of slices and the whole study.
        own: what the reader has assessed.
        result: the study's result, or None.
    """

    study: Study
    image_count: int
    images_done: int
    assessment_count: int
    own: "OwnWork"
    result: StudyResult | None


@dataclass(frozen=True)
class StudyPage:
    """Lines of a list, and the cursor of its next page."""

    items: list[StudyRow]
    next_cursor: str | None


@dataclass(frozen=True)
class JobsPage:
    """The newest jobs, the number in each state, and the waiting time of the oldest."""

    analyses: Sequence[Analysis]
    counts: dict[str, int]
    oldest_waiting_seconds: float | None


def worklist(filters: WorklistFilters, *, reader: User, after: Cursor | None) -> StudyPage:
    """One page, newest first; the first page starts with urgent studies not assessed yet.

    On later pages all studies are sorted by time, including those.
    """
    matching = _narrowed(filters, reader)
    has_pinned = after is None and filters.status not in _NEVER_PINNED
    pinned = _unassessed_urgent(matching) if has_pinned else []
    size = PAGE_SIZE - len(pinned)
    shown = [study.id for study in pinned]
    rest = matching.where(StudyListing.study_id.not_in(shown)) if shown else matching
    studies, cursor = _page(rest, after, size)
    return StudyPage(study_rows([*pinned, *studies], reader=reader), cursor)


def worklist_counts(filters: WorklistFilters, *, reader: User) -> dict[str, int]:
    """Number of studies in each state, filtered by everything except the state."""
    return status_counts(priority=filters.priority, uploader=reader.id if filters.mine else None)


def history(
    filters: HistoryFilters, *, reader: User, after: Cursor | None, size: int = PAGE_SIZE
) -> StudyPage:
    """One page of the matching studies, newest first."""
    studies, cursor = _page(matching_studies(filters, reader=reader), after, size)
    return StudyPage(study_rows(studies, reader=reader), cursor)


def matching_studies(filters: HistoryFilters, *, reader: User) -> Select[Study]:
    """The unsorted statement for matching studies, with patient and uploader loaded.

    A verdict is searched only in assessments that ``reader`` may see.
    """
    return _studies().where(*_conditions(filters, reader))


def count_matching(filters: HistoryFilters, *, reader: User) -> int:
    """Number of matching studies."""
    if filters == HistoryFilters():
        return sum(status_counts().values())
    found = select(func.count()).select_from(StudyListing).where(*_conditions(filters, reader))
    return db.session.scalar(found) or 0


def _conditions(filters: HistoryFilters, reader: User) -> Iterator[ColumnElement[bool]]:
    if filters.q:
        yield contains(filters.q)
    if filters.patient_code:
        yield StudyListing.patient_id.in_(
            select(Patient.id).where(Patient.code == filters.patient_code)
        )
    if filters.label and filters.status not in {None, Status.DONE}:
        yield false()
    elif filters.label:
        yield StudyListing.label == filters.label
    elif filters.status:
        yield StudyListing.status == filters.status
    if filters.uploader:
        yield StudyListing.uploaded_by_id == filters.uploader
    if filters.assessed:
        yield from _with_assessment(filters.assessed, reader)
    if filters.since:
        yield StudyListing.created_at >= datetime.combine(filters.since, time.min, UTC)
    if filters.until:
        yield StudyListing.created_at <= datetime.combine(filters.until, time.max, UTC)


def in_chunks(matching: Select[Study], *, size: int = 200) -> Iterator[Sequence[Study]]:
    """All matching studies, newest first, in chunks.

    Each chunk is a page: PostgreSQL plans a cursor for all of it, and no transaction stays open.
    """
    after: Cursor | None = None
    while True:
        studies, following = _page(matching, after, size)
        yield studies
        if following is None:
            return
        after = Cursor.after(studies[-1])


def study_rows(studies: Sequence[Study], *, reader: User) -> list[StudyRow]:
    """Lines for these studies, with two statements in total."""
    images = image_counts([study.id for study in studies])
    results = {study.id: result_of(study) for study in studies}
    keys = {study_id: one.key_images for study_id, one in results.items() if one}
    counts = _assessment_counts(studies, reader, [key for found in keys.values() for key in found])
    rows = []
    for study in studies:
        counted = counts.get(study.id)
        total = images.get(study.id, 0)
        row = StudyRow(
            study=study,
            image_count=total,
            images_done=study.current_analysis.images_done if study.current_analysis else 0,
            assessment_count=counted.everybody if counted else 0,
            own=_own_work(counted, images=total, keys=len(keys.get(study.id, ()))),
            result=results[study.id],
        )
        rows.append(row)
    return rows


def jobs_page() -> JobsPage:
    """The newest jobs of the current organisation."""
    shown = db.session.scalars(
        select(Analysis)
        .where(Analysis.purpose == Purpose.SERVING)
        .order_by(Analysis.created_at.desc(), Analysis.id.desc())
        .limit(_JOBS_SHOWN)
        .options(joinedload(Analysis.study))
    ).all()
    found = db.session.execute(
        select(Analysis.status, func.count(), func.min(Analysis.created_at))
        .where(Analysis.purpose == Purpose.SERVING)
        .group_by(Analysis.status)
    )
    states = {status: (count, oldest) for status, count, oldest in found}
    _count, oldest = states.get(Status.QUEUED, (0, None))
    return JobsPage(
        analyses=shown,
        counts={status.value: count for status, (count, _oldest) in states.items()},
        oldest_waiting_seconds=(now() - oldest).total_seconds() if oldest else None,
    )


def _studies() -> Select[Study]:
    # The listing leads, and an outer join keeps it in front: its indexes alone have the order.
    return (
        select(Study)
        .select_from(StudyListing)
        .outerjoin(Study, Study.id == StudyListing.study_id)
        .options(joinedload(Study.uploaded_by).options(lazyload(User.organisation)))
    )


def _narrowed(filters: WorklistFilters, reader: User) -> Select[Study]:
    found = _studies()
    if filters.status:
        found = found.where(StudyListing.status == filters.status)
    if filters.priority is Priority.URGENT:
        found = found.where(is_urgent)
    elif filters.priority:
        found = found.where(StudyListing.priority == filters.priority)
    if filters.mine:
        found = found.where(StudyListing.uploaded_by_id == reader.id)
    return found


def _unassessed_urgent(matching: Select[Study]) -> list[Study]:
    """Those at the top. Without a result a study cannot be assessed: it would stay there."""
    found = matching.where(is_open_urgent)
    return list(db.session.scalars(_newest_first(found).limit(_PINNED_AT_MOST)))


def _with_assessment(which: AssessmentFilter, reader: User) -> Iterator[ColumnElement[bool]]:
    match which:
        case "none":
            yield is_unread()
        case "any":
            yield is_assessed()
        case _:
            yield has_verdict(which)
            if not sees_all(reader):
                yield _is_seen(Verdict(which), reader)


def _is_seen(verdict: Verdict, reader: User) -> ColumnElement[bool]:
    """Whether a current assessment has this verdict that ``reader`` may see."""
    found = select(Assessment.id).where(
        Assessment.study_id == StudyListing.study_id,
        Assessment.superseded_at.is_(None),
        Assessment.verdict == verdict,
        listed_for(reader),
    )
    return found.correlate(StudyListing).exists()


def _newest_first(found: Select[Study]) -> Select[Study]:
    return found.order_by(StudyListing.created_at.desc(), StudyListing.study_id.desc())


def _page(
    matching: Select[Study], after: Cursor | None, size: int
) -> tuple[list[Study], str | None]:
    found = matching
    if after:
        found = matching.where(after.condition(StudyListing.created_at, StudyListing.study_id))
    return cut(db.session.scalars(_newest_first(found).limit(size + 1)).all(), size)


def _assessment_counts(
    studies: Sequence[Study], reader: User, keys: Sequence[uuid.UUID]
) -> dict[uuid.UUID, Row[*tuple[Any, ...]]]:
    """Current assessments of each study: of all readers, and the reader's own by kind."""
    analyses = [study.current_analysis_id for study in studies]
    own = Assessment.reader_id == reader.id
    whole = own & Assessment.image_id.is_(None)

    def count(which: ColumnElement[bool]) -> ColumnElement[int]:
        return func.sum(case((which, 1), else_=0))

    found = db.session.execute(
        select(
            Assessment.study_id,
            func.count().label("everybody"),
            count(own & Assessment.image_id.is_not(None)).label("slices"),
            count(own & Assessment.image_id.in_(keys)).label("keys"),
            count(whole & Assessment.analysis_id.in_(analyses)).label("whole"),
            count(whole).label("whole_ever"),
        )
        .where(
            Assessment.study_id.in_([study.id for study in studies]),
            Assessment.superseded_at.is_(None),
        )
        .group_by(Assessment.study_id)
    )
    return {row.study_id: row for row in found}


def _own_work(counted: Row[*tuple[Any, ...]] | None, *, images: int, keys: int) -> OwnWork:
    if counted is None:
        return OwnWork()
    complete = counted.whole > 0 or 0 < keys <= counted.keys or 0 < images <= counted.slices
    return OwnWork(
        slices=counted.slices,
        is_complete=complete,
        is_outdated=counted.whole_ever > 0 and not complete,
    )
