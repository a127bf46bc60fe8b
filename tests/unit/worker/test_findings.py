"""The worker counts what the cleaning rules found."""

from streams.batch import QualityIssue
from streams.metrics import WorkerMetrics
from streams.worker.background import count_findings


def test_findings_are_counted_by_rule_and_policy() -> None:
    metrics = WorkerMetrics()
    old = QualityIssue("old", "hold", "occurred_at: too_old")
    count_findings(metrics, [old, QualityIssue("quantity", "flag", "lines.0.quantity: above_limit"), old])
    counted = {
        (rule, policy): metrics.registry.get_sample_value("tillstream_cleaning_total", {"rule": rule, "policy": policy})
        for rule, policy in (("old", "hold"), ("quantity", "flag"))
    }
    assert counted == {("old", "hold"): 2, ("quantity", "flag"): 1}
