"""Tax rates of lines, from the taxes that their source states: rates, amounts, or both. No rate is invented.

A stated rate wins: the rate of a line is the sum of its stated rates, and a stated amount only sets the tax. If a line
states an amount alone, its rate is one that gives this amount to the cent, the first of:

1. a rate that the receipt states elsewhere, or a sum of such rates;
2. a rate that the contract declares (`tax_rates`): if it declares rates, the search ends here;
3. the only whole percentage, or else the only multiple of 0.025 (tenths, quarters, eighths), that gives the amount;
4. a rate found this way for another line of the receipt.

Small amounts fit many rates. If none of these rules decides, the receipt is refused, with a detail that says so.
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import lru_cache
from itertools import combinations
from typing import Any, NamedTuple

from schemas.money import EXACT, NotMoney, any_number, minor_text, round_half_up
from streams.checks import CheckFailed, rate_units, taxed
from streams.sources.convert import ConversionFailed, text_of
from streams.sources.round_rates import TWO_PLACES, TaxedAmount, tax_of

_PLACES = Decimal("0.0001")
_LONG = Context(prec=60)
#: How many of a receipt's rates are summed to find the rate of a line: state, county, city and one more.
_MOST_SUMMED = 4


class UncertainRate(Exception):
    """No rate is certain; the message is the path (`lines.N.tax_rate`, `taxes.N.rate`) and the kind of fault."""


class ChargedTaxes(NamedTuple):
    """The taxes that a line states: their total rate and amount, and their number, as each is rounded by itself.

    `amount` is the line's own amount if it states a tax amount, otherwise 0.
    """

    line_number: int
    line: dict[str, Any]
    rate: Decimal | None
    tax: Decimal | None
    number: int
    amount: Decimal

    @property
    def location(self) -> str:
        """The path of the line's rate in the event."""
        return f"lines.{self.line_number}.tax_rate"


def charged_taxes(index: int, line: dict[str, Any], taxes: list[dict[str, Any]]) -> ChargedTaxes:
    """Add up the `taxes` that a line states. Raises ConversionFailed for a value that isn't a number."""
    stated = [tax for tax in taxes if tax]
    if not stated:
        return ChargedTaxes(index, line, Decimal(0), None, 1, Decimal(0))
    rate, tax = _total(stated, "rate"), _total(stated, "amount")
    if rate is None and tax is None:
        raise ConversionFailed("rate_or_amount_missing")
    return ChargedTaxes(index, line, rate, tax, len(stated), Decimal(0) if tax is None else _amount(line))


def settle_taxes(
    lines: Sequence[dict[str, Any]],
    stated: Sequence[ChargedTaxes],
    receipt_taxes: Sequence[dict[str, Any]],
    total: Any,
    digits: int,
    declared: Sequence[Decimal] = (),
) -> None:
    """Set the `tax_rate` of the lines in `stated`, and their `tax` if the printed tax differs from the rate's result.

    `receipt_taxes` are the taxes that the receipt prints for all of its lines, `total` is its printed tax, `digits` the
    currency's decimal places, and `declared` the contract's rates. Raises UncertainRate and ConversionFailed.
    """
    for index, tax in enumerate(receipt_taxes):
        if "rate" not in tax and _number(tax.get("amount", 0)):
            raise UncertainRate(f"taxes.{index}.rate: not_stated")
    _set_rates(stated, receipt_taxes, digits, declared)
    if declared:
        receipt_taxes = [_with_declared_rate(tax, lines, digits, declared) for tax in receipt_taxes]
    _set_taxes(lines, stated, receipt_taxes, total, digits)
    _spread(lines, receipt_taxes, digits)


def _set_rates(
    stated: Sequence[ChargedTaxes], receipt_taxes: Sequence[dict[str, Any]], digits: int, declared: Sequence[Decimal]
) -> None:
    open_lines: list[ChargedTaxes] = []
    for charged in stated:
        if charged.rate is None and charged.tax:
            open_lines.append(charged)
        else:
            charged.line["tax_rate"] = _text(
                _declared_for(charged, digits, declared) if declared else charged.rate or Decimal(0)
            )
    if not open_lines:
        return
    of_receipt = _sums(tax["rate"] for tax in receipt_taxes if "rate" in tax) | {
        charged.rate for charged in stated if charged.rate
    }
    undecided: list[tuple[ChargedTaxes, TaxedAmount]] = []
    found_rates: set[Decimal] = set()
    for charged in open_lines:
        base = _taxed(charged, digits)
        rate = base.nearest(of_receipt)
        if rate is None and declared:
            rate = base.nearest(declared) or base.nearest(declared, slack=1)
            if rate is None:
                raise UncertainRate(f"{charged.location}: not_a_declared_rate")
        elif rate is None:
            rate = base.roundest()
        if rate is None:
            undecided.append((charged, base))
        else:
            charged.line["tax_rate"] = _text(rate)
            found_rates.add(rate)
    for charged, base in undecided:
        rate = base.nearest(found_rates) or base.nearest(found_rates, slack=1)
        if rate is None:
            kind = "several_rates_fit" if base.fits_any(TWO_PLACES) else "no_rate_fits"
            raise UncertainRate(f"{charged.location}: {kind}")
        charged.line["tax_rate"] = _text(rate)


def _declared_for(charged: ChargedTaxes, digits: int, declared: Sequence[Decimal]) -> Decimal:
    """Return the stated rate, or the declared one with the same tax, as some tills compute rates from rounded tax."""
    rate = charged.rate or Decimal(0)
    if not rate or not charged.tax or rate in declared:
        return rate
    base = _taxed(charged, digits)
    return base.nearest(declared) or rate if base.fits(rate) else rate


def _with_declared_rate(
    tax: dict[str, Any], lines: Sequence[dict[str, Any]], digits: int, declared: Sequence[Decimal]
) -> dict[str, Any]:
    """Replace an undeclared rate of a receipt's tax, and of its lines, by the declared rate that gives the same tax."""
    if "rate" not in tax or "amount" not in tax or _number(tax["rate"]) in declared:
        return tax
    rate = _number(tax["rate"])
    bearing = [line for line in lines if _number(line.get("tax_rate", "0")) == rate]
    included = [line for line in bearing if line.get("tax_included", True) is not False]
    if not rate or not bearing or len(included) not in (0, len(bearing)):
        return tax
    amount, charged_tax = sum(map(_amount, bearing), Decimal(0)), _number(tax["amount"])
    unit = Decimal(1).scaleb(-digits)
    nearest = TaxedAmount(abs(amount), abs(charged_tax), bool(included), unit, unit / 2).nearest(declared)
    if nearest is None:
        return tax
    for line in bearing:
        line["tax_rate"] = _text(nearest)
    return tax | {"rate": _text(nearest)}


def _sums(rates: Iterable[Any]) -> set[Decimal]:
    """Return the rates and all their sums: a line may be taxed by the state, the county and the city."""
    values = [_number(rate) for rate in rates][:_MOST_SUMMED]
    return {sum(subset, Decimal(0)) for size in range(1, len(values) + 1) for subset in combinations(values, size)} - {
        0
    }


def _taxed(charged: ChargedTaxes, digits: int) -> TaxedAmount:
    """Return the line's amount and tax as positive numbers. Raises UncertainRate if no rate can give the tax."""
    amount, tax = charged.amount, charged.tax or Decimal(0)
    if amount < 0:
        amount, tax = -amount, -tax
    included = charged.line.get("tax_included", True) is not False
    if tax < 0 or tax > amount or (included and tax == amount):
        raise UncertainRate(f"{charged.location}: no_rate_fits")
    unit = Decimal(1).scaleb(-digits)
    return TaxedAmount(amount, tax, included, unit, unit * charged.number / 2)


class PrintedTax(NamedTuple):
    """A line's tax in minor units, by its rate and as printed; a printed tax with a fraction of a unit is ignored."""

    charged: ChargedTaxes
    by_rate: int
    printed: int

    @property
    def is_rounding(self) -> bool:
        """Return whether the two differ by no more than the rounding of the line's taxes."""
        return abs(self.printed - self.by_rate) <= self.charged.number


def _set_taxes(
    lines: Sequence[dict[str, Any]],
    stated: Sequence[ChargedTaxes],
    receipt_taxes: Sequence[dict[str, Any]],
    total: Any,
    digits: int,
) -> None:
    """Set `tax` on lines whose printed tax differs from their rate's, if the printed taxes add up to the receipt's.

    A source may print the whole receipt's tax on one line: if the rates give the receipt's tax, they win.
    """
    pairs = [_printed(charged, digits) for charged in stated if charged.tax is not None]
    different = [pair for pair in pairs if pair.printed != pair.by_rate]
    if not different:
        return
    other_tax = sum(_by_rate(line, digits) for line in _others(lines, pairs))
    by_rates, as_printed = (sum(getattr(pair, name) for pair in pairs) + other_tax for name in ("by_rate", "printed"))
    whole_tax = [tax["amount"] for tax in receipt_taxes if "amount" in tax]
    if total is not None:
        expected = _minor(_number(total), digits)
    else:
        expected = _minor(sum(map(_number, whole_tax), Decimal(0)), digits) if whole_tax else as_printed
    if all(pair.is_rounding for pair in different):
        if as_printed == expected:
            for pair in different:
                pair.charged.line["tax"] = minor_text(pair.printed, digits)
    elif as_printed == expected and abs(by_rates - expected) > len(pairs):
        for pair in different:
            _set_exempt(pair, digits)


def _set_exempt(pair: PrintedTax, digits: int) -> None:
    """Treat the line as exempt, wholly or in part. Raises UncertainRate if its tax is more than its rate gives."""
    if not pair.printed:
        pair.charged.line["tax_rate"] = "0"
    elif pair.is_rounding or (pair.printed * pair.by_rate > 0 and abs(pair.printed) < abs(pair.by_rate)):
        pair.charged.line["tax"] = minor_text(pair.printed, digits)
    else:
        raise UncertainRate(f"{pair.charged.location}: tax_is_more_than_the_rate_gives")


def _spread(lines: Sequence[dict[str, Any]], receipt_taxes: Sequence[dict[str, Any]], digits: int) -> None:
    """Spread each tax that the receipt prints for a rate over the lines with that rate, to the cent.

    If there is only one rate, the receipt check does this from the receipt's total.
    """
    printed: dict[Decimal, Decimal] = {}
    for tax in receipt_taxes:
        if "rate" not in tax or "amount" not in tax:
            return
        rate = _number(tax["rate"])
        printed[rate] = printed.get(rate, Decimal(0)) + _number(tax["amount"])
    if len(printed) < 2:
        return
    groups: dict[Decimal, list[dict[str, Any]]] = {rate: [] for rate in printed}
    for line in lines:
        rate = _number(line.get("tax_rate", "0"))
        if rate in groups and "tax" not in line:
            groups[rate].append(line)
        elif rate:
            return  # taxed at several rates, or at one that the receipt does not print
    for rate, group in groups.items():
        _share(_minor(printed[rate], digits), group, digits)


def _share(tax: int, group: Sequence[dict[str, Any]], digits: int) -> None:
    """Distribute the tax over the lines; the lines nearest to the next unit absorb the rounding difference."""
    taxes = [(line, _by_rate(line, digits)) for line in group]
    difference = tax - sum(by_rate for _, by_rate in taxes)
    if difference and abs(difference) <= len(group):
        step = 1 if difference > 0 else -1
        taxes.sort(key=lambda pair: step * _above(pair[0], pair[1], digits))
        for line, by_rate in taxes[: abs(difference)]:
            line["tax"] = minor_text(by_rate + step, digits)


def _above(line: dict[str, Any], tax: int, digits: int) -> Decimal:
    """Return how far the tax is above the exact result of the line's rate."""
    included = line.get("tax_included", True) is not False
    return tax - tax_of(Decimal(_minor(_amount(line), digits)), _number(line["tax_rate"]), included)


def _others(lines: Sequence[dict[str, Any]], pairs: Sequence[PrintedTax]) -> Iterator[dict[str, Any]]:
    of_pairs = {id(pair.charged.line) for pair in pairs}
    return (line for line in lines if id(line) not in of_pairs)


def _printed(charged: ChargedTaxes, digits: int) -> PrintedTax:
    included = charged.line.get("tax_included", True) is not False
    by_rate = _rounded_tax(charged.amount, charged.line["tax_rate"], included, digits)
    tax = _number(charged.tax)
    minor_units = EXACT.scaleb(tax, digits)
    return PrintedTax(charged, by_rate, int(minor_units) if minor_units == minor_units.to_integral_value() else by_rate)


def _by_rate(line: dict[str, Any], digits: int) -> int:
    """Return a line's tax in minor units as the receipt check computes it; 0 for a line that will fail validation."""
    try:
        rate, amount = text_of(line.get("tax_rate", "0")), _amount(line)
    except ConversionFailed:
        return 0
    return _rounded_tax(amount, rate, line.get("tax_included", True) is not False, digits)


@lru_cache(4096)  # a shop has few distinct prices
def _rounded_tax(amount: Decimal, rate: str, included: bool, digits: int) -> int:
    try:
        return taxed(_minor(amount, digits), rate_units(rate), included)[1]
    except CheckFailed:
        return 0


def _minor(amount: Decimal, digits: int) -> int:
    return round_half_up(EXACT.scaleb(amount, digits))


def _amount(line: dict[str, Any]) -> Decimal:
    if line.get("amount") is not None:
        return _number(line["amount"])
    discounts = sum((_number(discount.get("amount")) for discount in line.get("discounts", ())), Decimal(0))
    return EXACT.multiply(_number(line.get("quantity")), _number(line.get("unit_price"))) - discounts


def _total(taxes: list[dict[str, Any]], name: str) -> Decimal | None:
    """Return the sum of this field over all taxes, or None if any of them lacks it."""
    if any(name not in tax for tax in taxes):
        return None
    return sum((_number(tax[name]) for tax in taxes), Decimal(0))


def _number(value: Any) -> Decimal:
    try:
        return any_number(text_of(value))
    except NotMoney as fault:
        raise ConversionFailed(str(fault)) from None


def _text(rate: Decimal) -> str:
    return format(rate.quantize(_PLACES, ROUND_HALF_UP, _LONG).normalize(_LONG), "f")
