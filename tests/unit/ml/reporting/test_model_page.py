"""The page for clinicians says how often the model is right, for whom, and what it cannot do."""

import json
from pathlib import Path
from typing import Any

import pytest

from ml.registry import SERVING
from ml.reporting.model_page import write_page


@pytest.fixture
def card() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(SERVING.read_text(encoding="utf-8"))
    return found


def written(card: dict[str, Any], folder: Path) -> str:
    page = folder / "model.md"
    write_page(card, page, tables="research/tables.md", command="python -m ml card …")
    return page.read_text(encoding="utf-8")


def test_page_puts_the_cross_validation_before_the_models_own_figures(
    card: dict[str, Any], tmp_path: Path
) -> None:
    text = written(card, tmp_path)
    crossed = card["cross_validations"]["group"]
    low, high = (100 * one for one in crossed["intervals_95"]["recall_no_tumor"])
    specificity = 100 * crossed["per_class"]["no_tumor"]["recall"]
    line = next(line for line in text.splitlines() if line.startswith("| **Specificity**: slices"))
    assert line.split(" | ")[1] == f"{specificity:.1f} % ({low:.1f} to {high:.1f})"
    assert text.index("Cross-validation") < text.index("This model")


def test_patients_are_counted_with_an_interval(card: dict[str, Any], tmp_path: Path) -> None:
    card["metrics"]["studies"] |= {
        "tumor_found": {"n": 45, "of": 50},
        "tumor_free_cleared": {"n": 0, "of": 0},
    }
    text = written(card, tmp_path)
    # Wilson's interval of 45 of 50, as tables of it say.
    assert "whose study is called a tumour | 45 of 50 | 90.0 % | 78.6 to 95.7 % |" in text
    assert "| 0 of 0 | – | – |" in text


def test_page_names_limits_what_was_not_tried_and_the_tables(
    card: dict[str, Any], tmp_path: Path
) -> None:
    text = written(card, tmp_path)
    assert all(limit in text for limit in card["limits"])
    assert "not for diagnosis" in text
    assert "no prospective study" in text
    assert "(research/tables.md)" in text
    assert "python -m ml card …" in text


def test_what_was_not_measured_is_left_out(card: dict[str, Any], tmp_path: Path) -> None:
    for name in ("cross_validations", "volumes", "familiarity"):
        del card[name]
    for name in ("studies", "by_plane"):
        del card["metrics"][name]
    text = written(card, tmp_path)
    for words in (
        "Cross-validation",
        "patient by patient",
        "it does elsewhere",
        "Whole series",
        "Planes",
    ):
        assert words not in text


def test_intervals_without_a_mistake_are_none(card: dict[str, Any], tmp_path: Path) -> None:
    assert "100.0 to 100.0" not in written(card, tmp_path)
