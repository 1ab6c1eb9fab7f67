"""Export assessments as a ZIP that ``python -m ml train`` reads: images and a manifest.

Patients and readers appear as keyed pseudonyms. All images of a patient share a ``group``, so that
training never splits them between sets.
"""

import hashlib
import hmac
import json
import logging
import tempfile
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import IO

from flask import current_app

from ml.labels import INDEX
from webapp.database import db
from webapp.extensions import current_blobs
from webapp.review.models import OTHER, Assessment
from webapp.review.operations import record_export
from webapp.review.queries import current_assessments
from webapp.storage import MissingBlob
from webapp.studies.models import Image
from webapp.studies.spreadsheet import Cell, write_lines

COLUMNS = (
    "path",
    "label",
    "group",
    "image_id",
    "study_id",
    "reader",
    "verdict",
    "confidence",
    "comment",
    "region",
    "predicted_label",
    "predicted_probability",
    "model",
    "model_sha256",
    "created_at",
    "finding",
    "analysis_id",
    "row_spacing",
    "column_spacing",
    "pixel_aspect",
    "model_shown",
)
_IN_MEMORY = 16 * 2**20
_CHUNK = 200

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """Counts of an export.

    Attributes:
        assessments: all exported assessments.
        images: image files.
        others: assessments with a disease that the model does not know.
        studies: assessments of whole studies.
        skipped: assessments left out because their images are no longer stored.
    """

    assessments: int
    images: int
    others: int
    studies: int
    skipped: int


@dataclass(frozen=True)
class AssessmentLine:
    """One exported assessment; the fields are :data:`COLUMNS`.

    Attributes:
        path, image_id: None for a whole study.
        label: one of the model's classes, or ``other``.
        row_spacing, column_spacing, pixel_aspect: of the image, as in
            :class:`webapp.studies.models.Image`; training uses them to make pixels square.
        model_shown: the reader had been shown the model's answer.
    """

    path: str | None
    label: str | None
    group: str
    image_id: uuid.UUID | None
    study_id: uuid.UUID
    reader: str
    verdict: str
    confidence: str | None
    comment: str
    region: list[list[float]] | None
    predicted_label: str
    predicted_probability: float
    model: str
    model_sha256: str
    created_at: str
    finding: str
    analysis_id: uuid.UUID
    row_spacing: float | None
    column_spacing: float | None
    pixel_aspect: float | None
    model_shown: bool

    @classmethod
    def of(cls, one: Assessment) -> "AssessmentLine":
        """Build the line; ``one`` needs its slice, study, analysis, prediction and model loaded."""
        said = one.prediction or one.analysis
        label, probabilities = said.label or "", said.probabilities or {}
        model = one.analysis.model_version
        return cls(
            path=f"images/{one.image_id}.png" if one.image_id else None,
            label=one.label,
            group=pseudonym(one.study.patient_id),
            image_id=one.image_id,
            study_id=one.study_id,
            reader=pseudonym(one.reader_id),
            verdict=one.verdict.value,
            confidence=one.confidence.value if one.confidence else None,
            comment=one.comment,
            region=one.region["points"] if one.region else None,
            predicted_label=label,
            predicted_probability=probabilities.get(label, 0.0),
            model=model.name if model else "",
            model_sha256=model.sha256 if model else "",
            created_at=one.created_at.isoformat(),
            finding=one.finding,
            analysis_id=one.analysis_id,
            row_spacing=one.image.row_spacing if one.image else None,
            column_spacing=one.image.column_spacing if one.image else None,
            pixel_aspect=one.image.pixel_aspect if one.image else None,
            model_shown=one.model_shown,
        )

    def cells(self) -> list[Cell]:
        """The line of the manifest; the label is empty if it is none of the model's classes."""
        kept = self if self.label in INDEX else replace(self, label=None)
        return [_cell(getattr(kept, column)) for column in COLUMNS]


def pseudonym(identifier: uuid.UUID) -> str:
    """16 hexadecimal digits, always the same for a person and irreversible without the key."""
    key: str = current_app.config["SECRET_KEY"]
    return hmac.new(key.encode(), str(identifier).encode(), hashlib.sha256).hexdigest()[:16]


def feedback_archive(*, actor_id: uuid.UUID | None) -> IO[bytes]:
    """Write the ZIP to a temporary file and audit the export; the caller closes the file."""
    file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - handed on open
    try:
        export_feedback(file, actor_id=actor_id)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


def export_feedback(
    file: IO[bytes],
    *,
    actor_id: uuid.UUID | None,
    on_answer: Callable[[], object] = lambda: None,
) -> Exported:
    """Write the current organisation's current assessments to ``file`` and audit the export.

    ``manifest.csv`` has the slices with one of the model's classes, ``unsure.csv`` those without,
    and ``studies.csv``, if there are any, whole studies.

    Args:
        on_answer: called after each assessment, for a progress bar.
    """
    lines: dict[str, list[list[Cell]]] = {"manifest.csv": [], "unsure.csv": [], "studies.csv": []}
    written: set[uuid.UUID] = set()
    missing: set[uuid.UUID] = set()
    skipped = others = 0
    with zipfile.ZipFile(file, "w") as archive:
        found = current_assessments().order_by(Assessment.created_at, Assessment.id)
        for one in db.session.scalars(found.execution_options(yield_per=_CHUNK)):
            on_answer()
            if one.image and not _write_image(archive, one.image, written, missing):
                skipped += 1
                continue
            others += one.label == OTHER
            lines[_file_of(one)].append(AssessmentLine.of(one).cells())
        for name, rows in lines.items():
            if name == "studies.csv" and not rows:
                continue
            text = write_lines([COLUMNS, *rows])
            archive.writestr(name, text, compress_type=zipfile.ZIP_DEFLATED)
    exported = Exported(
        assessments=sum(map(len, lines.values())),
        images=len(written),
        others=others,
        studies=len(lines["studies.csv"]),
        skipped=skipped,
    )
    record_export("export_feedback", actor_id=actor_id, rows=exported.assessments)
    return exported


def _file_of(one: Assessment) -> str:
    if one.image_id is None:
        return "studies.csv"
    return "manifest.csv" if one.label in INDEX else "unsure.csv"


def _write_image(
    archive: zipfile.ZipFile, image: Image, written: set[uuid.UUID], missing: set[uuid.UUID]
) -> bool:
    """Add the image unless it is already in the ZIP; False if it is no longer stored."""
    if image.id in written or image.id in missing:
        return image.id in written
    blobs = current_blobs()
    try:
        # PNG is already compressed.
        archive.writestr(f"images/{image.id}.png", blobs.get(image.blob_key or ""))
    except MissingBlob:
        _log.error("image %s is no longer stored and was left out of the export", image.id)
        missing.add(image.id)
        return False
    written.add(image.id)
    return True


def _cell(value: str | float | bool | uuid.UUID | list[list[float]] | None) -> Cell:
    if isinstance(value, list):
        return json.dumps(value)
    if isinstance(value, bool):
        return int(value)
    return str(value) if isinstance(value, uuid.UUID) else value
