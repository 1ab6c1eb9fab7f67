"""Fixtures for the tests of ``ml``."""

import pytest

from tests import narrow


@pytest.fixture
def narrow_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """``narrow`` and ``narrow-odds`` can be trained by name."""
    narrow.register(monkeypatch)
