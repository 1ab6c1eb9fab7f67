"""Fixtures of tests that start real processes; their folders' conftest.py takes them over."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from config import Settings
from tests.broker import Broker, running_broker
from tests.portal import Portal


@pytest.fixture
def broker() -> Iterator[Broker]:
    """A Redis of the test's own, because some tests stop it or lose its messages."""
    with running_broker() as broker:
        yield broker


@pytest.fixture
def portal(broker: Broker, settings: Settings, app: Flask, tmp_path: Path) -> Iterator[Portal]:
    """Database, broker and blobs, on both kinds of database; tests start the processes."""
    portal = Portal.of(app, settings, broker, tmp_path)
    yield portal
    portal.stop_all()


@pytest.fixture
def broker_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a test asks for a broker, its address; else one where nobody answers."""
    if "broker" in request.fixturenames:
        broker: Broker = request.getfixturevalue("broker")
        return broker.url
    return f"redis+socket://{tmp_path}/no-broker.sock"
