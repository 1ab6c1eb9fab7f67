"""A broker that stalls, restarts or vanishes costs time, and neither a study nor a restart."""

import random
import threading
import uuid

import pytest

from tests.factories import Account
from tests.portal import SAMPLES, Portal
from tests.waiting import wait_until
from webapp.studies.models import Status

pytestmark = pytest.mark.integration
ALL_SAMPLES = sorted(SAMPLES.glob("*.jpg"))


def _submit(portal: Portal, account: Account, count: int) -> list[uuid.UUID]:
    return [portal.submit(account, ALL_SAMPLES[:2]) for _number in range(count)]


def _ended(portal: Portal, studies: list[uuid.UUID]) -> int:
    return sum(portal.study(one).status.is_final for one in studies)


def _wait_until_busy(portal: Portal, studies: list[uuid.UUID], *, more_than: int) -> None:
    wait_until(
        lambda: _ended(portal, studies) > more_than, seconds=120, what="a study that is done"
    )


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_worker_goes_on_after_each_stall_and_restart(portal: Portal) -> None:
    worker = portal.start_worker()
    account = portal.make_user()
    pause = threading.Event()
    studies: list[uuid.UUID] = []
    for what in ("stall", "restart", "stall"):
        before = _ended(portal, studies)
        studies += _submit(portal, account, 4)
        _wait_until_busy(portal, studies, more_than=before)
        pause.wait(random.uniform(0, 0.5))
        if what == "restart":
            portal.broker.stop()
            portal.broker.start()
            continue
        with portal.broker.stalled():
            pause.wait(11)  # a call of the worker's has to run into its time-out of 10 s
    wait_until(
        lambda: _ended(portal, studies) == len(studies), seconds=90, what="the end of all studies"
    )
    assert {portal.study(one).status for one in studies} == {Status.DONE}
    assert worker.poll() is None
