"""Assessments of readers as a ZIP that ``python -m ml train`` reads: images and a manifest.

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
from dataclasses import dataclass
from typing import IO

from flask import Response, current_app, send_file

from webapp.database import db
from webapp.extensions import current_blobs
from webapp.review.models import Assessment
from webapp.review.operations import record_export
from webapp.review.queries import current_assessments
from webapp.storage import MissingBlob
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
)
_IN_MEMORY = 16 * 2**20
_CHUNK = 200

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """How much was written. ``skipped`` answers are about images that are no longer stored."""

    answers: int
    images: int
    skipped: int


@dataclass(frozen=True)
class AnswerLine:
    """One answer as it is given away; the fields are :data:`COLUMNS`."""

    path: str
    label: str | None
    group: str
    image_id: uuid.UUID
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

    @classmethod
    def of(cls, answer: Assessment) -> "AnswerLine":
        """Describe ``answer``, whose image, study, prediction and model are loaded."""
        study, prediction = answer.image.study, answer.prediction
        model = prediction.analysis.model_version
        return cls(
            path=f"images/{answer.image_id}.png",
            label=answer.label,
            group=pseudonym(study.patient_id),
            image_id=answer.image_id,
            study_id=study.id,
            reader=pseudonym(answer.reader_id),
            verdict=answer.verdict.value,
            confidence=answer.confidence.value if answer.confidence else None,
            comment=answer.comment,
            region=answer.region["points"] if answer.region else None,
            predicted_label=prediction.label,
            predicted_probability=prediction.probabilities[prediction.label],
            model=model.name if model else "",
            model_sha256=model.sha256 if model else "",
            created_at=answer.created_at.isoformat(),
        )

    def cells(self) -> list[Cell]:
        """The line of the manifest."""
        return [_cell(getattr(self, column)) for column in COLUMNS]


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


def send_archive(file: IO[bytes]) -> Response:
    """The ZIP as an answer that closes it in the end; no cache keeps the patients' images."""
    answer = send_file(
        file, mimetype="application/zip", as_attachment=True, download_name="feedback.zip"
    )
    answer.headers["Cache-Control"] = "no-store"
    return answer


def export_feedback(
    file: IO[bytes],
    *,
    actor_id: uuid.UUID | None,
    on_answer: Callable[[], object] = lambda: None,
) -> Exported:
    """Write the current answers of the organisation acted for to ``file``, and note it.

    ``manifest.csv`` holds the answers with a class, ``unsure.csv`` those without.

    Args:
        on_answer: called after each answer, for a progress bar.
    """
    lines: dict[str, list[list[Cell]]] = {"manifest.csv": [], "unsure.csv": []}
    written: set[uuid.UUID] = set()
    missing: set[uuid.UUID] = set()
    skipped = 0
    with zipfile.ZipFile(file, "w") as archive:
        found = current_assessments().order_by(Assessment.created_at, Assessment.id)
        for answer in db.session.scalars(found.execution_options(yield_per=_CHUNK)):
            on_answer()
            if not _write_image(archive, answer, written, missing):
                skipped += 1
                continue
            name = "manifest.csv" if answer.label else "unsure.csv"
            lines[name].append(AnswerLine.of(answer).cells())
        for name, rows in lines.items():
            text = write_lines([COLUMNS, *rows])
            archive.writestr(name, text, compress_type=zipfile.ZIP_DEFLATED)
    count = sum(map(len, lines.values()))
    exported = Exported(answers=count, images=len(written), skipped=skipped)
    record_export("export_feedback", actor_id=actor_id, rows=count)
    return exported


def _write_image(
    archive: zipfile.ZipFile, answer: Assessment, written: set[uuid.UUID], missing: set[uuid.UUID]
) -> bool:
    """Add the image that ``answer`` is about, once; False if it is no longer stored."""
    image = answer.image
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
