"""What is usual, by what the ERP's tables hold: medians, and how far values are from them at the median.

The tables are the memory: all workers see the same, and neither a restart nor a rebalance forgets anything.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal
from typing import NamedTuple

from schemas.mapping import OutlierRule
from sinks.sql import queries
from streams.batch import QualityIssue
from streams.checks import CheckedReceipt
from streams.mapping.tables import QueryDatabase

#: The least deviation that counts, as a share of the median: prices that never change have none of their own.
_LEAST = Decimal("0.01")


class UsualRange(NamedTuple):
    """From where to where values are usual."""

    least: Decimal
    most: Decimal


class Baselines(NamedTuple):
    """What is usual, by (sku, currency) and (store, currency); what is not known well enough is left out."""

    prices: dict[tuple[str, str], UsualRange]
    receipts: dict[tuple[str, str], UsualRange]


def habits(rule: OutlierRule, database: QueryDatabase, today: date) -> Baselines:
    """What is usual by now. Raises SinkUnavailable, and SinkMisconfigured where the sink is no SQL database."""
    sold = queries.sold(database.url, today - timedelta(days=rule.days), password=database.password)
    return Baselines(
        *(
            {key: span for key, values in by_key.items() if (span := usual_span(values, rule)) is not None}
            for by_key in sold
        )
    )


def usual_span(values: Counter[Decimal], rule: OutlierRule) -> UsualRange | None:
    """From `times` deviations below the median to as many above it; None for fewer values than `warm_up`."""
    if values.total() < rule.warm_up:
        return None
    middle = median(values)
    apart: Counter[Decimal] = Counter()
    for value, times in values.items():
        apart[abs(value - middle)] += times
    reach = rule.times * max(median(apart), abs(middle) * _LEAST)
    return UsualRange(middle - reach, middle + reach) if middle else None


def median(values: Counter[Decimal]) -> Decimal:
    """The (lower) median of values that stand as often as they are counted."""
    half, passed = (values.total() + 1) // 2, 0
    for value in sorted(values):
        passed += values[value]
        if passed >= half:
            return value
    raise ValueError("no values")


def unusual(rule: OutlierRule, known: Baselines, receipt: CheckedReceipt, unit: Decimal) -> Iterable[QualityIssue]:
    """What is far from usual in a receipt."""
    event = receipt.arrival.event
    if rule.prices is not None:
        for place, line in enumerate(receipt.lines):
            if _is_outside(known.prices.get((line.said["sku"], event.currency)), line.unit_price):
                yield QualityIssue("usual_price", rule.prices, f"lines.{place}.unit_price: far_from_usual")
    if rule.receipts is None or event.type != "sale":
        return
    if _is_outside(known.receipts.get((event.store, event.currency)), receipt.gross * unit):
        yield QualityIssue("usual_receipt", rule.receipts, "totals.gross: far_from_usual")


def _is_outside(span: UsualRange | None, value: Decimal) -> bool:
    return span is not None and not span.least <= value <= span.most
