"""`TaxedAmount`: which tax rates give a tax of an amount to the cent, and which of them is a round one."""

from collections.abc import Iterable, Sequence
from decimal import ROUND_CEILING, Context, Decimal
from functools import lru_cache
from typing import NamedTuple

#: Steps of rates: all of two places.
TWO_PLACES = (Decimal("0.01"),)
#: Of this are tenths, quarters and eighths: what rates are made of that are not whole.
_ROUND_STEPS = (Decimal("0.025"),)
_WHOLE = (Decimal(1),)
_HUNDRED = Decimal(100)
_WIDE = Context(prec=60)


def tax_of(amount: Decimal, rate: Decimal, included: bool) -> Decimal:
    """The tax of an amount, not rounded; with `included` it is contained in the amount."""
    return _WIDE.divide(amount * rate, _HUNDRED + rate if included else _HUNDRED)


class TaxedAmount(NamedTuple):
    """A line's amount and its tax, both positive, and how far the tax may be from what a rate gives exactly."""

    amount: Decimal
    tax: Decimal
    included: bool
    unit: Decimal
    half: Decimal

    def fits(self, rate: Decimal, slack: int = 0) -> bool:
        """Whether the rate gives the tax, rounded half up, or up to `slack` minor units more or less."""
        tolerance, deviation = self.half + slack * self.unit, tax_of(self.amount, rate, self.included) - self.tax
        return -tolerance < deviation < tolerance or deviation == (
            tolerance if self.included else -tolerance
        )  # of halves, the net is upper

    def nearest(self, rates: Iterable[Decimal], slack: int = 0) -> Decimal | None:
        """Of the rates that fit the one nearest to what the amounts say."""
        fitting = [rate for rate in rates if rate and self.fits(rate, slack)]
        return min(fitting, key=lambda rate: abs(tax_of(self.amount, rate, self.included) - self.tax), default=None)

    def roundest(self) -> Decimal | None:
        """The only whole rate that fits; where none does, the only multiple of 0.025 (tenths, quarters, eighths)."""
        return self.only(_WHOLE) if self.fits_any(_WHOLE) else self.only(_ROUND_STEPS)

    def fits_any(self, steps: Sequence[Decimal]) -> bool:
        """Whether a multiple of one of the steps fits."""
        return bool(_multiples(self, steps))

    def only(self, steps: Sequence[Decimal]) -> Decimal | None:
        """The one multiple of the steps that fits; None if there are more, or none."""
        fitting = _multiples(self, steps)
        return next(iter(fitting)) if len(fitting) == 1 else None


@lru_cache(4096)  # a shop's prices are few
def _multiples(base: TaxedAmount, steps: Sequence[Decimal]) -> frozenset[Decimal]:
    """The first multiples of each of the steps that fit, up to 100: all, if there are no more than two."""
    min_tax = (base.tax - base.half) * _HUNDRED
    net = base.amount - base.tax + base.half if base.included else base.amount
    min_rate = _WIDE.divide(min_tax, net) if min_tax > 0 else Decimal(0)
    rates = set()
    for step in steps:
        rate = _WIDE.divide(min_rate, step).to_integral_value(ROUND_CEILING) * step or step
        for _ in range(3):  # the first may be half a unit off, and three tell that there are two
            if rate <= _HUNDRED and base.fits(rate):
                rates.add(rate)
            rate += step
    return frozenset(rates)
