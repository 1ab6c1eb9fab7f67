"""What a user can do with studies: one function a verb, one transaction and audit entry each."""

import uuid

from flask_babel import gettext as _
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from webapp import audit
from webapp.accounts.models import User
from webapp.database import db
from webapp.deidentification import pseudonymiser_for
from webapp.errors import Conflict, NotFound, OtherContent
from webapp.extensions import current_blobs
from webapp.pacs.models import PacsNode
from webapp.queueing import send_classification
from webapp.storage import Keeper
from webapp.studies.analyses import request_analysis
from webapp.studies.arrival import Arrival, Handling, UploadedFile, take_in, upload_limits
from webapp.studies.destinations import demand_same_patient
from webapp.studies.known import Known, shows_the_same
from webapp.studies.letters import BurnedIn
from webapp.studies.models import Image, Instance, Status, Study
from webapp.studies.parcels import Split
from webapp.studies.submission import (
    MAX_FILES,
    PLANES,
    Choices,
    Idempotency,
    Submission,
    instance_of,
    submit_files,
)

__all__ = [
    "MAX_FILES",
    "PLANES",
    "BurnedIn",
    "Choices",
    "Handling",
    "Idempotency",
    "Known",
    "Split",
    "Submission",
    "UploadedFile",
    "find_image",
    "find_study",
    "receive_instance",
    "retry_study",
    "submit_files",
]


def receive_instance(
    *, content: bytes, received_by: User, node: PacsNode | None = None
) -> Instance | None:
    """Keep one DICOM file that another system sent; its study is put together once it is quiet.

    Args:
        received_by: in whose name it is kept.
        node: the archive that sent it, where one is known.

    Returns:
        None where the organisation has this SOP instance, with the same picture, already.

    Raises:
        UnreadableImage: the file is not acceptable, or its pixels may name the patient.
        OtherContent: another image is kept under its SOP Instance UID.
        OtherPatient: its study is here already, of another patient.
    """
    with current_blobs().batch() as blobs:
        arrival = take_in(
            content,
            blobs=blobs,
            pseudonymiser=pseudonymiser_for(received_by.organisation_id),
            limits=upload_limits(),
        )
        instance = instance_of(arrival, received_by, node)
        if _is_kept(arrival, blobs):
            db.session.rollback()
            return None
        demand_same_patient(instance.study_uid, instance.patient_code)
    try:
        db.session.add(instance)
        db.session.flush()
        # Once more: an instance of another patient may have come at the same moment.
        demand_same_patient(instance.study_uid, instance.patient_code)
        db.session.commit()
    except IntegrityError:  # the same instance on a second association at the same moment
        db.session.rollback()
        if not _is_kept(arrival, current_blobs()):
            raise  # something else is wrong: the sender must not be told that it is stored
        return None
    return instance


def _is_kept(arrival: Arrival, blobs: Keeper) -> bool:
    """Whether this SOP instance is here; raises :class:`OtherContent` if another image."""
    known = db.session.scalar(select(Instance).where(Instance.uid == arrival.facts.sop_uid))
    if known is None:
        return False
    if not shows_the_same(known, arrival, blobs):
        raise OtherContent(_("Another image is already stored under the same DICOM identifier."))
    return True


def retry_study(*, actor: User, study_id: uuid.UUID) -> Study:
    """Queue a failed study again.

    Raises:
        NotFound: there is no such study.
        Conflict: it has not failed.
    """
    study = find_study(study_id)
    refusal = Conflict(_("Only a study whose analysis failed can be analysed again."))
    if study.status is not Status.FAILED:
        raise refusal
    try:
        analysis = request_analysis(study)
        audit.record("retry_study", subject=study, actor_id=actor.id)
        db.session.commit()
    except IntegrityError as error:  # a double click: its twin was faster
        db.session.rollback()
        raise refusal from error
    send_classification(analysis.id)
    return study


def find_study(study_id: uuid.UUID) -> Study:
    """The study of the organisation acted for; raises :class:`NotFound`."""
    study = db.session.scalar(select(Study).where(Study.id == study_id))
    if study is None:
        raise NotFound(_("There is no such study."))
    return study


def find_image(image_id: uuid.UUID) -> Image:
    """The image of the organisation acted for; raises :class:`NotFound`."""
    image = db.session.scalar(select(Image).where(Image.id == image_id))
    if image is None:
        raise NotFound(_("There is no such image."))
    return image
