"""What a reconciliation found, in numbers: for metrics, and for the history of schedules."""

from collections import Counter
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import get_args

from prometheus_client import write_to_textfile
from pydantic import BaseModel, ConfigDict

from ops.reconcile.comparing import Kind, State
from ops.reconcile.office import Found, Now, unsettled
from streams.metrics import ReconciliationMetrics


class Summary(BaseModel):
    """Differences by kind and gross by currency, on store-days that nobody has signed off; all store-days by state."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    differences: dict[Kind, int]
    gross_difference: dict[str, Decimal]
    store_days: dict[State, int]

    @property
    def differs(self) -> bool:
        """Whether there is something to be done."""
        return any(self.differences.values())


def summary_of(found: Found, now: Now) -> Summary:
    """With a number for every kind and state, and every currency that was looked at."""
    open_ones = unsettled(found, now)
    kinds = Counter(each.kind for day in open_ones for each in day.differences)
    states = Counter(now[day.store, day.day].state for day in found.days)
    # A record that can't be read has no currency.
    gross = {a.currency: Decimal(0) for day in found.days for a in day.accounts if a.currency}
    for account in (account for day in open_ones for account in day.accounts if account.currency):
        gross[account.currency] += abs(account.held.gross - account.due.gross)
    return Summary(
        at=found.at,
        differences={kind: kinds[kind] for kind in get_args(Kind)},
        gross_difference=gross,
        store_days={state: states[state] for state in get_args(State)},
    )


def metrics_of(summary: Summary) -> ReconciliationMetrics:
    """As metrics."""
    metrics = ReconciliationMetrics()
    for kind, count in summary.differences.items():
        metrics.differences.labels(kind).set(count)
    for state, count in summary.store_days.items():
        metrics.store_days.labels(state).set(count)
    for currency, off in summary.gross_difference.items():
        metrics.gross.labels(currency).set(float(off))
    metrics.at.set(summary.at.timestamp())
    return metrics


def write_metrics(summary: Summary, path: Path) -> None:
    """Writes them as a file, whole or not at all."""
    write_to_textfile(str(path), metrics_of(summary).registry)
