"""Every panel asks for metrics that there are, by the data source that is provisioned, and says what it shows."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.promql import PROMTOOL, names_in, names_served, with_promtool

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
PANELS: list[dict[str, Any]] = [
    panel for path in sorted(GRAFANA.glob("dashboards/*.json")) for panel in json.loads(path.read_text())["panels"]
]


def recorded() -> set[str]:
    groups = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text())["groups"]
    return {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_metric_of_a_panel_is_served_or_recorded(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        assert names_in(target["expr"])
        assert names_in(target["expr"]) <= names_served() | recorded()


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_has_a_unit_a_description_and_the_provisioned_source(panel: dict[str, Any]) -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
    assert panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"]


def test_panels_do_not_overlap() -> None:
    taken = [
        (panel["gridPos"]["x"] + column, panel["gridPos"]["y"] + row)
        for panel in PANELS
        for column in range(panel["gridPos"]["w"])
        for row in range(panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24


@with_promtool
def test_every_panel_asks_in_promql(tmp_path: Path) -> None:
    asked = [target["expr"].replace("$__rate_interval", "1m") for panel in PANELS for target in panel["targets"]]
    rules = [{"record": f"panel_{number}", "expr": expression} for number, expression in enumerate(asked)]
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))  # JSON is YAML
    command = [str(PROMTOOL), "check", "rules", "--lint=none", str(tmp_path / "panels.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
