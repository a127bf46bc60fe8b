"""`TaxedAmount`: find the tax rates that give a tax on an amount to the cent, and the round ones among them."""

from collections.abc import Iterable, Sequence
from decimal import ROUND_CEILING, Context, Decimal
from functools import lru_cache
from typing import NamedTuple

#: Steps between rates: any rate with two places.
TWO_PLACES = (Decimal("0.01"),)
#: Tenths, quarters and eighths are multiples of this: rates that are not whole are made of them.
_ROUND_STEPS = (Decimal("0.025"),)
_WHOLE = (Decimal(1),)
_HUNDRED = Decimal(100)
_WIDE = Context(prec=60)


def tax_of(amount: Decimal, rate: Decimal, included: bool) -> Decimal:
    """Return the tax on an amount, not rounded; with `included`, the amount contains the tax."""
    return _WIDE.divide(amount * rate, _HUNDRED + rate if included else _HUNDRED)


class TaxedAmount(NamedTuple):
    """A line's amount and its tax, both positive; `half` is how far the tax may be from a rate's exact result."""

    amount: Decimal
    tax: Decimal
    included: bool
    unit: Decimal
    half: Decimal

    def fits(self, rate: Decimal, slack: int = 0) -> bool:
        """Return whether the rate gives the tax, rounded half up, within `slack` minor units."""
        tolerance, deviation = self.half + slack * self.unit, tax_of(self.amount, rate, self.included) - self.tax
        return -tolerance < deviation < tolerance or deviation == (
            tolerance if self.included else -tolerance
        )  # of halves, an included tax rounds down

    def nearest(self, rates: Iterable[Decimal], slack: int = 0) -> Decimal | None:
        """Return the rate that fits best, if any fits."""
        fitting = [rate for rate in rates if rate and self.fits(rate, slack)]
        return min(fitting, key=lambda rate: abs(tax_of(self.amount, rate, self.included) - self.tax), default=None)

    def roundest(self) -> Decimal | None:
        """Return the only whole rate that fits; if no whole rate does, the only multiple of 0.025."""
        return self.only(_WHOLE) if self.fits_any(_WHOLE) else self.only(_ROUND_STEPS)

    def fits_any(self, steps: Sequence[Decimal]) -> bool:
        """Return whether a multiple of one of the steps fits."""
        return bool(_multiples(self, steps))

    def only(self, steps: Sequence[Decimal]) -> Decimal | None:
        """Return the multiple of the steps that fits; None if several do, or none."""
        fitting = _multiples(self, steps)
        return next(iter(fitting)) if len(fitting) == 1 else None


@lru_cache(4096)  # a shop has few distinct prices
def _multiples(base: TaxedAmount, steps: Sequence[Decimal]) -> frozenset[Decimal]:
    """Return the lowest multiples of each step that fit, up to 100 %: all of them if no more than two fit."""
    min_tax = (base.tax - base.half) * _HUNDRED
    net = base.amount - base.tax + base.half if base.included else base.amount
    min_rate = _WIDE.divide(min_tax, net) if min_tax > 0 else Decimal(0)
    rates = set()
    for step in steps:
        rate = _WIDE.divide(min_rate, step).to_integral_value(ROUND_CEILING) * step or step
        for _ in range(3):  # the first may miss by half a unit; three tries find two that fit
            if rate <= _HUNDRED and base.fits(rate):
                rates.add(rate)
            rate += step
    return frozenset(rates)
