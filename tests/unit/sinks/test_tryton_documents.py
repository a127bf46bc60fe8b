"""Lines in Tryton come to the document's amounts, whatever the quantity."""

from decimal import ROUND_HALF_EVEN, Decimal

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sinks.tryton.documents import PricedLine, priced


class Euros:
    """A company's books."""

    currency, digits, price_digits, rounding = "EUR", 2, 4, "ROUNDING"

    def point(self, code: str) -> int | None:
        return None

    def method(self, code: str) -> int | None:
        return None


def rounded(quantity: Decimal, price: Decimal) -> Decimal:
    """As Tryton computes an amount: the quantity has been a float."""
    return (Decimal(str(float(quantity))) * price).quantize(Decimal("0.01"), ROUND_HALF_EVEN)


cents = st.integers(-10_000_000, 10_000_000).map(lambda n: Decimal(n) / 100)
quantities = st.one_of(st.integers(1, 100_000).map(Decimal), st.integers(1, 99_999).map(lambda n: Decimal(n) / 1000))


@example(quantity=Decimal(144), sign=1, net=Decimal("448.15"), tax=Decimal("31.37"))  # 143 come to half a cent
@settings(max_examples=1000)
@given(quantity=quantities, sign=st.sampled_from([1, -1]), net=cents, tax=cents)
def test_lines_come_to_the_amounts(quantity: Decimal, sign: int, net: Decimal, tax: Decimal) -> None:
    lines = priced(sign * quantity, net, net + tax, Euros())
    assert len(lines) <= 2
    assert sum(line.quantity for line in lines) == sign * quantity
    assert sum(rounded(line.quantity, line.list_price) for line in lines) == net
    assert sum(rounded(line.quantity, line.gross_price) for line in lines) == net + tax
    assert all(price == round(price, 4) for line in lines for price in line[1:])


def test_usual_line_is_one_with_the_price_of_the_till() -> None:
    assert priced(Decimal(144), Decimal("144.00"), Decimal("144.00"), Euros()) == [PricedLine(Decimal(144), 1, 1)]


def test_nothing_sold_for_nothing_is_no_line() -> None:
    assert priced(Decimal(0), Decimal(0), Decimal(0), Euros()) == []
