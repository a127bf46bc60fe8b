"""Is the receipt right in itself? Computes its amounts in whole minor units and checks them against its totals.

The rules, all to the minor unit, rounding half up:

- A line costs quantity × unit price - discounts. A printed `amount` may differ by one minor unit plus half of the
  price's last place per unit sold (a printed price is a rounded one); the printed amount then counts.
- Tax included: gross is the line's amount, net = gross / (1 + rate). Otherwise net is the amount, tax = net × rate.
- `totals.gross` = sum of the lines' gross + `totals.rounding`, exactly; where tax is added on top, tills may round it
  per receipt, so one minor unit per such line is tolerated and becomes the document's rounding.
- `totals.net` and `totals.tax`, where stated, are within one minor unit per line of the sums.
- Tenders, where there are any, add up to `totals.gross` exactly.
- Cash rounding (`totals.rounding`) is under one currency unit, or at most 5 % of gross, for currencies of small units.
- Returns and voids state what they give back as positive amounts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

from schemas.deadletter import Reason
from schemas.money import EXACT, LIMIT, NotMoney, divide_half_up, minor_digits, round_half_up, to_minor
from schemas.sale import Line, SaleEvent
from streams.batch import Arrival, Rejection

PLACES = 6
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_RATE_UNITS = 10_000  # of a percent: rates have up to four places


@dataclass(slots=True, eq=False)
class Sound:
    """An arrival whose amounts add up; all in minor units, as printed (not yet signed).

    `lines` holds (net, tax, gross, discount) per line, `digits` the number of places of the currency.
    """

    arrival: Arrival
    digits: int
    lines: list[tuple[int, int, int, int]]
    tenders: list[int]
    net: int
    tax: int
    rounding: int
    gross: int


class Unsound(Exception):
    """Why a receipt is not right: a reason, and the field with the kind of fault."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def check(arrivals: Sequence[Arrival], now: datetime) -> tuple[list[Sound], list[Rejection]]:
    """The receipts that are right in themselves, and the others."""
    sound: list[Sound] = []
    held: list[Rejection] = []
    latest = now + timedelta(days=1)
    for arrival in arrivals:
        try:
            if not _EARLIEST <= arrival.event.occurred_at <= latest:
                raise Unsound(Reason.IMPLAUSIBLE_TIME, "occurred_at: out_of_range")
            sound.append(amounts(arrival))
        except Unsound as fault:
            held.append(Rejection(arrival.record, fault.reason, fault.detail, "check", arrival.event))
    return sound, held


def amounts(arrival: Arrival) -> Sound:
    """The receipt's amounts. Raises Unsound where they break a rule."""
    event = arrival.event
    digits = minor_digits(event.currency)
    if digits is None:
        raise Unsound(Reason.UNKNOWN_CURRENCY, "currency: not_in_iso_4217")
    if not event.lines:
        raise Unsound(Reason.EMPTY_RECEIPT, "lines: empty")
    factor = 10**digits
    lines = []
    net = tax = 0
    for position, line in enumerate(event.lines):
        try:
            amounts_of_line = line_amounts(line, digits, factor)
        except Unsound as fault:
            raise Unsound(fault.reason, f"lines.{position}{fault.detail}") from None
        lines.append(amounts_of_line)
        net += amounts_of_line[0]
        tax += amounts_of_line[1]
    gross = minor(event.totals.gross, factor, "totals.gross")
    if gross < 0 and event.type != "sale":
        raise Unsound(Reason.WRONG_SIGN, "totals.gross: negative")
    rounding = gross - net - tax
    check_totals(event, net, tax, rounding, gross, factor)
    tenders = [minor(tender.amount, factor, "tenders.amount") for tender in event.tenders]
    if tenders and sum(tenders) != gross:
        raise Unsound(Reason.PAYMENT_MISMATCH, "tenders: sum_differs_from_gross")
    return Sound(arrival, digits, lines, tenders, net, tax, rounding, gross)


def line_amounts(line: Line, digits: int, factor: int) -> tuple[int, int, int, int]:
    """(net, tax, gross, discount) of one line in minor units. The detail of what it raises begins after `lines.N`."""
    if line.amount is None and not line.discounts:
        return (*plain_line(line.quantity, line.unit_price, line.tax_rate, line.tax_included, factor), 0)
    discount = 0
    for reduction in line.discounts:
        discount += minor(reduction.amount, factor, ".discounts.amount")
    amount = product(line.quantity, line.unit_price, factor) - discount
    if line.amount is not None:
        printed = minor(line.amount, factor, ".amount")
        if printed != amount and abs(printed - amount) > tolerance(line, digits, factor):
            raise Unsound(Reason.LINE_MISMATCH, ".amount: differs_from_product")
        amount = printed
    return (*taxed(amount, line.tax_rate, line.tax_included), discount)


# Receipts share few articles and quantities, so most lines of a day have been computed before.
@lru_cache(65_536)
def plain_line(quantity: Decimal, price: Decimal, rate: Decimal, included: bool, factor: int) -> tuple[int, int, int]:
    """(net, tax, gross) of a line without discounts and printed amount."""
    return taxed(product(quantity, price, factor), rate, included)


def product(quantity: Decimal, price: Decimal, factor: int) -> int:
    """quantity × price in minor units, rounded half up."""
    for name, number in (("quantity", quantity), ("unit_price", price)):
        if not -LIMIT < number < LIMIT:
            raise Unsound(Reason.INVALID_AMOUNT, f".{name}: out_of_range")
        if number != round(number, PLACES):
            raise Unsound(Reason.INVALID_AMOUNT, f".{name}: more_than_{PLACES}_places")
    exact = EXACT.multiply(quantity, price)
    if not -LIMIT < exact < LIMIT:
        raise Unsound(Reason.INVALID_AMOUNT, ": out_of_range")
    return round_half_up(exact * factor)


def taxed(amount: int, rate: Decimal, included: bool) -> tuple[int, int, int]:
    """(net, tax, gross) of a line's amount."""
    units = rate_units(rate)
    if not units:
        return amount, 0, amount
    if included:
        net = divide_half_up(amount * 100 * _RATE_UNITS, 100 * _RATE_UNITS + units)
        return net, amount - net, amount
    tax = divide_half_up(amount * units, 100 * _RATE_UNITS)
    return amount, tax, amount + tax


def check_totals(event: SaleEvent, net: int, tax: int, rounding: int, gross: int, factor: int) -> None:
    """Raises Unsound unless the printed totals agree with the lines' sums; `rounding` is what gross differs by."""
    stated = minor(event.totals.rounding, factor, "totals.rounding")
    if abs(stated) >= factor and abs(stated) * 20 > abs(gross):
        raise Unsound(Reason.TOTALS_MISMATCH, "totals.rounding: too_large")
    if rounding != stated:
        added = sum(1 for line in event.lines if line.tax_rate and not line.tax_included)
        if abs(rounding - stated) > added:
            raise Unsound(Reason.TOTALS_MISMATCH, "totals.gross: differs_from_lines")
    for name, printed, computed in (("net", event.totals.net, net), ("tax", event.totals.tax, tax)):
        if printed is not None:
            difference = minor(printed, factor, f"totals.{name}") - computed
            if difference and abs(difference) > len(event.lines):
                raise Unsound(Reason.TOTALS_MISMATCH, f"totals.{name}: differs_from_lines")


def minor(amount: Decimal, factor: int, field: str) -> int:
    """`amount` in minor units. Raises Unsound when it is too large or the currency has fewer places."""
    try:
        return to_minor(amount, factor)
    except NotMoney as fault:
        raise Unsound(Reason.INVALID_AMOUNT, f"{field}: {fault}") from None


def tolerance(line: Line, digits: int, factor: int) -> Decimal:
    """How far a printed line amount may be from the product, in minor units."""
    exponent = line.unit_price.as_tuple().exponent
    places = max(digits, -exponent if isinstance(exponent, int) else 0)
    return 1 + abs(line.quantity) * factor * Decimal(5).scaleb(-places - 1)


@lru_cache(1024)
def rate_units(rate: Decimal) -> int:
    """A tax rate in ten-thousandths of a percent. Raises Unsound when it has more places."""
    try:
        return to_minor(rate, _RATE_UNITS)
    except NotMoney:
        raise Unsound(Reason.INVALID_AMOUNT, ".tax_rate: more_than_4_places") from None
