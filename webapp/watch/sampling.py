"""Read the studies of a time as a sample: one slice of each, its answer, and what readers said."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Select, and_, func, select

from ml.serving.observation import STATISTICS, Sample, unpack
from webapp.database import db
from webapp.inference.observations import SliceObservation
from webapp.models_admin.models import ModelVersion
from webapp.review.models import Assessment, Verdict
from webapp.studies.models import Analysis, Image, Study
from webapp.watch.models import EVERYTHING, Baseline

WEEK = timedelta(days=7)
MOST_STUDIES = 2000  # of a sample; the newest ones


@dataclass(frozen=True)
class WatchedStudy:
    """One study as it is compared.

    Attributes:
        scope: where it came from: ``node:ID`` or ``format:NAME``.
        model_sha256: of the weights that answered.
    """

    at: datetime
    scope: str
    model_sha256: str
    figures: bytes
    label: str
    several: bool
    unfamiliar: bool


@dataclass(frozen=True)
class ReadStudy:
    """A study that was assessed, and whether a reader disagreed."""

    at: datetime
    scope: str
    overridden: bool


def week_of(moment: datetime) -> date:
    """The Monday of its week, in UTC."""
    day = moment.astimezone(UTC).date()
    return day - timedelta(days=day.weekday())


def start_of(day: date) -> datetime:
    """Its first moment in UTC."""
    return datetime.combine(day, time(), UTC)


def watched_studies(since: datetime, until: datetime) -> list[WatchedStudy]:
    """Studies whose current analysis was done in ``[since, until)``, newest first.

    At most :data:`MOST_STUDIES`, of the organisation acted for.
    """
    rows = db.session.execute(
        select(
            SliceObservation.created_at,
            Study.node_id,
            Image.source_format,
            ModelVersion.sha256,
            SliceObservation.figures,
            Analysis.label,
            Analysis.prediction_set,
            Analysis.contradicting_images,
            Analysis.in_distribution,
            Analysis.in_distribution_share,
        )
        .join(Analysis, Analysis.id == SliceObservation.analysis_id)
        .join(Study, and_(Study.id == Analysis.study_id, Study.current_analysis_id == Analysis.id))
        .join(Image, Image.id == SliceObservation.image_id)
        .join(ModelVersion, ModelVersion.id == Analysis.model_version_id)
        .where(
            SliceObservation.stands_for_study,
            SliceObservation.created_at >= since,
            SliceObservation.created_at < until,
            Analysis.label.is_not(None),
        )
        .order_by(SliceObservation.created_at.desc())
        .limit(MOST_STUDIES)
    )
    return [_watched(row) for row in rows]


def _watched(row: Any) -> WatchedStudy:
    at, node_id, source_format, sha256, figures, label, possible, against, familiar, share = row
    return WatchedStudy(
        at=at,
        scope=scope_of(node_id, source_format),
        model_sha256=sha256,
        figures=figures,
        label=label,
        several=len(possible or ()) != 1 or bool(against),
        unfamiliar=familiar is False or (share is not None and share < 0.5),
    )


def read_studies(since: datetime, until: datetime) -> list[ReadStudy]:
    """Studies that were assessed in ``[since, until)``, once each; "unsure" is no assessment."""
    first_format = (
        select(func.min(Image.source_format)).where(Image.study_id == Study.id).scalar_subquery()
    )
    rows = db.session.execute(
        _assessed(since, until, Study.id, Study.node_id, first_format).order_by(
            Assessment.created_at
        )
    )
    found: dict[uuid.UUID, ReadStudy] = {}
    for at, verdict, study_id, node_id, source_format in rows:
        before = found.get(study_id)
        overridden = verdict is Verdict.DISAGREE or (before is not None and before.overridden)
        scope = scope_of(node_id, source_format)
        found[study_id] = ReadStudy(before.at if before else at, scope, overridden)
    return list(found.values())


def _assessed(since: datetime, until: datetime, *columns: ColumnElement[Any] | Any) -> Select[Any]:
    return (
        select(Assessment.created_at, Assessment.verdict, *columns)
        .join(Study, Study.id == Assessment.study_id)
        .where(
            Assessment.superseded_at.is_(None),
            Assessment.verdict != Verdict.UNSURE,
            Assessment.created_at >= since,
            Assessment.created_at < until,
        )
    )


def scope_of(node_id: uuid.UUID | None, source_format: str | None) -> str:
    """Where a study came from: the archive that sent it, else the format of its files."""
    return f"node:{node_id}" if node_id else f"format:{source_format or 'unknown'}"


def scopes_of(studies: Iterable[WatchedStudy | ReadStudy]) -> list[str]:
    """Everything, and each origin that occurs."""
    return [EVERYTHING, *sorted({one.scope for one in studies})]


def in_scope(studies: Sequence[Any], scope: str) -> list[Any]:
    """Those of one scope."""
    return [one for one in studies if scope in (EVERYTHING, one.scope)]


def overrides_of(studies: Sequence[ReadStudy]) -> tuple[int, int]:
    """Studies with a disagreement, and all of them."""
    return sum(one.overridden for one in studies), len(studies)


def sample_of(studies: Sequence[WatchedStudy], overrides: tuple[int, int]) -> Sample:
    """As the tests take it."""
    rows = [unpack(one.figures) for one in studies]
    return Sample(
        figures=np.stack(rows) if rows else np.empty((0, len(STATISTICS)), np.float32),
        labels=tuple(one.label for one in studies),
        several=tuple(one.several for one in studies),
        unfamiliar=tuple(one.unfamiliar for one in studies),
        overrides=overrides,
    )


def baseline_sample(baseline: Baseline, scope: str) -> Sample:
    """The studies of a baseline that came from one scope."""
    figures = unpack(baseline.figures).reshape(-1, len(STATISTICS))
    rows = [n for n, one in enumerate(baseline.answers) if scope in (EVERYTHING, one[0])]
    answers = [baseline.answers[n] for n in rows]
    overridden, assessed = baseline.overrides.get(scope, (0, 0))
    return Sample(
        figures=figures[rows],
        labels=tuple(one[1] for one in answers),
        several=tuple(bool(one[2]) for one in answers),
        unfamiliar=tuple(bool(one[3]) for one in answers),
        overrides=(overridden, assessed),
    )
