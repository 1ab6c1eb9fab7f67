"""Leases, for a kind of job of the test's own: two attempts, a lease of a minute."""

import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import and_, select, update

from tests.factories import Account, make_study
from webapp.accounts.models import Role
from webapp.audit import AuditEvent, record
from webapp.database import db, now
from webapp.leases import RESEND_AFTER, Jobs, Lease, LeaseLost, due_after
from webapp.pacs.models import Delivery, DeliveryStatus, PacsNode
from webapp.tenancy import acting_for, unscoped

LONG_AGO = timedelta(hours=1)
POISON = "poison"


def lease_of(job: Delivery, attempt: int) -> Lease:
    return Lease(job.id, job.organisation_id, attempt)


def record_end(job: Delivery) -> None:
    if job.reason == POISON:
        raise RuntimeError("this one cannot be ended")
    record("end_of_job", subject=job)


def is_free(moment: datetime) -> object:
    return and_(Delivery.status == DeliveryStatus.QUEUED, Delivery.next_try_at <= moment)


JOBS: Jobs[Delivery] = Jobs(
    model=Delivery,
    attempt=Delivery.attempts,
    sent_at=Delivery.next_try_at,
    max_attempts=2,
    free=is_free,
    held=Delivery.status == DeliveryStatus.QUEUED,
    taken=lambda moment: {"next_try_at": moment + timedelta(minutes=1)},
    given_up=lambda moment: {"status": DeliveryStatus.FAILED, "finished_at": moment},
    record_end=record_end,
)


@pytest.fixture
def add_job(app: Flask, make_user: Callable[..., Account]) -> Iterator[Callable[..., uuid.UUID]]:
    """Adds jobs that are due; each organisation has a study and a node of its own."""
    homes: dict[str, tuple[Account, uuid.UUID]] = {}

    def home(organisation: str) -> tuple[Account, uuid.UUID]:
        account = make_user(Role.ADMIN, organisation=organisation)
        return account, make_study(app, account).study_id

    for name in ("A", "B"):
        homes[name] = home(name)
    with app.app_context():

        def add(organisation: str = "A", **values: object) -> uuid.UUID:
            account, study_id = homes[organisation]
            with acting_for(account.organisation_id):
                node = PacsNode(
                    name=uuid.uuid4().hex,
                    ae_title="PACS",
                    address="127.0.0.1",
                    registered_by_id=account.id,
                )
                db.session.add(node)
                db.session.flush()
                given = {"next_try_at": now() - LONG_AGO} | values
                job = Delivery(study_id=study_id, node_id=node.id, **given)
                db.session.add(job)
                db.session.commit()
                return job.id

        yield add


def take(job_id: uuid.UUID) -> Lease:
    lease = JOBS.claim(job_id, lease_of)
    assert lease is not None
    return lease


def end_lease(job_id: uuid.UUID) -> None:
    """As if the worker had died long ago."""
    with unscoped():
        found = update(Delivery).where(Delivery.id == job_id)
        db.session.execute(found.values(next_try_at=now() - LONG_AGO))
        db.session.commit()


def current(job_id: uuid.UUID) -> Delivery:
    with unscoped():
        return db.session.get_one(Delivery, job_id, populate_existing=True)


Add = Callable[..., uuid.UUID]


def test_one_worker_gets_a_job_and_the_lease_names_its_organisation(add_job: Add) -> None:
    job_id = add_job("B")
    lease = take(job_id)
    assert (lease.job_id, lease.attempt) == (job_id, 1)
    assert lease.organisation_id == current(job_id).organisation_id
    assert JOBS.claim(job_id, lease_of) is None


def test_job_that_is_not_due_or_not_there_is_nothing_to_do(add_job: Add) -> None:
    assert JOBS.claim(add_job(next_try_at=now() + LONG_AGO), lease_of) is None
    assert JOBS.claim(uuid.uuid4(), lease_of) is None


def test_whoever_holds_the_lease_writes_and_an_earlier_holder_does_not(add_job: Add) -> None:
    job_id = add_job()
    first = take(job_id)
    end_lease(job_id)
    second = take(job_id)
    with pytest.raises(LeaseLost):
        JOBS.update(first, reason="late")
    JOBS.update(second, reason="in time")
    db.session.commit()
    assert current(job_id).reason == "in time"


def test_job_that_has_ended_is_changed_by_nobody(add_job: Add) -> None:
    lease = take(add_job())
    JOBS.update(lease, status=DeliveryStatus.DONE)
    db.session.commit()
    with pytest.raises(LeaseLost):
        JOBS.update(lease, reason="again")


def test_lease_under_another_organisation_finds_no_row(add_job: Add) -> None:
    lease = take(add_job("A"))
    stranger = current(add_job("B")).organisation_id
    with pytest.raises(LeaseLost):
        JOBS.update(Lease(lease.job_id, stranger, lease.attempt), reason="foreign")


def test_needless_job_is_neither_claimed_nor_written_nor_sent_again(add_job: Add) -> None:
    wanted = Jobs(**(vars(JOBS) | {"wanted": Delivery.reason.is_(None)}))
    held, waits = add_job(), add_job(reason="needless")
    lease = wanted.claim(held, lease_of)
    assert lease is not None
    wanted.update(lease, reason="needless")
    db.session.commit()
    with pytest.raises(LeaseLost):
        wanted.update(lease, reason="once more")
    assert wanted.claim(waits, lease_of) is None
    assert wanted.to_resend() == []


def test_due_jobs_of_every_organisation_are_sent_again_once_in_a_while(add_job: Add) -> None:
    jobs = {add_job("A"), add_job("B")}
    add_job(next_try_at=now())  # its message has just gone
    take(add_job())
    assert set(JOBS.to_resend()) == jobs
    assert JOBS.to_resend() == []


def test_job_put_off_is_sent_when_its_wait_is_over(add_job: Add) -> None:
    waits, due = add_job(), add_job()
    JOBS.update(take(waits), next_try_at=due_after(RESEND_AFTER))
    JOBS.update(take(due), next_try_at=due_after(timedelta(0)))
    db.session.commit()
    assert JOBS.to_resend() == [due]


def test_one_job_that_cannot_be_ended_keeps_no_other_from_its_end(add_job: Add) -> None:
    poison, other = add_job("A", reason=POISON, attempts=2), add_job("B", attempts=2)
    assert JOBS.claim(other, lease_of) is None
    JOBS.to_resend()
    assert current(other).status is DeliveryStatus.FAILED
    assert current(poison).status is DeliveryStatus.QUEUED
    with unscoped():
        ends = select(AuditEvent).where(AuditEvent.action == "end_of_job")
        (event,) = db.session.scalars(ends)
        assert event.subject_id == other


def test_last_attempt_may_finish_its_work(add_job: Add) -> None:
    lease = take(add_job(attempts=1))
    assert JOBS.to_resend() == []
    JOBS.update(lease, status=DeliveryStatus.DONE)
    db.session.commit()
    assert current(lease.job_id).status is DeliveryStatus.DONE
