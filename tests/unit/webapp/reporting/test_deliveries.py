"""Deliveries: who may ask for one, when it is due, how it ends."""

import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from tests.factories import Account, StudyIds, make_study
from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.audit import AuditEvent
from webapp.database import db, now
from webapp.errors import Conflict, NotFound
from webapp.leases import LeaseLost
from webapp.pacs import deliveries
from webapp.pacs.models import Delivery, DeliveryStatus, PacsNode, Sending
from webapp.studies.models import Status, Study
from webapp.tenancy import acting_for, unscoped


@pytest.fixture
def account(make_user: Callable[..., Account]) -> Account:
    return make_user(Role.ADMIN)


@pytest.fixture
def study(app: Flask, account: Account) -> StudyIds:
    return make_study(app, account)


@pytest.fixture
def inside(app: Flask, account: Account) -> Iterator[None]:
    """As in a request of the account."""
    with app.app_context(), acting_for(account.organisation_id):
        yield


def make_node(account: Account, **values: object) -> PacsNode:
    given = {
        "name": "Main PACS",
        "ae_title": "PACS",
        "address": "127.0.0.1",
        "port": 104,
        "sending": Sending.DIMSE,
        "registered_by_id": account.id,
    }
    node = PacsNode(**(given | values))
    db.session.add(node)
    db.session.commit()
    return node


def ask(account: Account, study: StudyIds, node: PacsNode) -> Delivery:
    user = find_user_by_address(account.email)
    return deliveries.send_results(actor=user, study_id=study.study_id, node_id=node.id)


def claimed(delivery: Delivery) -> deliveries.DeliveryClaim:
    claim = deliveries.claim_delivery(delivery.id)
    assert claim is not None
    return claim


def make_due(delivery_id: uuid.UUID) -> None:
    """As if its waiting time were over."""
    long_ago = now() - timedelta(hours=1)
    db.session.execute(
        update(Delivery).where(Delivery.id == delivery_id).values(next_try_at=long_ago)
    )
    db.session.commit()


def current(delivery_id: uuid.UUID) -> Delivery:
    return db.session.get_one(Delivery, delivery_id, populate_existing=True)


@pytest.mark.usefixtures("inside")
def test_sending_queues_a_delivery_and_leaves_a_trace(account: Account, study: StudyIds) -> None:
    delivery = ask(account, study, make_node(account))
    assert delivery.status is DeliveryStatus.QUEUED
    assert delivery.requested_by_id == account.id
    event = db.session.scalars(select(AuditEvent).where(AuditEvent.action == "send_results")).one()
    assert (event.actor_id, event.subject_id) == (account.id, study.study_id)
    assert event.details == {"node": "Main PACS"}


@pytest.mark.usefixtures("inside")
def test_a_double_click_makes_one_delivery(account: Account, study: StudyIds) -> None:
    node = make_node(account)
    assert ask(account, study, node).id == ask(account, study, node).id


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("values", [{"sending": Sending.NEVER}, {"is_active": False}])
def test_archive_that_takes_nothing_is_not_found(
    account: Account, study: StudyIds, values: dict[str, object]
) -> None:
    with pytest.raises(NotFound):
        ask(account, study, make_node(account, **values))


def test_another_organisation_s_archive_is_not_found(
    app: Flask, account: Account, study: StudyIds, make_user: Callable[..., Account]
) -> None:
    stranger = make_user(Role.ADMIN, organisation="Hospital B")
    with app.app_context():
        with acting_for(stranger.organisation_id):
            node = make_node(stranger)
        with acting_for(account.organisation_id), pytest.raises(NotFound):
            ask(account, study, node)


@pytest.mark.usefixtures("inside")
def test_study_without_result_is_not_sent(account: Account, study: StudyIds) -> None:
    node = make_node(account)
    analysis = db.session.get_one(Study, study.study_id).current_analysis
    assert analysis is not None
    analysis.status = Status.RUNNING
    db.session.commit()
    with pytest.raises(Conflict):
        ask(account, study, node)


@pytest.mark.usefixtures("inside")
def test_one_worker_gets_a_delivery(account: Account, study: StudyIds) -> None:
    delivery = ask(account, study, make_node(account))
    assert deliveries.claim_delivery(delivery.id) is not None
    assert deliveries.claim_delivery(delivery.id) is None


@pytest.mark.usefixtures("inside")
def test_done_is_done(account: Account, study: StudyIds) -> None:
    delivery = ask(account, study, make_node(account))
    deliveries.finish_delivery(claimed(delivery), objects=3)
    ended = current(delivery.id)
    assert (ended.status, ended.reason) == (DeliveryStatus.DONE, None)
    assert ended.finished_at
    make_due(delivery.id)
    assert deliveries.claim_delivery(delivery.id) is None
    assert deliveries.deliveries_to_resend() == []


@pytest.mark.usefixtures("inside")
def test_each_pause_is_twice_as_long_and_five_tries_are_enough(
    account: Account, study: StudyIds
) -> None:
    delivery = ask(account, study, make_node(account))
    for minutes in (2, 4, 8, 16):
        deliveries.put_off_delivery(claimed(delivery), reason="unreachable")
        waiting = current(delivery.id)
        assert waiting.status is DeliveryStatus.QUEUED
        wait = (waiting.next_try_at - now()) / timedelta(minutes=1)
        assert wait == pytest.approx(minutes, abs=0.2)
        assert deliveries.claim_delivery(delivery.id) is None, "not due yet"
        make_due(delivery.id)
    deliveries.put_off_delivery(claimed(delivery), reason="unreachable")
    ended = current(delivery.id)
    assert (ended.status, ended.reason) == (DeliveryStatus.FAILED, "unreachable")


@pytest.mark.usefixtures("inside")
def test_worker_that_was_taken_for_dead_changes_nothing(account: Account, study: StudyIds) -> None:
    delivery = ask(account, study, make_node(account))
    first = claimed(delivery)
    make_due(delivery.id)
    second = claimed(delivery)
    with pytest.raises(LeaseLost):
        deliveries.finish_delivery(first, objects=1)
    deliveries.finish_delivery(second, objects=1)


@pytest.mark.usefixtures("inside")
def test_sweeper_sends_what_is_due_and_not_what_is_in_work(
    account: Account, study: StudyIds
) -> None:
    delivery = ask(account, study, make_node(account))
    assert deliveries.deliveries_to_resend() == [], "its message has just gone"
    make_due(delivery.id)
    assert deliveries.deliveries_to_resend() == [delivery.id]
    assert deliveries.deliveries_to_resend() == [], "its message has gone again"
    claimed(delivery)
    assert deliveries.deliveries_to_resend() == []


@pytest.mark.usefixtures("inside")
def test_delivery_whose_workers_always_die_ends_as_failed(
    account: Account, study: StudyIds
) -> None:
    delivery = ask(account, study, make_node(account))
    for _attempt in range(deliveries.MAX_ATTEMPTS):
        claimed(delivery)
        make_due(delivery.id)
    assert deliveries.deliveries_to_resend() == []
    ended = current(delivery.id)
    assert (ended.status, ended.reason) == (DeliveryStatus.FAILED, "internal")


def test_finished_study_goes_by_itself_where_the_archive_wants_it(
    app: Flask, account: Account
) -> None:
    with app.app_context(), acting_for(account.organisation_id):
        wanted = make_node(account, name="Wants all", sends_by_itself=True).id
        make_node(account, name="Wants none")
        make_node(account, name="Off", sends_by_itself=True, is_active=False)
    study = make_study(app, account)
    with app.app_context(), unscoped():
        found = db.session.scalars(select(Delivery)).all()
        assert [(each.study_id, each.node_id) for each in found] == [(study.study_id, wanted)]
        assert found[0].requested_by_id is None
        assert deliveries.deliveries_to_resend() == [found[0].id]


def test_archive_s_sign_in_is_not_in_the_claim_s_text(
    app: Flask, account: Account, study: StudyIds
) -> None:
    with app.app_context(), acting_for(account.organisation_id):
        node = make_node(account, stow_authorization="Basic c2VjcmV0")
        assert "c2VjcmV0" not in repr(claimed(ask(account, study, node)))


def test_page_offers_archives_and_tells_how_it_went(
    app: Flask,
    account: Account,
    study: StudyIds,
    sign_in: Callable[[Account], FlaskClient],
) -> None:
    with app.app_context(), acting_for(account.organisation_id):
        node_id = make_node(account, name="<i>PACS</i>").id
    browser = sign_in(account)
    address = f"/studies/{study.study_id}/deliveries"
    assert "Send to &lt;i&gt;PACS&lt;/i&gt;" in browser.get(address).text
    answer = browser.post(address, data={"node_id": str(node_id)}, headers={"HX-Request": "true"})
    assert "Being sent" in answer.text
    assert "every 2s" in answer.text
    with app.app_context(), acting_for(account.organisation_id):
        delivery = db.session.scalars(select(Delivery)).one()
        deliveries.fail_delivery(claimed(delivery), reason="rejected_association")
    text = browser.get(address).text
    assert "Not sent" in text
    assert "application entity" in text
    assert "every 2s" not in text


@pytest.mark.parametrize("node_id", ["", "nonsense", "46ff0cf0-66b5-4d30-90c5-d8985bba513b"])
def test_archive_that_does_not_exist_is_404(
    account: Account,
    study: StudyIds,
    sign_in: Callable[[Account], FlaskClient],
    node_id: str,
) -> None:
    answer = sign_in(account).post(
        f"/studies/{study.study_id}/deliveries", data={"node_id": node_id}
    )
    assert answer.status_code == 404
