"""Checks a receipt in itself: computes its amounts in whole minor units and compares them with its totals.

The rules, all to the minor unit, rounding half up:

- A line costs quantity × unit price - discounts. A printed `amount` may differ by one minor unit plus half of the
  price's last place per unit sold (a printed price is a rounded one); the printed amount then counts.
- Tax included: gross is the line's amount, net = gross / (1 + rate). Otherwise net is the amount, tax = net × rate.
  A printed `tax` counts instead: it may be less (a part is exempt), or more by two minor units (several taxes, each
  rounded).
- Taxes are booked as printed. Tills round tax per line, per rate or per receipt, so `totals.tax` may differ from the
  lines' sum by one minor unit per taxed line; the lines nearest to the next unit then take the difference. Without it,
  the tax follows from `totals.gross` (tax on top) or `totals.net`.
- `totals.gross` = sum of the lines' gross + `totals.rounding`, exactly, and `totals.tax` is the sum of the lines' tax.
- `totals.net`, where stated, is within one minor unit per line of the sum.
- Tenders, where there are any, add up to `totals.gross` exactly.
- Cash rounding (`totals.rounding`) is under one currency unit, or at most 5 % of gross, for currencies of small units.
- Returns and voids state the refunded amounts as positive numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import lru_cache
from typing import cast

from schemas.codes import is_damaged
from schemas.dead_letter import Reason
from schemas.money import EXACT, LIMIT, NotMoney, divide_half_up, minor_digits, parse_minor, round_half_up
from schemas.sale import SaleEvent, SaleLine, line_content
from streams.batch import Arrival, QualityIssue, Rejection

PLACES = 6
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_RATE_PLACES = 4
_WHOLE = 100 * 10**_RATE_PLACES  # 100 % in the unit of rates
#: Minor units by which a line's printed tax may exceed the product of its rate.
_TAX_ABOVE = 2
#: Lines cached, about 1.5 kB each: the articles that a large shop sells in a day, in their usual quantities.
LINES_KEPT = 16_384


@dataclass(slots=True, eq=False)
class CheckedLine:
    """A line whose amounts add up, in minor units, as printed. Receipts with the same line share it."""

    sale_line: SaleLine
    content: bytes
    quantity: Decimal
    unit_price: Decimal
    tax_rate: Decimal
    net: int
    tax: int
    gross: int
    discount: int


@dataclass(slots=True, eq=False)
class CheckedReceipt:
    """An arrival whose amounts add up; all in minor units, as printed (not yet signed).

    `digits` is the number of decimal places of the currency. A repaired receipt has the `issues` that were repaired; if
    repeated lines were dropped, `all_lines` has them as well and `lines` only those that count.
    """

    arrival: Arrival
    digits: int
    lines: list[CheckedLine]
    tenders: list[int]
    net: int
    tax: int
    rounding: int
    gross: int
    issues: tuple[QualityIssue, ...] = ()
    all_lines: list[CheckedLine] | None = None


class CheckFailed(Exception):
    """A receipt breaks a rule; has a reason, and a detail with the field and the kind of fault."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = detail


#: Repairs a receipt that failed, if the result is certain and a rule allows it; else returns None.
Repair = Callable[[Arrival, CheckFailed], CheckedReceipt | None]


def no_repair(arrival: Arrival, fault: CheckFailed) -> None:
    """Repair nothing."""


def check(
    arrivals: Sequence[Arrival], now: datetime, repair: Repair = no_repair
) -> tuple[list[CheckedReceipt], list[Rejection]]:
    """Return the receipts that pass, as they are or repaired, and rejections of the others."""
    checked: list[CheckedReceipt] = []
    rejections: list[Rejection] = []
    latest = now + timedelta(days=1)
    for arrival in arrivals:
        try:
            if not _EARLIEST <= arrival.event.occurred_at <= latest:
                raise CheckFailed(Reason.IMPLAUSIBLE_TIME, "occurred_at: out_of_range")
            checked.append(check_receipt(arrival))
        except CheckFailed as fault:
            repaired = repair(arrival, fault)
            if repaired is not None:
                checked.append(repaired)
            else:
                rejections.append(Rejection(arrival.record, fault.reason, fault.detail, "check", arrival.event))
    return checked, rejections


def check_receipt(arrival: Arrival, slack: Decimal = Decimal(0)) -> CheckedReceipt:
    """Compute and check the receipt's amounts; totals may differ by `slack` currency units. Raises CheckFailed."""
    event = arrival.event
    digits = minor_digits(event.currency)
    if digits is None:
        raise CheckFailed(Reason.UNKNOWN_CURRENCY, "currency: not_in_iso_4217")
    if not event.lines:
        raise CheckFailed(Reason.EMPTY_RECEIPT, "lines: empty")
    lines: list[CheckedLine] = []
    net = tax = 0
    for line in event.lines:
        try:
            checked = check_line(line, digits)
        except CheckFailed as fault:
            raise CheckFailed(fault.reason, f"lines.{len(lines)}{fault.detail}") from None
        lines.append(checked)
        net += checked.net
        tax += checked.tax
    gross = minor(event.totals["gross"], digits, "totals.gross")
    if gross < 0 and event.type != "sale":
        raise CheckFailed(Reason.WRONG_SIGN, "totals.gross: negative")
    stated = minor(event.totals["rounding"], digits, "totals.rounding") if "rounding" in event.totals else 0
    printed = _printed_tax(event, gross - stated, net + tax, tax, digits)
    if printed != (0, 0):
        lines = _with_printed_tax(lines, *printed)
        net, tax = sum(line.net for line in lines), sum(line.tax for line in lines)
    rounding = gross - net - tax
    check_totals(event, net, tax, rounding, gross, digits, int(slack * 10**digits) if slack else 0)
    tenders = [minor(tender["amount"], digits, "tenders.amount") for tender in event.tenders]
    if tenders and sum(tenders) != gross:
        raise CheckFailed(Reason.PAYMENT_MISMATCH, "tenders: sum_differs_from_gross")
    return CheckedReceipt(arrival, digits, lines, tenders, net, tax, rounding, gross)


def gross_of_lines(lines: Sequence[SaleLine], currency: str) -> str:
    """Return the gross sum of the lines, for a source that prints no total. Raises CheckFailed."""
    digits = minor_digits(currency)
    if digits is None:
        raise CheckFailed(Reason.UNKNOWN_CURRENCY, "currency: not_in_iso_4217")
    gross = 0
    for index, line in enumerate(lines):
        try:
            gross += check_line(line, digits).gross
        except CheckFailed as fault:
            raise CheckFailed(fault.reason, f"lines.{index}{fault.detail}") from None
    return format(Decimal(gross).scaleb(-digits), "f")


def check_line(line: SaleLine, digits: int) -> CheckedLine:
    """Compute the line's amounts. Raises CheckFailed with a detail that begins after `lines.N`.

    Receipts share few articles and quantities, so most lines of a day are in the cache already.
    """
    if "discounts" in line:  # a list, so not hashable; and discounts differ from receipt to receipt
        return compute_line(line, digits)
    return _cached_line(digits, *line, *line.values())


@lru_cache(LINES_KEPT)
def _cached_line(digits: int, *names_and_values: object) -> CheckedLine:
    fields = len(names_and_values) // 2
    pairs = zip(names_and_values[:fields], names_and_values[fields:], strict=True)
    return compute_line(cast(SaleLine, dict(pairs)), digits)


def compute_line(line: SaleLine, digits: int) -> CheckedLine:
    """As `check_line`, without the cache."""
    if is_damaged(line["sku"]):
        raise CheckFailed(Reason.DAMAGED_CODE, ".sku: damaged_by_spreadsheet")
    quantity, price = number(line["quantity"], "quantity"), number(line["unit_price"], "unit_price")
    rate = rate_units(line["tax_rate"])
    discount = 0
    for reduction in line.get("discounts", ()):
        discount += minor(reduction["amount"], digits, ".discounts.amount")
    amount = product(quantity, price, digits) - discount
    printed = line.get("amount")
    if printed is not None:
        stated = minor(printed, digits, ".amount")
        if stated != amount and abs(stated - amount) > tolerance(quantity, price, digits):
            raise CheckFailed(Reason.LINE_MISMATCH, ".amount: differs_from_product")
        amount = stated
    included = line.get("tax_included", True)
    net, tax, gross = taxed(amount, rate, included)
    printed_tax = line.get("tax")
    if printed_tax is not None:
        stated_tax = minor(printed_tax, digits, ".tax")
        if stated_tax != tax:
            if not (rate and stated_tax * tax >= 0 and abs(stated_tax) <= abs(tax) + _TAX_ABOVE):
                raise CheckFailed(Reason.LINE_MISMATCH, ".tax: more_than_the_rate_gives")
            tax = stated_tax
            net, gross = (amount - tax, amount) if included else (amount, amount + tax)
    percent = _plain(Decimal(line["tax_rate"]))
    return CheckedLine(line, line_content(line), quantity, price, percent, net, tax, gross, discount)


def number(text: str, field: str) -> Decimal:
    """Parse a quantity or a price. Raises CheckFailed."""
    try:
        value = Decimal(text)
    except InvalidOperation:  # an exponent beyond all bounds
        value = LIMIT
    if not -LIMIT < value < LIMIT:
        raise CheckFailed(Reason.INVALID_AMOUNT, f".{field}: out_of_range")
    if value != round(value, PLACES):
        raise CheckFailed(Reason.INVALID_AMOUNT, f".{field}: more_than_{PLACES}_places")
    return _plain(value)


def _plain(value: Decimal) -> Decimal:
    """Return the number; a zero with millions of decimal places loses them, since they would be written out."""
    return value if value or abs(value.adjusted()) <= PLACES else Decimal(0)


def product(quantity: Decimal, price: Decimal, digits: int) -> int:
    """Return quantity × price in minor units, rounded half up. Raises CheckFailed."""
    exact = EXACT.multiply(quantity, price)
    if not -LIMIT < exact < LIMIT:
        raise CheckFailed(Reason.INVALID_AMOUNT, ": out_of_range")
    return round_half_up(exact * 10**digits)


def taxed(amount: int, rate: int, included: bool) -> tuple[int, int, int]:
    """Return (net, tax, gross) of a line's amount; `rate` as `rate_units` returns it."""
    if included:
        net = divide_half_up(amount * _WHOLE, _WHOLE + rate)
        return net, amount - net, amount
    tax = divide_half_up(amount * rate, _WHOLE)
    return amount, tax, amount + tax


def _printed_tax(event: SaleEvent, gross: int, computed: int, tax: int, digits: int) -> tuple[int, int]:
    """Return how far the printed tax differs from the lines' tax: (taxes on top, included taxes).

    `gross` is without cash rounding; `computed` is the gross sum of the lines, and `tax` the tax in it.
    """
    on_top = gross - computed
    printed, net = event.totals.get("tax"), event.totals.get("net")
    if printed is not None:
        return on_top, minor(printed, digits, "totals.tax") - tax - on_top
    if net is not None:
        return on_top, gross - minor(net, digits, "totals.net") - tax - on_top
    return on_top, 0


def _with_printed_tax(lines: list[CheckedLine], on_top: int, included: int) -> list[CheckedLine]:
    """Spread the difference in tax over the lines, at most one minor unit each; leave them if that is not enough."""
    changed = list(lines)
    for difference, adds in ((on_top, True), (included, False)):
        taxable = [
            index
            for index, line in enumerate(lines)
            if line.tax_rate and line.gross and line.sale_line.get("tax_included", True) is not adds
        ]
        if abs(difference) > len(taxable):
            return lines
        unit = 1 if difference > 0 else -1
        taxable.sort(key=lambda index: unit * _above_exact(lines[index]))
        for index in taxable[: abs(difference)]:
            line = changed[index]
            if adds:
                changed[index] = replace(line, tax=line.tax + unit, gross=line.gross + unit)
            else:
                changed[index] = replace(line, tax=line.tax + unit, net=line.net - unit)
    return changed


def _above_exact(line: CheckedLine) -> Fraction:
    """Return how far the line's tax is above the exact product of its rate."""
    rate = Fraction(line.tax_rate)
    included = line.sale_line.get("tax_included", True)
    return line.tax - (Fraction(line.gross) * rate / (100 + rate) if included else Fraction(line.net) * rate / 100)


def check_totals(event: SaleEvent, net: int, tax: int, rounding: int, gross: int, digits: int, slack: int = 0) -> None:
    """Check the printed totals against the sums of the lines; `rounding` is the difference in gross.

    They may differ by `slack` minor units more than the rules say. Raises CheckFailed.
    """
    totals = event.totals
    stated = minor(totals["rounding"], digits, "totals.rounding") if "rounding" in totals else 0
    if abs(stated) >= 10**digits and abs(stated) * 20 > abs(gross):
        raise CheckFailed(Reason.TOTALS_MISMATCH, "totals.rounding: too_large")
    if abs(rounding - stated) > slack:
        raise CheckFailed(Reason.TOTALS_MISMATCH, "totals.gross: differs_from_lines")
    tolerance_net = len(event.lines) + slack
    of_lines = (
        ("net", totals.get("net"), net, tolerance_net),
        ("tax", totals.get("tax"), tax, tolerance_net if slack else 0),
    )
    for name, printed, computed, tolerated in of_lines:
        if printed is not None:
            difference = minor(printed, digits, f"totals.{name}") - computed
            if abs(difference) > tolerated:
                raise CheckFailed(Reason.TOTALS_MISMATCH, f"totals.{name}: differs_from_lines")


def minor(amount: str, digits: int, field: str) -> int:
    """Return `amount` in minor units. Raises CheckFailed if it is too large or has more places than the currency."""
    try:
        return parse_minor(amount, digits)
    except NotMoney as fault:
        raise CheckFailed(Reason.INVALID_AMOUNT, f"{field}: {fault}") from None


def tolerance(quantity: Decimal, price: Decimal, digits: int) -> Decimal:
    """Return how far a printed line amount may be from the product, in minor units."""
    exponent = price.as_tuple().exponent
    places = max(digits, -exponent if isinstance(exponent, int) else 0)
    half, factor = Decimal(5).scaleb(-places - 1), Decimal(10) ** digits
    return 1 + abs(quantity) * factor * half


@lru_cache
def rate_units(rate: str) -> int:
    """Return a tax rate in ten-thousandths of a percent. Raises CheckFailed if it has more places or is not a rate."""
    try:
        units = parse_minor(rate, _RATE_PLACES)
    except NotMoney as fault:
        kind = f"more_than_{_RATE_PLACES}_places" if str(fault) == "too_many_places" else str(fault)
        raise CheckFailed(Reason.INVALID_AMOUNT, f".tax_rate: {kind}") from None
    if not 0 <= units <= _WHOLE:
        raise CheckFailed(Reason.INVALID_AMOUNT, ".tax_rate: out_of_range")
    return units
