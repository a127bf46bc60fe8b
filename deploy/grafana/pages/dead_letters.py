"""Which records are rejected, why, and how are they resolved?"""

from typing import Any

from deploy.grafana.pages.shared import (
    DAY,
    JOB,
    SOME,
    YES,
    dead_letters_by_reason,
    dead_letters_of_a_day,
    held,
    waiting,
)
from deploy.grafana.panels import bars, dashboard, graph, row, stat, table


def page() -> dict[str, Any]:
    """The dashboard."""
    open_ones = 'sum(tillstream_dead_letters_open{job="$job"})'
    oldest = 'max(tillstream_dead_letters_oldest_age_seconds{job="$job"})'
    trouble = 'max(tillstream_dead_letters_trouble{job="$job"})'
    share = 'job:tillstream_events_rejected:ratio_rate1h{job="$job"}'
    budget = 'tillstream_dead_letter_budget_used_ratio{job="$job"}'
    current = 'min(tillstream_mapping_current{job="$job"})'
    reasons = 'topk(20, sum by (reason) (increase(tillstream_events_rejected_total{job="$job"}[24h])) > 0)'
    ends = 'sum by (end) (increase(tillstream_dead_letters_retried_total{job="$job"}[1h]))'
    truncated = 'sum(increase(tillstream_dead_letters_truncated_total{job="$job"}[24h]))'
    found = 'sum by (rule, policy) (increase(tillstream_cleaning_total{job="$job"}[1h]))'
    refused = 'sum by (kind) (increase(tillstream_mapping_errors_total{job="$job"}[1h]))'
    return dashboard(
        "dead-letters",
        "dead letters",
        "What is refused, why, and what becomes of it. What to do: docs/runbooks/dead-letters.md.",
        [JOB],
        [
            row(
                4,
                stat(
                    "Open",
                    "Dead letters about which something is left to do, up to 50,000: `tillstream dlq stats`.",
                    "short",
                    open_ones,
                    SOME,
                    decimals=0,
                ),
                stat(
                    "Oldest open one",
                    "Since it failed first. Two days are an alert: docs/runbooks/dead-letters-old.md.",
                    "s",
                    oldest,
                    [(None, "green"), (DAY, "orange"), (2 * DAY, "red")],
                    decimals=0,
                ),
                stat(
                    "Attended",
                    "Whether open ones are counted and, where the settings say so, tried again. If not: "
                    "docs/runbooks/dead-letters-unattended.md.",
                    "none",
                    f"1 - {trouble}",
                    YES,
                    {0: "NO", 1: "yes"},
                ),
            ),
            row(
                8,
                graph("Open dead letters", "Of the whole topic.", "short", {"open": open_ones}, decimals=0),
                graph(
                    "Age of the oldest open one",
                    "Since it failed first; two days are an alert.",
                    "s",
                    {"oldest": oldest},
                    limit=2 * DAY,
                ),
            ),
            row(
                4,
                dead_letters_of_a_day(),
                stat(
                    "Share in 1 h",
                    "Dead letters among all records; 1 % is an alert.",
                    "percentunit",
                    share,
                    [(None, "green"), (0.005, "orange"), (0.01, "red")],
                    decimals=2,
                ),
                stat(
                    "Budget used",
                    "At 100 % a worker holds: it takes more such letters for a fault of ours.",
                    "percentunit",
                    f"max({budget})",
                    [(None, "green"), (0.5, "orange"), (1, "red")],
                    decimals=0,
                ),
                held(),
            ),
            row(
                8,
                dead_letters_by_reason(),
                bars(
                    "Reasons of 24 h",
                    "Records put into the dead-letter topic, by reason.",
                    "short",
                    {"{{reason}}": reasons},
                    SOME,
                ),
            ),
            row(
                8,
                graph(
                    "Share of the records",
                    "Dead letters among all records of an hour; 1 % is an alert.",
                    "percentunit",
                    {"share": share},
                    limit=0.01,
                ),
                graph(
                    "Dead-letter budget",
                    "Share in use, by worker; at 100 % it holds.",
                    "percentunit",
                    {"{{instance}}": budget},
                    limit=1,
                ),
            ),
            row(
                8,
                waiting(),
                graph(
                    "Tried again",
                    "Dead letters that workers took up again by themselves, per hour, by what became of them.",
                    "short",
                    {"{{end}}": ends},
                    decimals=0,
                ),
            ),
            row(
                8,
                graph(
                    "Found by cleaning rules",
                    "Per hour, by the mapping's rule and what it says to do.",
                    "short",
                    {"{{rule}}: {{policy}}": found},
                    decimals=0,
                ),
                graph(
                    "Master data not read",
                    "Attempts to read master data again that failed, per hour.",
                    "short",
                    {"{{kind}}": refused},
                    decimals=0,
                ),
            ),
            row(
                4,
                stat(
                    "Master data current",
                    "Whether the newest master data are used. If not: docs/runbooks/mapping-refused.md.",
                    "none",
                    current,
                    YES,
                    {0: "NO", 1: "yes"},
                ),
                stat(
                    "Truncated in 24 h",
                    "Dead letters that their topic refused for their size: kept truncated.",
                    "short",
                    truncated,
                    SOME,
                    decimals=0,
                ),
            ),
            row(
                6,
                table(
                    "What records are read by",
                    "Contract and mapping of every worker, name@version.",
                    'tillstream_mapping_info{job="$job"}',
                    {"instance": "worker", "contract": "contract", "mapping": "mapping"},
                ),
            ),
        ],
    )
