"""Do tills and ERP agree?"""

from typing import Any

from deploy.grafana.pages.shared import NO, SOME, alerts
from deploy.grafana.panels import Steps, bars, dashboard, graph, row, stat, states, variable

OF_IT = 'job="$reconciler"'
JOB = variable("reconciler", "label_values(tillstream_reconciliation_timestamp_seconds, job)")
JOB["current"] = {"text": "tillstream-schedules", "value": "tillstream-schedules"}
HOUR = 3600


def page() -> dict[str, Any]:
    """The dashboard."""

    def days(wanted: str) -> str:
        # Per schedule; several processes may report the same one.
        return f'sum(max by (state) (tillstream_reconciliation_store_days{{{OF_IT},state=~"{wanted}"}}))'

    age = f"time() - max(tillstream_reconciliation_timestamp_seconds{{{OF_IT}}})"
    money = f"max by (currency) (tillstream_reconciliation_gross_difference{{{OF_IT}}})"
    unbooked = f"max by (currency) (tillstream_reconciliation_unbooked_gross{{{OF_IT}}})"
    unproved = f"max by (currency) (tillstream_reconciliation_unproved_gross{{{OF_IT}}})"
    fates = f"max by (fate) (tillstream_reconciliation_unbooked_receipts{{{OF_IT}}})"
    kinds = f"max by (kind) (tillstream_reconciliation_differences{{{OF_IT}}}) > 0"
    by_state = f"max by (state) (tillstream_reconciliation_store_days{{{OF_IT}}})"
    late: Steps = [(None, "green"), (24 * HOUR, "orange"), (26 * HOUR, "red")]
    return dashboard(
        "reconciliation",
        "reconciliation",
        "Whether tills and ERP agree, by store-days, as of the last reconciliation. What to do: docs/runbooks.",
        [JOB],
        [
            row(
                4,
                stat(
                    "Store-days that differ",
                    "And that nobody has signed off: docs/runbooks/reconciliation-differs.md.",
                    "short",
                    days("differs"),
                    [(None, "green"), (1, "red")],
                    decimals=0,
                ),
                stat(
                    "Not complete",
                    "Store-days that are over and not all booked, or whose records have left the topic: "
                    "docs/runbooks/reconciliation-incomplete.md.",
                    "short",
                    days("incomplete|unproved"),
                    [(None, "green"), (1, "orange")],
                    decimals=0,
                ),
                stat(
                    "Balanced or signed off",
                    "Store-days on which tills and ERP agree and all is booked, or that somebody has signed off.",
                    "short",
                    days("balanced|signed off"),
                    [(None, "blue")],
                    decimals=0,
                ),
                stat(
                    "Last reconciliation",
                    "How long ago it was. 26 hours are an alert: docs/runbooks/reconciliation-stale.md.",
                    "s",
                    age,
                    late,
                    decimals=0,
                ),
            ),
            row(
                8,
                bars(
                    "Money that differs",
                    "Gross of tills and ERP on store-days that differ, without signs, by currency.",
                    "short",
                    {"{{currency}}": money},
                    SOME,
                ),
                graph("Differences", "By kind: docs/how-to/reconcile.md.", "short", {"{{kind}}": kinds}, decimals=0),
            ),
            row(
                8,
                bars(
                    "Money that is not booked",
                    "Gross in dead letters, held, parked or waiting, on days that are over; and gross in the ERP whose "
                    "records have left the topic. Without signs, by currency.",
                    "short",
                    {"{{currency}}": unbooked, "{{currency}} not proved": unproved},
                    SOME,
                ),
                graph("Not booked", "Receipts, by where they are.", "short", {"{{fate}}": fates}, decimals=0),
            ),
            row(
                8,
                graph(
                    "Store-days by state",
                    "Of those that the last reconciliation looked at.",
                    "short",
                    {"{{state}}": by_state},
                    stacked=True,
                    decimals=0,
                ),
                graph("Age of the last one", "26 hours are an alert.", "s", {"age": age}, limit=26 * HOUR),
            ),
            row(
                6,
                states(
                    "Schedules",
                    "Whether the last run failed; the reason: tillstream schedule history.",
                    {"{{schedule}}": f"max by (schedule) (tillstream_schedule_failed{{{OF_IT}}})"},
                    {0: "ok", 1: "FAILED"},
                    NO,
                ),
                alerts(job="$reconciler"),
            ),
        ],
    )
