"""Send the results of a study to an archive."""

import logging
import uuid

from sqlalchemy.exc import DBAPIError

from ml.errors import MemoryBusy
from webapp.database import db
from webapp.errors import Conflict
from webapp.extensions import current_blobs, current_settings
from webapp.pacs import deliveries
from webapp.pacs.models import Sending
from webapp.queueing import DELIVER
from webapp.reporting.content import gather
from webapp.reporting.dicom import dicom_result
from webapp.reporting.operations import room_for_pictures
from webapp.studies.queries import find_study
from webapp.tenancy import acting_for
from worker.app import app
from worker.dicom_sending import NotDelivered, Objects, store_by_dimse, store_by_stow

_log = logging.getLogger(__name__)


@app.task(name=DELIVER)
def deliver_results(*, delivery_id: str) -> None:
    """Claim the delivery, build the objects and send them. Idempotent."""
    claim = deliveries.claim_delivery(uuid.UUID(delivery_id))
    if claim is None:
        return
    try:
        _deliver(claim)
    except deliveries.ClaimLost:
        _log.warning("delivery %s was taken over by another worker", delivery_id)
    except NotDelivered as problem:
        _log.warning("delivery %s: %s (%s)", delivery_id, problem.reason, problem)
        _give_up_or_wait(claim, problem)
    except (DBAPIError, OSError, MemoryBusy):
        _log.warning("delivery %s is tried again", delivery_id, exc_info=True)
        _give_up_or_wait(claim, NotDelivered("internal", passing=True))
    except Exception:
        _log.exception("delivery %s failed", delivery_id)
        _give_up_or_wait(claim, NotDelivered("internal"))


def _deliver(claim: deliveries.DeliveryClaim) -> None:
    objects = _objects(claim)
    if claim.sending is Sending.DIMSE and claim.port:
        settings = current_settings()
        store_by_dimse(
            objects,
            calling=settings.dicom_ae_title,
            called=claim.ae_title,
            address=claim.address,
            port=claim.port,
        )
    elif claim.sending is Sending.STOW and claim.stow_url:
        store_by_stow(objects, url=claim.stow_url, authorization=claim.stow_authorization)
    else:
        raise NotDelivered("disabled")
    deliveries.finish_delivery(claim, objects=len(objects))
    _log.info("delivery %s: %d objects", claim.delivery_id, len(objects))


def _objects(claim: deliveries.DeliveryClaim) -> Objects:
    blobs = current_blobs()
    with acting_for(claim.organisation_id):
        try:
            content = gather(find_study(claim.study_id))
        except Conflict as error:
            # New images arrived since: the result of the newer analysis is to be sent.
            raise NotDelivered("under_way", passing=True) from error
        # Keep no transaction open while the archive responds.
        db.session.rollback()
    with room_for_pictures(content):
        return dicom_result(content, blobs).objects


def _give_up_or_wait(claim: deliveries.DeliveryClaim, problem: NotDelivered) -> None:
    db.session.rollback()
    try:
        if problem.passing:
            deliveries.put_off_delivery(claim, reason=problem.reason)
        else:
            deliveries.fail_delivery(claim, reason=problem.reason)
    except deliveries.ClaimLost:
        _log.warning("delivery %s was taken over by another worker", claim.delivery_id)
