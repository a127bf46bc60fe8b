"""Exact money: amounts are whole minor units of an ISO 4217 currency, or `Decimal`s with just as many places.

Rounding, wherever a product or a tax makes it necessary, is half up (half away from zero), the commercial rule.
"""

from decimal import ROUND_HALF_UP, Context, Decimal, Inexact, InvalidOperation
from functools import lru_cache

from iso4217 import Currency

#: No amount, price or quantity at a till reaches this; a number beyond it is a broken record, not a sale.
LIMIT = Decimal(10) ** 12
_SAFE_LENGTH = LIMIT.adjusted()  # digits before the point that can't reach it
#: Characters of a number. Longer texts are refused before they become one, as that takes time that grows with the
#: square of the length.
LONGEST = 256

#: A price times a quantity, both below LIMIT with six places, fits; what does not fit raises instead of rounding.
EXACT = Context(prec=60, traps=[Inexact])


class NotMoney(ValueError):
    """The number is no amount of its currency; the message is the kind of fault, as a word."""


@lru_cache  # of few: it is asked for whatever a source calls its currency
def minor_digits(currency: str) -> int | None:
    """Decimal places of `currency` (EUR 2, JPY 0, BHD 3); None when ISO 4217 has no such currency.

    Codes without minor units of their own (XAU, XXX) are not money that a till takes, and give None as well.
    """
    try:
        exponent = Currency(currency).exponent
    except ValueError:
        return None
    return None if exponent is None else int(exponent)


def to_minor(amount: Decimal, factor: int) -> int:
    """`amount` in minor units, `factor` = 10 ** minor digits. Raises NotMoney rather than round."""
    if not -LIMIT < amount < LIMIT:
        raise NotMoney("out_of_range")
    try:
        scaled = EXACT.multiply(amount, factor)
    except Inexact:
        raise NotMoney("too_many_places") from None
    minor = int(scaled)
    if minor != scaled:
        raise NotMoney("too_many_places")
    return minor


def parse_minor(text: str, digits: int) -> int:
    """Return a decimal number as text (of the form that `schemas.sale.Amount` has) in minor units of `digits` places.

    Raises NotMoney rather than round.
    """
    whole, _, places = text.partition(".")
    if len(places) == digits and len(whole) <= _SAFE_LENGTH:
        try:
            return int(whole + places)
        except ValueError:  # an exponent
            pass
    if len(text) > LONGEST:
        raise NotMoney("out_of_range")
    try:
        return to_minor(Decimal(text), 10**digits)
    except InvalidOperation:  # an exponent beyond all bounds
        raise NotMoney("out_of_range") from None


def any_number(text: str) -> Decimal:
    """Return a number of a source's, of a size that sums and products of a few stay exact in. Raises NotMoney."""
    if len(text) > LONGEST:
        raise NotMoney("out_of_range")
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise NotMoney("not_a_number") from None
    _, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        raise NotMoney("not_a_number")
    if len(digits) > 28 or exponent < -20 or number.adjusted() > 20:
        raise NotMoney("out_of_range")
    return number


def minor_text(minor: int, digits: int) -> str:
    """Whole minor units as a decimal number: the inverse of `parse_minor`."""
    if not digits:
        return str(minor)
    text = f"{abs(minor):0{digits + 1}}"
    return f"{'-' if minor < 0 else ''}{text[:-digits]}.{text[-digits:]}"


def round_half_up(amount: Decimal) -> int:
    """Return the nearest integer, halves away from zero."""
    return int(amount.to_integral_value(ROUND_HALF_UP))


def divide_half_up(numerator: int, denominator: int) -> int:
    """`numerator / denominator` to the nearest integer, halves away from zero; `denominator` > 0."""
    quotient = (2 * abs(numerator) + denominator) // (2 * denominator)
    return quotient if numerator >= 0 else -quotient
