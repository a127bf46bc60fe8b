"""Is the ERP current, and if not, why?"""

from typing import Any

from deploy.grafana.pages.shared import (
    DAY,
    JOB,
    NEWEST,
    YES,
    alerts,
    behind,
    budget_left,
    dead_letters_by_reason,
    dead_letters_of_a_day,
    held,
    late_share,
    latency,
    sink_up,
)
from deploy.grafana.panels import GREEN, bars, dashboard, graph, row, stat


def page() -> dict[str, Any]:
    """The dashboard."""
    ready = 'count(tillstream_ready{job="$job"} == 1) or vector(0)'
    outcomes = {
        "documents": 'sum(rate(tillstream_events_delivered_total{job="$job"}[$__rate_interval]))',
        "duplicates": 'sum(rate(tillstream_events_duplicate_total{job="$job"}[$__rate_interval]))',
        "dead letters": 'sum(rate(tillstream_events_rejected_total{job="$job"}[$__rate_interval]))',
        "noted": 'sum(rate(tillstream_events_skipped_total{job="$job"}[$__rate_interval])) or vector(0)',
    }
    errors = 'sum by (kind) (rate(tillstream_sink_errors_total{job="$job"}[$__rate_interval])) * 60'
    silence = f'topk(20, time() - {NEWEST}{{job="$job"}})'
    return dashboard(
        "overview",
        "overview",
        "Whether the ERP is current, and if not, why. What to do: docs/runbooks.",
        [JOB],
        [
            row(
                4,
                behind(),
                sink_up(),
                stat(
                    "Workers ready",
                    "Workers that say at /readyz that they bring the ERP up to date.",
                    "none",
                    ready,
                    YES,
                ),
                held(),
            ),
            row(
                4,
                late_share(),
                budget_left(),
                dead_letters_of_a_day(),
                stat(
                    "Records per second",
                    "What the workers manage, over five minutes.",
                    "recps",
                    'job:tillstream_batch_records:rate5m{job="$job"}',
                    GREEN,
                    decimals=1,
                ),
            ),
            row(6, alerts()),
            row(
                8,
                graph(
                    "Behind by",
                    "Age of the oldest record at hand that is not acknowledged, by worker.",
                    "s",
                    {"{{instance}}": 'tillstream_lag_seconds{job="$job"}'},
                    limit=300,
                ),
                graph(
                    "Records waiting",
                    "Records not yet acknowledged, by partition.",
                    "short",
                    {"partition {{partition}}": 'sum by (partition) (tillstream_lag_records{job="$job"})'},
                ),
            ),
            row(
                8,
                latency(),
                graph(
                    "What became of the records",
                    "Per second. Noted: without a document, such as a day's close.",
                    "recps",
                    outcomes,
                ),
            ),
            row(
                8,
                dead_letters_by_reason(),
                graph(
                    "Writes that failed",
                    "Writes to the sink that failed and are tried again, per minute, by kind.",
                    "wpm",
                    {"{{kind}}": errors},
                ),
            ),
            row(
                12,
                bars(
                    "Stores not heard of for longest",
                    "How long ago the newest event of the store in the ERP was; a closed store is here too.",
                    "s",
                    {"{{store}}": silence},
                    [(None, "green"), (DAY, "orange"), (3 * DAY, "red")],
                ),
            ),
        ],
    )
