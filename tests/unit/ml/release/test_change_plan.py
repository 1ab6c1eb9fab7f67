"""The plan of change is read whole, and a wrong value is named."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ml.errors import InvalidConfiguration
from ml.release.change_plan import SHIPPED, ChangePlan, read_plan_of_change


def test_shipped_plan_tells_every_value_and_agrees_with_what_is_assumed_without() -> None:
    read = read_plan_of_change()
    assert read.plan.version == 1
    assert read.plan.gates == ChangePlan(1).gates
    assert read.plan.data == ChangePlan(1).data
    assert len(read.sha256) == 64


def test_plan_without_a_gate_keeps_the_gate_with_its_usual_threshold(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text("version = 7\n[gates.superiority]\nrequired = false\n")
    plan = read_plan_of_change(path).plan
    assert plan.version == 7
    assert plan.gates == replace(
        ChangePlan(1).gates, superiority=replace(ChangePlan(1).gates.superiority, required=False)
    )


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("version = 1", "version = 0", "version is a whole number from 1"),
        ("version = 1", "", "lacks version"),
        ('["head", "full"]', '["head", "all"]', "modes are some of head, full"),
        ('label_issues = "report"', 'label_issues = "hide"', "label_issues is one of"),
        ("quorum = 2", "quorum = 0", "quorum is a whole number from 1"),
        ("fewest_groups = 10", "fewest_groups = -1", "fewest_groups is below 0"),
        ("least_flagged = 0.9", "least_flagged = 1.1", "unfamiliar: least_flagged goes from 0"),
        ("most_times = 1.1", "most_times = 0.5", "set_size: most_times is a number from 1"),
        ("most_times = 1.1", "most_times = nan", "set_size: most_times is a number from 1"),
        ("slices = 200", "slices = 0", "engine: slices is a whole number from 1"),
        ("[gates.speed]", "[gates.sped]", "sped is not known"),
        ("margin = 0.1\n", 'margin = "much"\n', "must be a number"),
    ],
)
def test_wrong_value_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    text = SHIPPED.read_text()
    assert old in text
    path = tmp_path / "plan.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InvalidConfiguration, match=words):
        read_plan_of_change(path)


def test_plan_is_read_without_torch() -> None:
    code = "import sys, ml.release.change_plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
