"""Summary statistics of a field's numbers."""

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal


@dataclass
class NumberRange:
    """Minimum, maximum, counts of negatives and zeros, and the most decimal places of some numbers."""

    low: Decimal | None = None
    high: Decimal | None = None
    negative: int = 0
    zero: int = 0
    places: int = 0

    def add(self, value: Decimal, count: int) -> None:
        """Add `value`, which occurs `count` times."""
        self.low = value if self.low is None else min(self.low, value)
        self.high = value if self.high is None else max(self.high, value)
        self.negative += count * (value < 0)
        self.zero += count * (value == 0)
        exponent = value.as_tuple().exponent
        self.places = max(self.places, -exponent if isinstance(exponent, int) else 0)

    @classmethod
    def of(cls, parts: "list[NumberRange]") -> "NumberRange":
        """Merge several ranges into one."""
        lows = [part.low for part in parts if part.low is not None]
        highs = [part.high for part in parts if part.high is not None]
        return cls(
            min(lows, default=None),
            max(highs, default=None),
            sum(part.negative for part in parts),
            sum(part.zero for part in parts),
            max((part.places for part in parts), default=0),
        )


def median(numbers: Counter[Decimal]) -> Decimal | None:
    """Return the median of numbers with their counts, or None for no numbers."""
    half, passed = numbers.total() / 2, 0
    for value in sorted(numbers):
        passed += numbers[value]
        if passed >= half:
            return value
    return None
