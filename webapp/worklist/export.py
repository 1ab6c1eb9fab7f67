"""The history as CSV, one study per line."""

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, func, select

from ml.labels import LABELS
from webapp.accounts.models import User
from webapp.database import db
from webapp.inference.results import result_of
from webapp.models_admin.models import ModelVersion
from webapp.review.models import Assessment, Verdict
from webapp.review.operations import record_export
from webapp.review.queries import listed_for
from webapp.studies.models import Analysis, Study
from webapp.studies.queries import image_counts
from webapp.studies.spreadsheet import Cell, stream
from webapp.worklist.queries import HistoryFilters, count_matching, in_chunks, matching_studies

COLUMNS = (
    "study_id",
    "created_at",
    "patient_code",
    "description",
    "priority",
    "status",
    "images",
    "label",
    *(f"probability_{label.value}" for label in LABELS),
    "prediction_set",
    "in_distribution",
    "model",
    "feedback",
    "uploader",
)


def export_history(*, actor: User, filters: HistoryFilters) -> Iterator[str]:
    """Record the export in the audit trail, then return the file in pieces."""
    # Before the commit, which expires the actor: reading it again would need another query.
    matching, visible = matching_studies(filters, reader=actor), listed_for(actor)
    count = count_matching(filters, reader=actor)
    record_export("export_history", actor_id=actor.id, rows=count)
    return stream(COLUMNS, (_lines(studies, visible) for studies in in_chunks(matching)))


def _lines(studies: Sequence[Study], visible: ColumnElement[bool]) -> list[list[Cell]]:
    ids = [study.id for study in studies]
    images, models, verdicts = image_counts(ids), _models(ids), _verdicts(ids, visible)
    return [
        _line(
            study,
            images=images.get(study.id, 0),
            model=models.get(study.id, ""),
            verdicts=verdicts.get(study.id, Counter()),
        )
        for study in studies
    ]


def _line(study: Study, *, images: int, model: str, verdicts: Counter[Verdict]) -> list[Cell]:
    result = result_of(study)
    probabilities = result.probabilities if result else {}
    familiar = result.in_distribution if result else None
    return [
        str(study.id),
        study.created_at.isoformat(),
        study.patient.code,
        study.description,
        study.priority.value,
        study.status.value,
        images,
        result.label if result else None,
        *(probabilities.get(label.value) for label in LABELS),
        " ".join(result.prediction_set) if result else "",
        {True: "yes", False: "no", None: ""}[familiar],
        model,
        "; ".join(f"{verdicts[verdict]} {verdict}" for verdict in Verdict if verdicts[verdict]),
        study.uploaded_by.name,
    ]


def _models(study_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, str]:
    """Name and hash of the model of each study's current analysis."""
    found = db.session.execute(
        select(Study.id, ModelVersion.name, ModelVersion.sha256)
        .join(Study.current_analysis)
        .join(Analysis.model_version)
        .where(Study.id.in_(study_ids))
    )
    return {study_id: f"{name} {sha256[:12]}" for study_id, name, sha256 in found}


def _verdicts(
    study_ids: Sequence[uuid.UUID], visible: ColumnElement[bool]
) -> dict[uuid.UUID, Counter[Verdict]]:
    """Counts of the current ``visible`` assessments, by study and verdict."""
    found = db.session.execute(
        select(Assessment.study_id, Assessment.verdict, func.count())
        .where(
            Assessment.study_id.in_(study_ids),
            Assessment.superseded_at.is_(None),
            visible,
        )
        .group_by(Assessment.study_id, Assessment.verdict)
    )
    counts: dict[uuid.UUID, Counter[Verdict]] = {}
    for study_id, verdict, count in found:
        counts.setdefault(study_id, Counter())[verdict] = count
    return counts
