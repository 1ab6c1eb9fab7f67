"""Pages of experiments begin with what they say, in three lines."""

import json
from pathlib import Path
from typing import Any

import pytest

from ml.registry import SERVING
from ml.reporting.crossvalidation_report import summary

PAGES = Path(__file__).parents[4] / "docs" / "research"


@pytest.fixture
def figures() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(SERVING.read_text(encoding="utf-8"))["cross_validations"]
    return found


@pytest.mark.parametrize(
    ("by", "page"),
    [("group", "crossvalidation.md"), ("against-source", "crossvalidation-sources.md")],
)
def test_shipped_pages_say_what_the_card_says(by: str, page: str, figures: dict[str, Any]) -> None:
    assert summary(figures[by]) in (PAGES / page).read_text(encoding="utf-8")


def test_folds_without_a_tumour_miss_none(figures: dict[str, Any]) -> None:
    figures["group"]["tumor_called_no_tumor"] = float("nan")
    assert "No tumour was shown" in summary(figures["group"])
