"""What a reconciliation found, in numbers: for metrics, and for the history of schedules."""

from collections import Counter
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import get_args

from prometheus_client import write_to_textfile
from pydantic import BaseModel, ConfigDict

from ops.reconcile.completeness import OPEN_STATUSES, CurrencySums, sum_of
from ops.reconcile.run import Now, ReconciliationResult, unbalanced, unsettled
from ops.reconcile.store_day import Kind, State
from ops.reconcile.verdict import sums_by_status
from streams.metrics import ReconciliationMetrics


class ReconciliationSummary(BaseModel):
    """Differences by kind and gross by currency, on store-days that nobody has signed off; all store-days by state.

    Of those that are over: what is not booked, as receipts (and records of unknown amount) by fate and as gross without
    signs by currency; and of what the topic has lost the records. Reports of before have none of these.
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
        """Whether the books of a day differ."""
        return any(self.differences.values())


def summary_of(found: ReconciliationResult, now: Now) -> ReconciliationSummary:
    """With a number for every kind and state, and every currency that was looked at."""
    open_ones = unsettled(found, now)
    kinds = Counter(each.kind for day in open_ones for each in day.differences)
    states = Counter(now[day.store, day.day].state for day in found.days)
    if found.unplaced is not None:
        states[found.unplaced.state] += 1
    # A record that can't be read has no currency.
    gross = {a.currency: Decimal(0) for day in found.days for a in day.accounts if a.currency}
    for account in (account for day in open_ones for account in day.accounts if account.currency):
        gross[account.currency] += abs(account.held.gross - account.due.gross)
    over = [day for day in unbalanced(found, now) if day.state != "open"]
    statuses = sums_by_status(over)
    unproved = sum_of(day.unproved for day in over)
    return ReconciliationSummary(
        at=found.at,
        differences={kind: kinds[kind] for kind in get_args(Kind)},
        gross_difference=gross,
        store_days={state: states[state] for state in get_args(State)},
        unbooked={status: statuses[status].count if status in statuses else 0 for status in OPEN_STATUSES},
        unbooked_gross=dict.fromkeys(gross, Decimal(0)) | _gross(sum_of(statuses.values())),
        unproved=dict.fromkeys(gross, 0) | {name: each.receipts for name, each in unproved.amounts.items() if name},
        unproved_gross=dict.fromkeys(gross, Decimal(0)) | _gross(unproved),
        incomplete=sum(not day.differences for day in over),
    )


def _gross(sums: CurrencySums) -> dict[str, Decimal]:
    """Return the gross by currency without signs, so that sales and returns don't hide each other."""
    return {name: each.gross - 2 * each.returned for name, each in sums.amounts.items() if name}


def metrics_of(summary: ReconciliationSummary) -> ReconciliationMetrics:
    """As metrics."""
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
    """Writes them as a file, whole or not at all."""
    write_to_textfile(str(path), metrics_of(summary).registry)
