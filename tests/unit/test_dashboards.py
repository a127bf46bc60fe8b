"""Every panel asks for metrics that there are, by the data source that is provisioned, and says what it shows.

That its query gives data is seen in tests/integration/test_outage.py.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.boards import FOLDER, made
from deploy.grafana.panels import COLUMNS
from tests.support.promql import PROMTOOL, as_grafana_asks, names_in, names_recorded, names_served, with_promtool

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
BOARDS: dict[str, Any] = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
PANELS = [
    pytest.param(panel, id=f"{name}-{panel['title']}") for name, board in BOARDS.items() for panel in board["panels"]
]
#: What Prometheus itself knows.
OF_PROMETHEUS = {"ALERTS"}
#: What rules.yml calls an alert, or the objective, and a panel draws a line at.
LIMITS = {
    "Behind by": 300,
    "From the till to the ERP": 60,
    "Last progress": 600,
    "Age of open transactions": 120,
    "Late events": 0.01,
    "Age of the last one": 26 * 3600,
}


@pytest.mark.parametrize("name", sorted(made()))
def test_dashboards_are_current(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == made()[name], "run `make schemas`"


def test_nothing_else_is_a_dashboard() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(made())


def test_every_question_has_its_page() -> None:
    assert BOARDS.keys() == {"overview", "store", "dead-letters", "reconciliation", "worker", "objective"}
    assert {board["uid"] for board in BOARDS.values()} == {f"tillstream-{name}" for name in BOARDS}


@pytest.mark.parametrize("panel", PANELS)
def test_every_metric_of_a_panel_is_served_or_recorded(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        assert names_in(target["expr"])
        assert names_in(target["expr"]) <= names_served() | names_recorded() | OF_PROMETHEUS


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())
def test_every_variable_of_a_query_is_one_of_the_dashboard(board: dict[str, Any]) -> None:
    names = {variable["name"]: "x" for variable in board["templating"]["list"]}
    for query in [target["expr"] for panel in board["panels"] for target in panel["targets"]]:
        assert "$" not in as_grafana_asks(query, names, "1m")
    for variable in board["templating"]["list"]:
        assert names_in(variable["query"].removeprefix("label_values(").split(",")[0]) <= names_served()


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_has_a_unit_thresholds_a_description_and_the_provisioned_source(panel: dict[str, Any]) -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
    assert panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"]


@pytest.mark.parametrize("panel", PANELS)
def test_every_title_fits_and_every_panel_is_wide_enough_to_be_read(panel: dict[str, Any]) -> None:
    least = 6 if panel["type"] == "stat" else 12
    assert panel["gridPos"]["w"] >= least
    assert len(panel["title"]) <= 36  # what a phone of 360 points shows at Grafana's size of titles


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())
def test_panels_fill_their_rows_and_do_not_overlap(board: dict[str, Any]) -> None:
    taken = [
        (panel["gridPos"]["x"] + column, panel["gridPos"]["y"] + row)
        for panel in board["panels"]
        for column in range(panel["gridPos"]["w"])
        for row in range(panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))
    height = max(y for _, y in taken) + 1
    assert len(taken) == COLUMNS * height


def test_lines_are_drawn_where_the_rules_begin_to_alert() -> None:
    rules = (ROOT / "deploy/prometheus/rules.yml").read_text()
    panels = {panel["title"]: panel for board in BOARDS.values() for panel in board["panels"]}
    for title, limit in LIMITS.items():
        assert panels[title]["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]["value"] == limit
        assert any(words in rules for words in (f"> {limit}", f"> {limit // 3600} * 3600", f'le="{limit}.0"'))


@with_promtool
def test_every_panel_asks_in_promql(tmp_path: Path) -> None:
    asked = [target["expr"] for board in BOARDS.values() for panel in board["panels"] for target in panel["targets"]]
    values = {"job": "j", "reconciler": "j", "store": "s", "instance": ".*"}
    rules = [
        {"record": f"panel_{number}", "expr": as_grafana_asks(expression, values, "1m")}
        for number, expression in enumerate(asked)
    ]
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))  # JSON is YAML
    command = [str(PROMTOOL), "check", "rules", "--lint=none", str(tmp_path / "panels.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
