"""Fixtures of the reports' tests."""

from pathlib import Path

import pytest

from tests.unit.webapp.reporting.results import Results
from webapp.storage import FolderStore


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Contents of reports, with a store for their pictures."""
    return Results(FolderStore(tmp_path / "pictures"))
