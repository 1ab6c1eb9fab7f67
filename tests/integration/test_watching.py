"""Alert rules and dashboards: checked by promtool, and about metrics that there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask.testing import FlaskClient

from tests.factories import make_account, make_study
from tests.portal import REPOSITORY

PROMETHEUS = REPOSITORY / "deploy" / "prometheus"
DASHBOARDS = sorted((REPOSITORY / "deploy" / "grafana" / "dashboards").glob("*.json"))
# Those of a worker's own port (worker/metrics.py).
OF_WORKERS = {"sulcus_tasks_total", "sulcus_task_seconds_bucket", "sulcus_task_seconds_sum"}


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("needs promtool (of the package prometheus)")
    return found


def run(promtool: str, *command: str | Path) -> None:
    done = subprocess.run(
        [promtool, *map(str, command)], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def panels() -> list[dict[str, Any]]:
    return [one for path in DASHBOARDS for one in json.loads(path.read_text())["panels"]]


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_rules_are_right_and_raise_what_they_should(promtool: str) -> None:
    run(promtool, "check", "config", "prometheus.yml")
    run(promtool, "test", "rules", "alerts.test.yml")


def test_every_panel_asks_what_prometheus_understands(promtool: str, tmp_path: Path) -> None:
    recorded = [{"record": f"panel:{n}", "expr": one} for n, one in enumerate(expressions())]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    run(promtool, "check", "rules", path)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_rules_and_panels_are_about_metrics_that_there_are(client: FlaskClient) -> None:
    app = client.application
    make_study(app, make_account(app))
    client.get("/healthz")
    text = client.get("/metrics").text
    told = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    told |= {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line[:1] != "#"}
    asked = {
        name
        for expression in [*expressions(), *(rule["expr"] for rule in rules())]
        for name in re.findall(r"\bsulcus_\w+", expression)
    }
    assert asked - OF_WORKERS <= told


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"].endswith(".")
        for page in re.findall(r"docs/[\w/]+\.md", rule["annotations"]["action"]):
            assert (REPOSITORY / page).is_file()


def test_dashboards_have_their_own_names_and_no_hole() -> None:
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert len({one["uid"] for one in boards}) == len(boards) == 2
    for board in boards:
        cells = [
            (x, y)
            for panel in board["panels"]
            for place in [panel["gridPos"]]
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert len(cells) == len(set(cells))  # none lies on another one
        assert all(panel["datasource"]["uid"] == "prometheus" for panel in board["panels"])
