"""Assessments as a ZIP that ``python -m ml train`` reads: images and a manifest.

Patients and readers appear as keyed pseudonyms. All images of a patient share a ``group``, so
that training never separates them.
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
)
_IN_MEMORY = 16 * 2**20
_CHUNK = 200

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """How much was written.

    Attributes:
        assessments: all of them.
        images: files.
        others: assessments that name a disease which the model does not know.
        studies: assessments of studies as a whole.
        skipped: assessments of images that are no longer stored; they were left out.
    """

    assessments: int
    images: int
    others: int
    studies: int
    skipped: int


@dataclass(frozen=True)
class AssessmentLine:
    """One assessment as it is given away; the fields are :data:`COLUMNS`.

    Attributes:
        path, image_id: None for a study as a whole.
        label: one of the model's classes, or ``other``.
        row_spacing, column_spacing, pixel_aspect: of the image's pixels, as
            :class:`webapp.studies.models.Image` has them: training makes them square by it.
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

    @classmethod
    def of(cls, one: Assessment) -> "AssessmentLine":
        """Describe ``one``, whose slice, study, analysis, prediction and model are loaded."""
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
        )

    def cells(self) -> list[Cell]:
        """The line of the manifest. What is none of the classes has no label to learn from."""
        kept = self if self.label in INDEX else replace(self, label=None)
        return [_cell(getattr(kept, column)) for column in COLUMNS]


def pseudonym(identifier: uuid.UUID) -> str:
    """The same 16 hexadecimal digits for the same person; without the key no way back."""
    key: str = current_app.config["SECRET_KEY"]
    return hmac.new(key.encode(), str(identifier).encode(), hashlib.sha256).hexdigest()[:16]


def feedback_archive(*, actor_id: uuid.UUID | None) -> IO[bytes]:
    """Write the ZIP to a temporary file and note the export; the caller closes the file."""
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
    """Write the current assessments of the organisation acted for to ``file``, and note it.

    ``manifest.csv`` holds the slices that have one of the model's classes, ``unsure.csv`` those
    without, and ``studies.csv``, where there are any, studies as a whole.

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
    """Add the image, once; False if it is no longer stored."""
    if image.id in written or image.id in missing:
        return image.id in written
    blobs = current_blobs()
    try:
        # A PNG is compressed already.
        archive.writestr(f"images/{image.id}.png", blobs.get(image.blob_key or ""))
    except MissingBlob:
        _log.error("image %s is no longer stored and was left out of the export", image.id)
        missing.add(image.id)
        return False
    written.add(image.id)
    return True


def _cell(value: str | float | uuid.UUID | list[list[float]] | None) -> Cell:
    if isinstance(value, list):
        return json.dumps(value)
    return str(value) if isinstance(value, uuid.UUID) else value
