"""What a reconciliation found, as a file of metrics."""

from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import get_args

from prometheus_client import write_to_textfile

from ops.reconcile.comparing import Kind, State
from ops.reconcile.office import Found
from ops.reconcile.showing import Now, unsettled
from streams.metrics import ReconciliationMetrics


def write_metrics(found: Found, now: Now, path: Path) -> None:
    """Writes the file, whole or not at all."""
    metrics = ReconciliationMetrics()
    open_ones = unsettled(found, now)
    kinds = Counter(each.kind for day in open_ones for each in day.differences)
    for kind in get_args(Kind):
        metrics.differences.labels(kind).set(kinds[kind])
    states = Counter(now[day.store, day.day].state for day in found.days)
    for state in get_args(State):
        metrics.store_days.labels(state).set(states[state])
    gross = dict.fromkeys((account.currency for day in found.days for account in day.accounts), Decimal(0))
    for account in (account for day in open_ones for account in day.accounts):
        gross[account.currency] += abs(account.held.gross - account.due.gross)
    for currency, off in gross.items():
        if currency:  # a record that can't be read has none
            metrics.gross.labels(currency).set(float(off))
    metrics.at.set(found.at.timestamp())
    write_to_textfile(str(path), metrics.registry)
