"""Summaries of a reconciliation: for metrics, and for the history of schedules."""

from collections import Counter
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import get_args

from prometheus_client import write_to_textfile
from pydantic import BaseModel, ConfigDict

from ops.reconcile.completeness import OPEN_STATUSES, CurrencySums, sum_of
from ops.reconcile.run import ReconciliationResult, StatesByDay, unbalanced, unsettled
from ops.reconcile.store_day import Kind, State
from ops.reconcile.verdict import sums_by_status
from streams.metrics import ReconciliationMetrics


class ReconciliationSummary(BaseModel):
    """Differences by kind and gross by currency, on store-days that nobody has signed off; all store-days by state.

    `unbooked` and `unproved` cover store-days that are over. They count receipts (and records of unknown amount) by
    status, and by currency; the gross amounts by currency have no signs. `unproved` receipts are those whose records
    have left the topic. Reports of earlier releases have none of these.
    """

    model_config = ConfigDict(frozen=True)

    at: datetime
    differences: dict[Kind, int]
    gross_difference: dict[str, Decimal]
    store_days: dict[str, int]
    unbooked: dict[str, int] = {}
    unbooked_gross: dict[str, Decimal] = {}
    unproved: dict[str, int] = {}
    unproved_gross: dict[str, Decimal] = {}
    incomplete: int = 0

    @property
    def differs(self) -> bool:
        """Whether the books of any day differ."""
        return any(self.differences.values())


def summary_of(result: ReconciliationResult, states: StatesByDay) -> ReconciliationSummary:
    """Return the summary, with a number for every kind, every state and every currency that occurred."""
    open_ones = unsettled(result, states)
    kinds = Counter(each.kind for day in open_ones for each in day.differences)
    counts = Counter(states[day.store, day.day].state for day in result.days)
    if result.unplaced is not None:
        counts[result.unplaced.state] += 1
    # A record that can't be read has no currency.
    gross = {a.currency: Decimal(0) for day in result.days for a in day.accounts if a.currency}
    for account in (account for day in open_ones for account in day.accounts if account.currency):
        gross[account.currency] += abs(account.held.gross - account.due.gross)
    over = [day for day in unbalanced(result, states) if day.state != "open"]
    statuses = sums_by_status(over)
    unproved = sum_of(day.unproved for day in over)
    return ReconciliationSummary(
        at=result.at,
        differences={kind: kinds[kind] for kind in get_args(Kind)},
        gross_difference=gross,
        store_days={state: counts[state] for state in get_args(State)},
        unbooked={status: statuses[status].count if status in statuses else 0 for status in OPEN_STATUSES},
        unbooked_gross=dict.fromkeys(gross, Decimal(0)) | _gross(sum_of(statuses.values())),
        unproved=dict.fromkeys(gross, 0) | {name: each.receipts for name, each in unproved.amounts.items() if name},
        unproved_gross=dict.fromkeys(gross, Decimal(0)) | _gross(unproved),
        incomplete=sum(not day.differences for day in over),
    )


def _gross(sums: CurrencySums) -> dict[str, Decimal]:
    """Return the gross by currency without signs, so that returns don't cancel sales."""
    return {name: each.gross - 2 * each.returned for name, each in sums.amounts.items() if name}


def metrics_of(summary: ReconciliationSummary) -> ReconciliationMetrics:
    """Return the summary as metrics."""
    metrics = ReconciliationMetrics()
    for kind, count in summary.differences.items():
        metrics.differences.labels(kind).set(count)
    for state, count in summary.store_days.items():
        metrics.store_days.labels(state).set(count)
    for currency, off in summary.gross_difference.items():
        metrics.gross.labels(currency).set(float(off))
    for status, count in summary.unbooked.items():
        metrics.unbooked.labels(status).set(count)
    for currency, left in summary.unbooked_gross.items():
        metrics.unbooked_gross.labels(currency).set(float(left))
    for currency, count in summary.unproved.items():
        metrics.unproved.labels(currency).set(count)
    for currency, left in summary.unproved_gross.items():
        metrics.unproved_gross.labels(currency).set(float(left))
    metrics.at.set(summary.at.timestamp())
    return metrics


def write_metrics(summary: ReconciliationSummary, path: Path) -> None:
    """Write the metrics as a file, atomically."""
    write_to_textfile(str(path), metrics_of(summary).registry)
