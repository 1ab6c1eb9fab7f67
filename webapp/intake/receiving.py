"""Receive one DICOM file from another system and store it until its study is assembled."""

import uuid

from flask_babel import gettext as _
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from webapp.accounts.models import User
from webapp.database import db
from webapp.deidentification import pseudonymiser_for
from webapp.errors import OtherContent
from webapp.extensions import current_blobs
from webapp.intake.arrival import Arrival, take_in, upload_limits
from webapp.intake.destinations import demand_same_patient
from webapp.intake.known import shows_the_same
from webapp.intake.submission import instance_of
from webapp.storage import Keeper
from webapp.studies.models import Instance


def receive_instance(
    *, content: bytes, received_by: User, node_id: uuid.UUID | None = None
) -> Instance | None:
    """Store one DICOM file from another system; its study is assembled later.

    Args:
        received_by: the user recorded as its recipient.
        node_id: the archive that sent it, if known.

    Returns:
        None if the organisation already has this SOP instance with the same picture.

    Raises:
        UnreadableImage: the file is not acceptable, or its pixels may name the patient.
        OtherContent: another image is stored under its SOP Instance UID.
        OtherPatient: its study already exists for another patient.
    """
    with current_blobs().batch() as blobs:
        arrival = take_in(
            content,
            blobs=blobs,
            pseudonymiser=pseudonymiser_for(received_by.organisation_id),
            limits=upload_limits(),
        )
        instance = instance_of(arrival, received_by, node_id)
        if _is_kept(arrival, blobs):
            db.session.rollback()
            return None
        demand_same_patient(instance.study_uid, instance.patient_code)
    try:
        db.session.add(instance)
        db.session.flush()
        # Again: an instance of another patient may have been stored concurrently.
        demand_same_patient(instance.study_uid, instance.patient_code)
        db.session.commit()
    except IntegrityError:  # the same instance arrived concurrently on a second association
        db.session.rollback()
        if not _is_kept(arrival, current_blobs()):
            raise  # another fault: the sender must not be told that it is stored
        return None
    return instance


def _is_kept(arrival: Arrival, blobs: Keeper) -> bool:
    """Whether this SOP instance is stored; raises :class:`OtherContent` for another image."""
    known = db.session.scalar(select(Instance).where(Instance.uid == arrival.facts.sop_uid))
    if known is None:
        return False
    if not shows_the_same(known, arrival, blobs):
        raise OtherContent(_("Another image is already stored under the same DICOM identifier."))
    return True
