"""The tax rate of a line, from the taxes that its source states: rates, amounts, or both."""

from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

from schemas.money import EXACT, NotMoney, any_number
from streams.sources.convert import Unconvertible, text_of

_PLACES = Decimal("0.0001")
_LONG = Context(prec=60)


def rate_of(line: dict[str, Any], taxes: list[dict[str, Any]], digits: int) -> str:
    """Percent, with four places at most; `line` is complete but for its rate, `digits` are the currency's places.

    The rates' sum, if it gives what was charged to within one minor unit (taxes are rounded one by one, and spread over
    lines); otherwise the rate that the amounts say. Raises Unconvertible where something is no number.
    """
    stated = _total(taxes, "rate")
    charged = _total(taxes, "amount")
    if charged is None:
        return _text(stated or Decimal(0))
    amount = _amount(line)
    included = line.get("tax_included", True) is not False
    net = amount - charged if included else amount
    if stated is not None and abs(_tax(amount, stated, included) - charged) <= Decimal(1).scaleb(-digits):
        return _text(stated)
    return _text(_LONG.divide(charged * 100, net)) if net and charged else "0"


def _tax(amount: Decimal, rate: Decimal, included: bool) -> Decimal:
    if rate <= -100:
        return Decimal(0)
    return _LONG.divide(amount * rate, 100 + rate if included else Decimal(100))


def _amount(line: dict[str, Any]) -> Decimal:
    if line.get("amount") is not None:
        return _number(line["amount"])
    discounts = sum((_number(discount.get("amount")) for discount in line.get("discounts", ())), Decimal(0))
    return EXACT.multiply(_number(line.get("quantity")), _number(line.get("unit_price"))) - discounts


def _total(taxes: list[dict[str, Any]], name: str) -> Decimal | None:
    """Their sum; None if one does not say."""
    if any(name not in tax for tax in taxes):
        return None
    return sum((_number(tax[name]) for tax in taxes), Decimal(0))


def _number(value: Any) -> Decimal:
    try:
        return any_number(text_of(value))
    except NotMoney as fault:
        raise Unconvertible(str(fault)) from None


def _text(rate: Decimal) -> str:
    return format(rate.quantize(_PLACES, ROUND_HALF_UP, _LONG).normalize(_LONG), "f")
