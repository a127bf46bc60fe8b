"""Which metrics an expression asks for, and which a worker serves."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.prometheus.server import RULES, promtool
from streams.metrics import ReconciliationMetrics, ScheduleMetrics, WorkerMetrics

PROMTOOL: Path | None = promtool()
STRICT = bool(os.environ.get("TILLSTREAM_TEST_STRICT"))
with_promtool = pytest.mark.skipif(PROMTOOL is None and not STRICT, reason="needs promtool (Debian: prometheus)")


def rules() -> list[dict[str, Any]]:
    """All rules of deploy/prometheus."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def names_in(expression: str) -> set[str]:
    """The metrics that a PromQL expression asks for."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\boffset \w+", "", expression)
    bare = re.sub(r"\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    words = re.findall(r"[a-zA-Z_:][\w:]*(?!\s*\()(?![\w:])", bare)
    return set(words) - {"and", "or", "unless", "e"}


def selectors_in(expression: str) -> set[str]:
    """What a PromQL expression reads: metrics with their matchers and ranges."""
    names = "|".join(sorted(map(re.escape, names_in(expression)), key=len, reverse=True))
    return set(re.findall(rf"(?<![\w:])(?:{names})(?![\w:])(?:\{{[^}}]*\}})?(?:\[[^\]]*\])?", expression))


def names_served() -> set[str]:
    """The names of all samples that the metrics of a worker, a reconciliation or a schedule may have."""
    suffixes = {
        "counter": ["_total"],
        "gauge": [""],
        "histogram": ["_bucket", "_sum", "_count"],
        "info": ["_info"],
    }
    registries = WorkerMetrics().registry, ReconciliationMetrics().registry, ScheduleMetrics().registry
    families = [family for registry in registries for family in registry.collect()]
    return {family.name + suffix for family in families for suffix in suffixes[family.type]}


def names_recorded() -> set[str]:
    """The names of all recording rules."""
    return {rule["record"] for rule in rules() if "record" in rule}


def as_grafana_asks(query: str, variables: Mapping[str, str], rate_interval: str) -> str:
    """A panel's query with the values of the dashboard's variables."""
    for name, value in {"__rate_interval": rate_interval, **variables}.items():
        query = query.replace(f"${name}", value)
    return query
