"""A mapping's cleaning rules: issues in receipts that add up, and repairs of receipts that don't."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from schemas.dead_letter import Reason
from schemas.mapping import CleaningRules, ItemRow, StoreRow, ValueLimits
from schemas.money import minor_digits
from streams.batch import Arrival, QualityIssue
from streams.checks import CheckedLine, CheckedReceipt, CheckFailed, check_line, check_receipt

#: Reasons of the dead letters by rule: rejected, held.
REASONS: dict[str, tuple[Reason, Reason]] = {
    **dict.fromkeys(
        ("quantity", "unit_price", "discount_share", "gross", "list_price", "usual_price", "usual_receipt"),
        (Reason.IMPLAUSIBLE_VALUE, Reason.HELD_OUTLIER),
    ),
    **dict.fromkeys(("future", "old"), (Reason.IMPLAUSIBLE_TIME, Reason.HELD_TIME)),
    "duplicate_lines": (Reason.DUPLICATE_LINES, Reason.HELD_DUPLICATE_LINES),
    "description": (Reason.MISSING_VALUE, Reason.HELD_MISSING_VALUE),
    "currency": (Reason.WRONG_CURRENCY, Reason.HELD_CURRENCY),
    "totals": (Reason.TOTALS_MISMATCH, Reason.HELD_TOTALS),
}


def line_issues(rules: CleaningRules, line: CheckedLine, unit: Decimal, item: ItemRow | None) -> Iterable[QualityIssue]:
    """Yield the issues of a line by itself; `unit` is the currency's smallest unit."""
    if rules.description is not None and not line.sale_line.get("description"):
        found = item is not None and bool(item.description)
        yield QualityIssue(
            "description",
            "reject" if rules.description == "fix" and not found else rules.description,
            "description: missing",
        )
    yield from _outside(rules.quantity, "quantity", line.quantity)
    yield from _outside(rules.unit_price, "unit_price", line.unit_price)
    if rules.discount_share is not None and line.discount:
        whole = abs(line.quantity * line.unit_price)
        yield from _outside(
            rules.discount_share, "discount_share", line.discount * unit / whole if whole else Decimal(1)
        )
    list_price = item.list_price if item is not None else None
    if rules.list_price is not None and list_price is not None:
        far = abs(line.unit_price - list_price) > list_price * rules.list_price.share
        yield from [QualityIssue("list_price", rules.list_price.then, "unit_price: far_from_list_price")] if far else []


def receipt_issues(
    rules: CleaningRules, receipt: CheckedReceipt, unit: Decimal, store: StoreRow | None, now: datetime
) -> Iterable[QualityIssue]:
    """Yield the issues of a receipt as a whole."""
    event = receipt.arrival.event
    if rules.future is not None and event.occurred_at > now + timedelta(minutes=rules.future.minutes):
        yield QualityIssue("future", rules.future.then, "occurred_at: in_the_future")
    if rules.old is not None and event.occurred_at < now - timedelta(days=rules.old.days):
        yield QualityIssue("old", rules.old.then, "occurred_at: too_old")
    if rules.currency is not None and store is not None and store.currency not in (None, event.currency):
        yield QualityIssue("currency", rules.currency, "currency: not_the_stores_own")
    yield from _outside(rules.gross, "gross", receipt.gross * unit, "totals.gross")
    if rules.duplicate_lines not in (None, "fix"):
        for index in repeats(receipt.lines):
            yield QualityIssue("duplicate_lines", rules.duplicate_lines, f"lines.{index}: repeats_another")


def _outside(limits: ValueLimits | None, rule: str, value: Decimal, field: str | None = None) -> Iterable[QualityIssue]:
    if limits is None:
        return
    if limits.at_most is not None and abs(value) > limits.at_most:
        yield QualityIssue(rule, limits.then, f"{field or rule}: above_limit")
    if limits.at_least is not None and abs(value) < limits.at_least:
        yield QualityIssue(rule, limits.then, f"{field or rule}: below_limit")


def repeats(lines: Sequence[CheckedLine]) -> list[int]:
    """Return the indexes of lines that repeat an earlier line exactly."""
    if len({line.content for line in lines}) == len(lines):
        return []
    first: dict[bytes, int] = {}
    return [index for index, line in enumerate(lines) if first.setdefault(line.content, index) != index]


def repaired(rules: CleaningRules, arrival: Arrival, fault: CheckFailed) -> CheckedReceipt | None:
    """Return the repaired receipt, if a rule allows the repair and the receipt then adds up; else None.

    Its amounts are those of the printed totals. Its `issues` are those repaired, and its `all_lines` keep every line of
    the event, so that the digest of its content does not change.
    """
    if fault.reason is not Reason.TOTALS_MISMATCH:
        return None
    receipt = _without_repeats(arrival) if rules.duplicate_lines == "fix" else None
    if receipt is not None or rules.totals is None:
        return receipt
    try:
        receipt = check_receipt(arrival, rules.totals.amount)
    except CheckFailed:
        return None
    return replace(receipt, issues=(QualityIssue("totals", rules.totals.then, "totals: differ_from_lines"),))


def _without_repeats(arrival: Arrival) -> CheckedReceipt | None:
    event = arrival.event
    digits = minor_digits(event.currency)
    assert digits is not None  # else the check would have failed with another reason
    all_lines = [check_line(line, digits) for line in event.lines]
    repeated = repeats(all_lines)
    lines = tuple(line for index, line in enumerate(event.lines) if index not in repeated)
    try:
        receipt = check_receipt(replace(arrival, event=event.model_copy(update={"lines": lines})))
    except CheckFailed:
        return None
    issues = tuple(QualityIssue("duplicate_lines", "fix", f"lines.{index}: repeats_another") for index in repeated)
    return replace(receipt, arrival=arrival, issues=issues, all_lines=all_lines)
