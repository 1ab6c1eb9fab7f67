"""One DICOM file that another system sent, kept until its study is put together."""

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
    """Keep one DICOM file that another system sent; its study is put together once it is quiet.

    Args:
        received_by: in whose name it is kept.
        node_id: the archive that sent it, where one is known.

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
        instance = instance_of(arrival, received_by, node_id)
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
