"""Models are exchanged while studies are answered and workers die; the benchmark's short form."""

from pathlib import Path

import pytest

from benchmarks.promotion_under_load import Plan, run
from tests.models import biased_model
from tests.portal import Portal

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_no_study_is_lost_or_answered_twice_while_models_change(
    portal: Portal, tmp_path: Path
) -> None:
    plan = Plan(studies=20, slices=3, longest_life=6, most_kills=2, hurry=True)
    outcome = run(portal, biased_model(tmp_path / "second"), plan)
    assert not outcome.faults
    assert outcome.kills  # the second kill comes only if there is still work
