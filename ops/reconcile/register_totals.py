"""Compare the registers' own totals with the receipts that they sent."""

from collections.abc import Iterable

from ops.reconcile.content import format_amount
from ops.reconcile.event_store import EventStore
from ops.reconcile.rows import CloseRow
from ops.reconcile.store_day import DayDifference
from sinks.storable import AMOUNT_PLACES, from_scaled


def registers(event_store: EventStore, *, whole: bool) -> Iterable[DayDifference]:
    """Yield a difference for each Z report that is not the sum of the receipts since the Z report before it."""
    before: CloseRow | None = None
    for close in event_store.register_closes():
        same = before is not None and _register(before) == _register(close)
        since = before.occurred if before is not None and same else -(2**62)
        before = close
        if not same and not whole:
            continue  # its earlier sales were not read
        sold, day = event_store.gross_sold(close, since)
        if sold != close.gross:
            printed, sent = from_scaled(close.gross, AMOUNT_PLACES), from_scaled(sold, AMOUNT_PLACES)
            yield DayDifference(
                *("register", close.store, day or close.day, close.currency, close.event_id),
                f"register {close.register} printed {format_amount(printed, close.currency)}",
                sent=sent,
                repair=f"tillstream dlq list --store {close.store}",
            )


def _register(close: CloseRow) -> tuple[str, str, str, str]:
    return close.source, close.store, close.register, close.currency
