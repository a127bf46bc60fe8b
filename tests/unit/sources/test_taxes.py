"""The rate of a line, from the taxes that a source states."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.money import divide_half_up
from streams.sources.convert import Unconvertible
from streams.sources.taxes import rate_of


def line(**fields: Any) -> dict[str, Any]:
    return {"sku": "A", "quantity": "1", "unit_price": "100.00", "tax_included": False} | fields


def test_line_without_taxes_has_rate_zero() -> None:
    assert rate_of(line(), [], 2) == "0"


def test_rates_are_added() -> None:
    assert rate_of(line(), [{"rate": "6.00"}, {"rate": "1.25"}], 2) == "7.25"


def test_rate_that_gives_what_was_charged_is_kept() -> None:
    assert rate_of(line(unit_price="0.99"), [{"rate": "7.25", "amount": "0.07"}], 2) == "7.25"


def test_each_of_two_taxes_may_be_rounded() -> None:
    taxes = [{"rate": "6.25", "amount": "0.01"}, {"rate": "2.5", "amount": "0.01"}]
    assert rate_of(line(unit_price="0.20"), taxes, 2) == "8.75"


def test_tax_that_was_not_charged_has_rate_zero() -> None:
    assert rate_of(line(), [{"rate": "6.25", "amount": "0.00"}], 2) == "0"


def test_amounts_tell_the_rate_where_the_rate_does_not_give_them() -> None:
    assert rate_of(line(), [{"rate": "8.875", "amount": "0.89"}], 2) == "0.89"


def test_amounts_alone_tell_the_rate() -> None:
    assert rate_of(line(unit_price="119.00", tax_included=True), [{"amount": "19.00"}], 2) == "19"


def test_tax_is_included_where_the_line_does_not_say() -> None:
    whole = line(unit_price="119.00")
    del whole["tax_included"]
    assert rate_of(whole, [{"rate": "19", "amount": "19.00"}], 2) == "19"


def test_base_is_what_the_line_costs_after_its_discounts() -> None:
    discounted = line(quantity="2", discounts=[{"amount": "100.00"}])
    assert rate_of(discounted, [{"amount": "7.00"}], 2) == "7"
    assert rate_of(line(quantity="2", amount="100.00"), [{"amount": "7.00"}], 2) == "7"


def test_minor_unit_is_the_currency_s() -> None:
    assert rate_of(line(unit_price="104"), [{"rate": "10", "amount": "11"}], 0) == "10"
    assert rate_of(line(unit_price="104"), [{"rate": "10", "amount": "11"}], 2) == "10.5769"


def test_free_line_has_no_rate_to_derive() -> None:
    assert rate_of(line(unit_price="0.00"), [{"rate": "7", "amount": "0.00"}], 2) == "7"
    assert rate_of(line(unit_price="0.00"), [{"amount": "5.00"}], 2) == "0"


def test_what_is_no_number_is_told() -> None:
    with pytest.raises(Unconvertible, match="not_a_number"):
        rate_of(line(), [{"amount": "example string"}], 2)


@given(st.integers(1, 10**8), st.integers(0, 3000), st.booleans())
def test_rate_gives_back_what_was_charged(cents: int, hundredths: int, included: bool) -> None:
    tax = divide_half_up(cents * hundredths, 10_000 + hundredths if included else 10_000)
    amount, rate = str(Decimal(cents) / 100), str(Decimal(hundredths) / 100)
    said = line(unit_price=amount, tax_included=included)
    assert Decimal(rate_of(said, [{"rate": rate, "amount": str(Decimal(tax) / 100)}], 2)) == Decimal(rate)
