"""Are the workers busy, idle or waiting, and for which dependency?"""

from typing import Any

from deploy.grafana.pages.shared import JOB, YES, quantiles
from deploy.grafana.panels import dashboard, graph, row, stat, states, table, variable


def page() -> dict[str, Any]:
    """The dashboard."""
    of = 'job="$job",instance=~"$instance"'
    window = f"sum by (le) (rate(tillstream_window_recovery_seconds_bucket{{{of}}}[1h]))"
    progress = f"time() - tillstream_last_progress_timestamp_seconds{{{of}}} > 0"
    sizes = "tillstream_batch_records"
    late = f"sum(rate(tillstream_events_late_total{{{of}}}[$__rate_interval]))"
    layers = f"sum by (layer) (rate(tillstream_events_duplicate_total{{{of}}}[$__rate_interval]))"
    skipped = f"sum(rate(tillstream_offsets_skipped_total{{{of}}}[$__rate_interval]))"
    return dashboard(
        "worker",
        "worker internals",
        "What the workers do, and what they wait for. Why one is not ready, in words: /readyz.",
        [JOB, variable("instance", 'label_values(tillstream_build_info{job="$job"}, instance)', several=True)],
        [
            row(
                6,
                states(
                    "Ready",
                    "Whether the worker says at /readyz that it brings the ERP up to date.",
                    {"{{instance}}": f"tillstream_ready{{{of}}}"},
                    {0: "not ready", 1: "ready"},
                    YES,
                ),
            ),
            row(
                8,
                graph(
                    "Records per second",
                    "Records that came to their end, by worker.",
                    "recps",
                    {"{{instance}}": f"sum by (instance) (rate({sizes}_sum{{{of}}}[$__rate_interval]))"},
                ),
                graph(
                    "Records waiting",
                    "Records not yet acknowledged, by worker and partition.",
                    "short",
                    {"{{instance}} {{partition}}": f"tillstream_lag_records{{{of}}}"},
                ),
            ),
            row(
                8,
                graph(
                    "Last progress",
                    "Since a batch was last acknowledged; ten minutes while records wait are an alert.",
                    "s",
                    {"{{instance}}": progress},
                    limit=600,
                ),
                graph(
                    "Records in a batch",
                    "Records handled together: large batches are a sign of load.",
                    "short",
                    quantiles(sizes, of),
                ),
            ),
            row(
                8,
                graph(
                    "Time of a write",
                    "One write of a batch's documents to the ERP's database.",
                    "s",
                    quantiles("tillstream_sink_write_seconds", of),
                ),
                graph(
                    "Writes per second",
                    "Writes to the ERP's database that succeeded, by worker.",
                    "wps",
                    {"{{instance}}": f"rate(tillstream_sink_write_seconds_count{{{of}}}[$__rate_interval])"},
                ),
            ),
            row(
                8,
                graph(
                    "Writes that failed",
                    "And are tried again: per minute, by kind.",
                    "wpm",
                    {"{{instance}} {{kind}}": f"rate(tillstream_sink_errors_total{{{of}}}[$__rate_interval]) * 60"},
                ),
                graph(
                    "Duplicates by layer",
                    "Records recognised as delivered before: by the dedupe window, or by the "
                    "sink, which catches what the window does not know.",
                    "recps",
                    {"{{layer}}": layers},
                ),
            ),
            row(
                8,
                graph(
                    "Records in the dedupe window",
                    "What the window knows, by worker.",
                    "short",
                    {"{{instance}}": f"tillstream_window_records{{{of}}}"},
                ),
                graph(
                    "Before the window, and skipped",
                    "Events older than what the window remembers, and offsets at which the broker had no record.",
                    "recps",
                    {"before the window": late, "offsets without a record": skipped},
                ),
            ),
            row(
                8,
                graph(
                    "Uncommitted records",
                    "Records that wait for an open Kafka transaction to end, by worker and partition; no lag.",
                    "short",
                    {"{{instance}} {{partition}}": f"tillstream_uncommitted_records{{{of}}}"},
                    decimals=0,
                ),
                graph(
                    "Age of open transactions",
                    "How long records have waited behind one that stands still; two minutes are an alert: "
                    "docs/runbooks/transaction-open.md.",
                    "s",
                    {"{{instance}}": f"tillstream_uncommitted_age_seconds{{{of}}}"},
                    limit=120,
                ),
            ),
            row(
                8,
                graph(
                    "Assigned partitions",
                    "Source partitions, by worker: none without a fault when there are more workers than partitions.",
                    "short",
                    {"{{instance}}": f"tillstream_assigned_partitions{{{of}}}"},
                    decimals=0,
                ),
                graph(
                    "Rebalances",
                    "Times in an hour that the group gave a worker its partitions. Nothing is consumed meanwhile.",
                    "short",
                    {"{{instance}}": f"increase(tillstream_rebalances_total{{{of}}}[1h])"},
                    decimals=0,
                ),
            ),
            row(
                4,
                stat(
                    "Recovery of the window",
                    "99 % of the recoveries of an hour took at most so long.",
                    "s",
                    f"histogram_quantile(0.99, {window})",
                    [(None, "green"), (30, "orange")],
                    noValue="none",
                ),
                stat(
                    "Partitions",
                    "Source partitions that the workers have, together.",
                    "none",
                    f"sum(tillstream_assigned_partitions{{{of}}})",
                    YES,
                ),
            ),
            row(
                6,
                table(
                    "Versions",
                    "Of the program and of its Python.",
                    f"tillstream_build_info{{{of}}}",
                    {"instance": "worker", "version": "Tillstream", "python": "Python"},
                ),
            ),
        ],
    )
