"""What a reconciliation found, as a file of metrics."""

from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import get_args

from prometheus_client import write_to_textfile

from ops.reconcile.comparing import Kind, State
from ops.reconcile.office import Found
from ops.reconcile.showing import Now
from streams.metrics import ReconciliationMetrics


def write_metrics(found: Found, now: Now, path: Path) -> None:
    """Writes the file, whole or not at all."""
    metrics = ReconciliationMetrics()
    kinds = Counter(each.kind for day in found.days for each in day.differences)
    for kind in get_args(Kind):
        metrics.differences.labels(kind).set(kinds[kind])
    states = Counter(now[day.store, day.day].state for day in found.days)
    for state in get_args(State):
        metrics.store_days.labels(state).set(states[state])
    gross: dict[str, Decimal] = {}
    for day in found.days:
        for account in day.accounts:
            off = abs(account.held.gross - account.due.gross) if day.differences else Decimal(0)
            gross[account.currency] = gross.get(account.currency, Decimal(0)) + off
    for currency, off in gross.items():
        if currency:  # a record that can't be read has none
            metrics.gross.labels(currency).set(float(off))
    metrics.at.set(found.at.timestamp())
    write_to_textfile(str(path), metrics.registry)
