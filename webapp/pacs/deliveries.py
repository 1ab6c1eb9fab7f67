"""Results on their way to an archive: who asks for them, and how a delivery moves to its end.

A delivery is queued until it is done or has failed. One UPDATE claims it: it counts the attempt
and moves ``next_try_at`` to where the claim ends, so that of two workers exactly one sends, and
what a dead worker left is taken up again. ``attempts`` fences later changes. Sending twice does
no harm: the objects of a result keep their UIDs.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import ColumnElement, Select, and_, func, select
from sqlalchemy.orm import joinedload

from webapp import audit
from webapp.accounts.models import User
from webapp.database import db, now
from webapp.errors import Conflict, NotFound
from webapp.leases import Jobs, Lease, due_after
from webapp.pacs.models import Delivery, DeliveryStatus, PacsNode, Sending
from webapp.queueing import send_delivery
from webapp.studies.models import Status, Study
from webapp.tenancy import acting_for

MAX_ATTEMPTS = 5
# Longer than a delivery may take: its connections have timeouts of half a minute.
CLAIM = timedelta(minutes=10)


@dataclass(frozen=True)
class DeliveryClaim(Lease):
    """A delivery that this worker may carry out, and where it goes to."""

    study_id: uuid.UUID
    sending: Sending
    ae_title: str
    address: str
    port: int | None
    stow_url: str | None
    stow_authorization: str | None = field(repr=False)


def send_results(*, actor: User, study_id: uuid.UUID, node_id: uuid.UUID) -> Delivery:
    """Queue the results of a study for a node; a delivery that still waits is sent at once.

    Raises:
        NotFound: there is no such study, or no such node that accepts results.
        Conflict: the study has no result.
    """
    study = db.session.scalar(select(Study).where(Study.id == study_id))
    if study is None:
        raise NotFound(_("There is no such study."))
    node = db.session.scalar(_receiving_nodes().where(PacsNode.id == node_id))
    if node is None:
        raise NotFound(_("There is no such archive that accepts results."))
    if study.status is not Status.DONE:
        raise Conflict(_("Results can be sent once the study has been analysed."))
    delivery = _waiting(study, node) or _new(study, node, requested_by=actor)
    delivery.next_try_at = now()
    audit.record("send_results", subject=study, actor_id=actor.id, node=node.name)
    db.session.commit()
    send_delivery(delivery.id)
    return delivery


def queue_automatic_deliveries(study: Study) -> list[Delivery]:
    """Queue the results of a finished study for all nodes that want every result.

    Runs in the transaction that ends the study, in the scope of its organisation; the sweep
    sends the messages.
    """
    if study.status is not Status.DONE:
        return []
    nodes = db.session.scalars(_receiving_nodes().where(PacsNode.sends_by_itself.is_(True)))
    deliveries = [_waiting(study, node) or _new(study, node) for node in nodes]
    for delivery in deliveries:
        delivery.next_try_at = due_after(timedelta(0))
    return deliveries


def receiving_nodes() -> Sequence[PacsNode]:
    """The nodes of the current organisation that accept results."""
    return db.session.scalars(_receiving_nodes().order_by(PacsNode.name)).all()


def deliveries_of(study: Study) -> Sequence[Delivery]:
    """All deliveries of a study with their nodes, newest first."""
    return db.session.scalars(
        select(Delivery)
        .where(Delivery.study_id == study.id)
        .order_by(Delivery.created_at.desc(), Delivery.id)
        .options(joinedload(Delivery.node))
        .execution_options(populate_existing=True)
    ).all()


def claim_delivery(delivery_id: uuid.UUID) -> DeliveryClaim | None:
    """Take the delivery if it is due; None if there is nothing to do."""
    return _jobs.claim(delivery_id, _claim)


def finish_delivery(claim: DeliveryClaim, *, objects: int) -> None:
    """End the delivery as done.

    Raises:
        LeaseLost: it is no longer this worker's.
    """
    _jobs.update(claim, status=DeliveryStatus.DONE, reason=None, finished_at=now())
    _record_end(claim, "deliver_results", objects=objects)


def put_off_delivery(claim: DeliveryClaim, *, reason: str) -> None:
    """Try again later, with a doubled delay each time; fail after the last attempt.

    Args:
        reason: one of ``webapp.reporting.words.DELIVERY_REASONS``.

    Raises:
        LeaseLost: it is no longer this worker's.
    """
    if claim.attempt >= MAX_ATTEMPTS:
        fail_delivery(claim, reason=reason)
        return
    wait = timedelta(minutes=2**claim.attempt)
    _jobs.update(claim, reason=reason, next_try_at=now() + wait)
    db.session.commit()


def fail_delivery(claim: DeliveryClaim, *, reason: str) -> None:
    """End the delivery as failed: another attempt would fail the same way.

    Raises:
        LeaseLost: it is no longer this worker's.
    """
    _jobs.update(claim, status=DeliveryStatus.FAILED, reason=reason, finished_at=now())
    _record_end(claim, "give_up_delivery", reason=reason)


def deliveries_to_resend() -> list[uuid.UUID]:
    """Find deliveries that are due and that nobody works on, mark them as sent, return their ids.

    Those that have used up their attempts in workers that died are ended.
    """
    return _jobs.to_resend()


def _receiving_nodes() -> Select[PacsNode]:
    return select(PacsNode).where(PacsNode.is_active.is_(True), PacsNode.sending != Sending.NEVER)


def _waiting(study: Study, node: PacsNode) -> Delivery | None:
    """A delivery to the node that no worker has started."""
    return db.session.scalar(
        select(Delivery).where(
            Delivery.study_id == study.id,
            Delivery.node_id == node.id,
            Delivery.status == DeliveryStatus.QUEUED,
            Delivery.attempts == 0,
        )
    )


def _new(study: Study, node: PacsNode, *, requested_by: User | None = None) -> Delivery:
    delivery = Delivery(
        study_id=study.id,
        node_id=node.id,
        requested_by_id=requested_by.id if requested_by else None,
        next_try_at=now(),
    )
    db.session.add(delivery)
    return delivery


def _claim(delivery: Delivery, attempt: int) -> DeliveryClaim:
    node = delivery.node
    return DeliveryClaim(
        job_id=delivery.id,
        organisation_id=delivery.organisation_id,
        attempt=attempt,
        study_id=delivery.study_id,
        sending=node.sending if node.is_active else Sending.NEVER,
        ae_title=node.ae_title,
        address=node.address,
        port=node.port,
        stow_url=node.stow_url,
        stow_authorization=node.stow_authorization,
    )


def _record_end(claim: DeliveryClaim, action: str, **details: Any) -> None:
    with acting_for(claim.organisation_id):
        study = db.session.get_one(Study, claim.study_id)
        audit.record(action, subject=study, delivery=str(claim.job_id), **details)
        db.session.commit()


def _is_free(moment: datetime) -> ColumnElement[bool]:
    return and_(Delivery.status == DeliveryStatus.QUEUED, Delivery.next_try_at <= moment)


def _record_given_up(delivery: Delivery) -> None:
    audit.record("give_up_delivery", subject=delivery, reason=delivery.reason)


_jobs: Jobs[Delivery] = Jobs(
    model=Delivery,
    attempt=Delivery.attempts,
    sent_at=Delivery.next_try_at,
    max_attempts=MAX_ATTEMPTS,
    free=_is_free,
    held=Delivery.status == DeliveryStatus.QUEUED,
    taken=lambda moment: {"next_try_at": moment + CLAIM},
    given_up=lambda moment: {
        "status": DeliveryStatus.FAILED,
        "reason": func.coalesce(Delivery.reason, "internal"),
        "finished_at": moment,
    },
    record_end=_record_given_up,
)
