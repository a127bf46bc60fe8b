"""Which metrics an expression asks for, and which a worker serves."""

import re
import shutil

import pytest

from streams.metrics import Metrics, ReconciliationMetrics

PROMTOOL = shutil.which("promtool")
with_promtool = pytest.mark.skipif(PROMTOOL is None, reason="needs promtool (Debian: prometheus)")


def names_in(expression: str) -> set[str]:
    """The metrics that a PromQL expression asks for."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", expression)
    bare = re.sub(r"\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    words = re.findall(r"[a-zA-Z_:][\w:]*(?!\s*\()(?![\w:])", bare)
    return set(words) - {"and", "or", "unless", "e"}


def names_served() -> set[str]:
    """The names of all samples that a worker's, or a reconciliation's, metrics may have."""
    suffixes = {
        "counter": ["_total"],
        "gauge": [""],
        "histogram": ["_bucket", "_sum", "_count"],
        "info": ["_info"],
    }
    families = [*Metrics().registry.collect(), *ReconciliationMetrics().registry.collect()]
    return {family.name + suffix for family in families for suffix in suffixes[family.type]}
