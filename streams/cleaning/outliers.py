"""Outliers: values far from the median of the ERP's documents, measured by the median deviation from it.

These baselines are computed from the ERP's tables: all workers have the same ones, and a restart or a rebalance
loses none.
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

#: The smallest deviation used, as a share of the median: prices that never change have a deviation of zero.
_MIN_DEVIATION = Decimal("0.01")


class UsualRange(NamedTuple):
    """The range of usual values, both ends included."""

    low: Decimal
    high: Decimal


class Baselines(NamedTuple):
    """Usual ranges by (sku, currency) and (store, currency); those with too few values are left out."""

    prices: dict[tuple[str, str], UsualRange]
    receipts: dict[tuple[str, str], UsualRange]


def learn_baselines(rule: OutlierRule, database: QueryDatabase, today: date) -> Baselines:
    """Compute today's baselines. Raises SinkUnavailable, and SinkMisconfigured if the sink is not an SQL database."""
    sold = queries.sold(database.url, today - timedelta(days=rule.days), password=database.password)
    return Baselines(
        *(
            {key: span for key, values in by_key.items() if (span := usual_range(values, rule)) is not None}
            for by_key in sold
        )
    )


def usual_range(values: Counter[Decimal], rule: OutlierRule) -> UsualRange | None:
    """Return the median ± `times` deviations; None for fewer values than `warm_up`."""
    if values.total() < rule.warm_up:
        return None
    middle = median(values)
    apart: Counter[Decimal] = Counter()
    for value, times in values.items():
        apart[abs(value - middle)] += times
    reach = rule.times * max(median(apart), abs(middle) * _MIN_DEVIATION)
    return UsualRange(middle - reach, middle + reach) if middle else None


def median(values: Counter[Decimal]) -> Decimal:
    """Return the (lower) median of the counted values."""
    half, passed = (values.total() + 1) // 2, 0
    for value in sorted(values):
        passed += values[value]
        if passed >= half:
            return value
    raise ValueError("no values")


def outlier_issues(
    rule: OutlierRule, known: Baselines, receipt: CheckedReceipt, unit: Decimal
) -> Iterable[QualityIssue]:
    """Yield the values of a receipt that are outside of their usual range."""
    event = receipt.arrival.event
    if rule.prices is not None:
        for index, line in enumerate(receipt.lines):
            if _is_outside(known.prices.get((line.sale_line["sku"], event.currency)), line.unit_price):
                yield QualityIssue("usual_price", rule.prices, f"lines.{index}.unit_price: far_from_usual")
    if rule.receipts is None or event.type != "sale":
        return
    if _is_outside(known.receipts.get((event.store, event.currency)), receipt.gross * unit):
        yield QualityIssue("usual_receipt", rule.receipts, "totals.gross: far_from_usual")


def _is_outside(span: UsualRange | None, value: Decimal) -> bool:
    return span is not None and not span.low <= value <= span.high
