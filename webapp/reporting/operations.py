"""User operations on reports: export."""

import json
import uuid
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum

from flask_babel import gettext as _

from webapp import audit
from webapp.accounts.models import User
from webapp.database import db
from webapp.errors import NotFound
from webapp.extensions import current_blobs, current_room
from webapp.reporting.content import ReportContent, gather
from webapp.reporting.dicom import dicom_result
from webapp.reporting.fhir import diagnostic_report
from webapp.reporting.identity import as_file
from webapp.reporting.pdf import pdf
from webapp.reporting.pictures import memory
from webapp.storage import MissingBlob
from webapp.studies.queries import find_study
from webapp.studies.sight import blind_slice, end_blind


class ReportFormat(StrEnum):
    """File format of an exported report."""

    PDF = "pdf"
    SR = "sr"
    FHIR = "fhir"


_KINDS = {
    ReportFormat.PDF: ("application/pdf", "pdf"),
    ReportFormat.SR: ("application/dicom", "dcm"),
    ReportFormat.FHIR: ("application/fhir+json", "fhir.json"),
}


@dataclass(frozen=True)
class ReportFile:
    """A report to send to the user."""

    content: bytes
    media_type: str
    name: str


def export_report(*, actor: User, study_id: uuid.UUID, wanted: ReportFormat) -> ReportFile:
    """Make the report of a study and record the export in the audit trail.

    Raises:
        NotFound: there is no such study, or one of its pictures is gone.
        Conflict: the study has no result.
    """
    study = find_study(study_id)
    content = gather(study, reader=actor)
    media_type, ending = _KINDS[wanted]
    # The name does not identify the patient: it appears in folders and histories.
    name = f"sulcus-report-{study.id.hex[:8]}.{ending}"
    with room_for_pictures(content):
        made = ReportFile(_made(content, wanted), media_type, name)
    if blind_slice(actor.id, study.id) is not None:
        end_blind(actor.id, study.id)  # the report tells the answer
    audit.record("export_report", subject=study, actor_id=actor.id, format=wanted.value)
    db.session.commit()
    return made


def room_for_pictures(content: ReportContent) -> AbstractContextManager[None]:
    """Reserve memory for the pictures of a report; raises :class:`ml.errors.MemoryBusy`."""
    room = current_room()
    return room.taken(min(room.size, memory(content.key_slices)))


def _made(content: ReportContent, wanted: ReportFormat) -> bytes:
    blobs = current_blobs()
    try:
        match wanted:
            case ReportFormat.PDF:
                return pdf(content, blobs)
            case ReportFormat.SR:
                return as_file(dicom_result(content, blobs).report)
            case ReportFormat.FHIR:
                return json.dumps(diagnostic_report(content), ensure_ascii=False).encode()
    except MissingBlob as error:
        raise NotFound(_("The stored image can no longer be read.")) from error
