"""Fixtures for the tests of ``ml``."""

import pytest

from tests import narrow


@pytest.fixture
def narrow_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks of :mod:`tests.narrow` can be trained by name."""
    narrow.register(monkeypatch)
