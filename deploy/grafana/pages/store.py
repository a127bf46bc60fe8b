"""Does this store sell, or is it all of them?"""

from typing import Any

from deploy.grafana.pages.shared import DAY, JOB, NEWEST, SOME, alerts, behind, held, sink_up
from deploy.grafana.panels import GREEN, Steps, dashboard, graph, row, stat, variable


def page() -> dict[str, Any]:
    """The dashboard."""
    newest = f'{NEWEST}{{job="$job",store="$store"}}'
    silent: Steps = [(None, "green"), (DAY, "orange"), (3 * DAY, "red")]
    missing = 'tillstream_receipts_missing_total{job="$job",store="$store"}'
    others = f'quantile(0.5, time() - {NEWEST}{{job="$job"}})'
    return dashboard(
        "store",
        "one store",
        "Whether this store's sales arrive, and whether it is the store or all of them.",
        [JOB, variable("store", 'label_values(tillstream_store_newest_event_timestamp_seconds{job="$job"}, store)')],
        [
            row(
                4,
                stat(
                    "Newest sale in the ERP",
                    "Event time of the store's newest event that the ERP holds.",
                    "dateTimeAsIso",
                    f"{newest} * 1000",
                    GREEN,
                ),
                stat(
                    "Not heard of for",
                    "Since that event. Two hours of an open store are an alert, three days of one without hours: "
                    "docs/runbooks/store-silent.md.",
                    "s",
                    f"time() - {newest}",
                    silent,
                    decimals=0,
                ),
                stat(
                    "Open by its hours",
                    "Whether the store is open now, by its opening_hours. No data: none are stated.",
                    "none",
                    'max(tillstream_store_open{job="$job",store="$store"})',
                    [(None, "blue"), (1, "green")],
                    {0: "closed", 1: "open"},
                ),
                stat(
                    "Receipts missing in 24 h",
                    "Receipt numbers of its registers that did not come: a hint, see "
                    "docs/runbooks/receipts-missing.md.",
                    "short",
                    f"sum(increase({missing}[24h]))",
                    SOME,
                    decimals=0,
                ),
            ),
            row(
                8,
                graph(
                    "Not heard of for, next to the others",
                    "Since the newest event in the ERP: of this store, and the "
                    "median of all. If both rise it is not the store.",
                    "s",
                    {"$store": f"time() - {newest}", "median of all": others},
                    limit=3 * DAY,
                ),
            ),
            row(
                8,
                graph(
                    "Receipts missing",
                    "Per hour: numbers that had not come when their register was 100 further.",
                    "short",
                    {"$store": f"sum(increase({missing}[1h]))"},
                    decimals=0,
                ),
            ),
            row(4, behind(), sink_up(), held()),
            row(6, alerts(',store=~"$store|"')),
        ],
    )
