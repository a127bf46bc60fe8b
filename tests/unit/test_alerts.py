"""Every alert is tested, firing and not firing, has a runbook, and queries metrics that exist."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.metrics import ReconciliationMetrics, WorkerMetrics
from tests.support.promql import PROMTOOL, names_in, names_recorded, names_served, rules, selectors_in, with_promtool

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
CASES = sorted((FOLDER / "tests").glob("*.yml"))
RUNBOOKS = ROOT / "docs" / "runbooks"
CHAPTERS = ["Meaning", "First look", "Likely causes", "Fix", "Escalate"]
#: Metrics that Prometheus itself makes for a target.
PROMETHEUS_METRICS = {"up"}


ALERTS = [rule for rule in rules() if "alert" in rule]
NAMES = sorted({rule["alert"] for rule in ALERTS})


def page_of(rule: dict[str, Any]) -> Path:
    return ROOT / str(rule["annotations"]["runbook"])


def expectations() -> list[tuple[str, list[dict[str, Any]]]]:
    """Return (alert, alerts expected to fire) for every promtool test."""
    tests = [test for path in CASES for test in yaml.safe_load(path.read_text())["tests"]]
    return [(case["alertname"], case.get("exp_alerts", [])) for test in tests for case in test["alert_rule_test"]]


def promtool(*arguments: str | Path) -> None:
    assert PROMTOOL is not None
    result = subprocess.run([PROMTOOL, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@with_promtool
def test_configuration_and_rules_are_valid() -> None:
    promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "rules.yml")


@with_promtool
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_alerts_fire_exactly_as_the_promtool_tests_expect(path: Path) -> None:
    promtool("test", "rules", path)


@pytest.mark.parametrize("name", NAMES)
def test_alert_is_tested_firing_and_not_firing(name: str) -> None:
    expected = [alerts for alert, alerts in expectations() if alert == name]
    severities = {rule["labels"]["severity"] for rule in ALERTS if rule["alert"] == name}
    assert {alert["exp_labels"]["severity"] for alerts in expected for alert in alerts} == severities
    assert [] in expected


def test_promtool_tests_name_every_alert_and_no_other() -> None:
    assert {alert for alert, _ in expectations()} == set(NAMES)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_alert_has_a_severity_texts_and_a_runbook_with_all_chapters(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    text = page_of(rule).read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == CHAPTERS
    assert f"Alert: `{rule['alert']}`" in text
    assert rule["labels"]["severity"] in text.split("## ")[0]


def test_every_runbook_of_an_alert_belongs_to_one_and_is_listed() -> None:
    listed = (RUNBOOKS / "README.md").read_text()
    for page in RUNBOOKS.glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in listed
        assert ("Alert: `" in page.read_text()) == (page in {page_of(rule) for rule in ALERTS})
    assert all(f"| `{name}` |" in listed for name in NAMES)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_metric_of_a_rule_is_served(rule: dict[str, Any]) -> None:
    assert names_in(rule["expr"])
    assert names_in(rule["expr"]) <= names_served() | names_recorded() | PROMETHEUS_METRICS


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('sum by (job) (rate(a_total{x="y"}[5m])) / b_count > 14.4 * 0.01', {"a_total", "b_count"}),
        ("min_over_time(a[2h]) == 1 and b offset 2h == 1", {"a", "b"}),
        ("time() - max_over_time(a[10m]) > 600 unless on (job, instance) job:b:sum == 0", {"a", "job:b:sum"}),
    ],
)
def test_metrics_of_an_expression_are_found(expression: str, names: set[str]) -> None:
    assert names_in(expression) == names


def test_selectors_of_an_expression_are_found() -> None:
    asked = 'sum by (job) (rate(a_total{x="y"}[5m])) / b_count > 14.4 and on (job) job:a_total:sum{z!="w"} == 0'
    assert selectors_in(asked) == {'a_total{x="y"}[5m]', "b_count", 'job:a_total:sum{z!="w"}'}


def test_latency_objective_is_a_bucket_of_the_histogram() -> None:
    bounds = {bound for rule in rules() for bound in re.findall(r'le="([^"]+)"', rule["expr"])}
    served = {
        sample.labels["le"]
        for family in WorkerMetrics().registry.collect()
        for sample in family.samples
        if sample.name == "tillstream_event_to_commit_seconds_bucket"
    }
    assert bounds == {"60.0"}
    assert bounds <= served


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda page: page.stem)
def test_every_metric_in_a_runbook_exists(page: Path) -> None:
    named = set(re.findall(r"`(tillstream_\w+)`", page.read_text()))
    registries = WorkerMetrics().registry, ReconciliationMetrics().registry
    families = {family.name for registry in registries for family in registry.collect()}
    assert named <= names_served() | families
