"""The rate and the tax of lines, from the taxes that a source states."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.money import divide_half_up
from streams.checks import taxed
from streams.sources.convert import ConversionFailed
from streams.sources.taxes import UncertainRate, charged_taxes, settle_taxes

Taxes = list[dict[str, Any]]


def line(price: str = "100.00", **fields: Any) -> dict[str, Any]:
    return {"sku": "A", "quantity": "1", "unit_price": price, "tax_included": False} | fields


def settled(
    *pairs: tuple[dict[str, Any], Taxes | None],
    whole: Taxes = (),  # type: ignore[assignment]  # nothing is changed in it
    total: str | None = None,
    digits: int = 2,
    declared: tuple[str, ...] = (),
) -> list[tuple[str, str | None]]:
    """(rate, printed tax) of each line; None as its taxes: the line has its rate already."""
    lines = [line for line, _ in pairs]
    stated = [charged_taxes(place, line, taxes) for place, (line, taxes) in enumerate(pairs) if taxes is not None]
    settle_taxes(lines, stated, whole, total, digits, [Decimal(rate) for rate in declared])
    return [(line["tax_rate"], line.get("tax")) for line in lines]


def rate(one: dict[str, Any], taxes: Taxes, **more: Any) -> str:
    return settled((one, taxes), **more)[0][0]


def tax(amount: str, rate: str | None = None) -> dict[str, Any]:
    return {"amount": amount} if rate is None else {"amount": amount, "rate": rate}


def test_line_without_taxes_has_rate_zero() -> None:
    assert rate(line(), []) == "0"


def test_rates_are_added() -> None:
    assert rate(line(), [{"rate": "6.00"}, {"rate": "1.25"}]) == "7.25"


def test_rate_that_gives_what_was_charged_is_kept() -> None:
    assert rate(line("0.99"), [tax("0.07", "7.25")]) == "7.25"


def test_taxes_of_a_line_each_rounded_are_its_printed_tax() -> None:
    taxes = [tax("0.02", "6.25"), tax("0.01", "2.5")]  # 8.75 % of 0.26 is 0.02
    assert settled((line("0.26"), taxes), total="0.03") == [("8.75", "0.03")]


def test_stated_rate_wins_if_the_receipts_tax_is_printed_on_one_line() -> None:
    lines = [line("299.99"), line("400.01"), line("300.00")]
    taxes = [[tax("50.00", "5")], [tax("0.00", "5")], [tax("0.00", "5")]]
    assert settled(*zip(lines, taxes, strict=True), total="50.00") == [("5", None)] * 3


def test_line_that_was_exempt_has_rate_zero() -> None:
    lines = [(line("10.00"), [tax("0.63", "6.25")]), (line("60.00"), [tax("0.00", "6.25")])]
    assert settled(*lines, total="0.63") == [("6.25", None), ("0", None)]


def test_line_of_which_a_part_is_taxed_keeps_its_stated_rate_and_its_printed_tax() -> None:
    assert settled((line("120.00"), [tax("0.89", "8.875")]), total="0.89") == [("8.875", "0.89")]


def test_more_tax_than_the_stated_rate_gives_is_uncertain() -> None:
    with pytest.raises(UncertainRate, match=r"lines\.0\.tax_rate: tax_is_more_than_the_rate_gives"):
        settled((line("60.00"), [tax("10.00", "5")]), total="10.00")


@pytest.mark.parametrize(
    ("amount", "charged_tax"), [("30.00", "3.91"), ("20.00", "2.61"), ("15.00", "1.96"), ("-15.00", "-1.96")]
)
def test_amounts_alone_tell_the_only_whole_rate_that_gives_them(amount: str, charged_tax: str) -> None:
    assert rate(line(amount, tax_included=True), [tax(charged_tax)]) == "15"


@pytest.mark.parametrize(
    ("amount", "charged_tax", "expected"),
    [("100.00", "8.25", "8.25"), ("100.00", "7.70", "7.7"), ("100.00", "8.88", "8.875"), ("250.00", "16.56", "6.625")],
)
def test_amounts_alone_tell_the_only_tenth_quarter_or_eighth(amount: str, charged_tax: str, expected: str) -> None:
    assert rate(line(amount), [tax(charged_tax)]) == expected


@pytest.mark.parametrize(
    ("amount", "charged_tax"), [("10.25", "0.91"), ("11.20", "0.99"), ("9.95", "0.88"), ("12.00", "0.80")]
)
def test_rate_between_round_ones_is_never_guessed_from_small_amounts(amount: str, charged_tax: str) -> None:
    with pytest.raises(UncertainRate, match=r"lines\.0\.tax_rate: several_rates_fit"):
        rate(line(amount), [tax(charged_tax)])


def test_tax_is_included_where_the_line_does_not_say() -> None:
    whole = line("119.00")
    del whole["tax_included"]
    assert rate(whole, [tax("19.00", "19")]) == "19"


def test_base_is_what_the_line_costs_after_its_discounts() -> None:
    assert rate(line(quantity="2", discounts=[{"amount": "100.00"}]), [tax("7.00")]) == "7"
    assert rate(line(quantity="2", amount="100.00"), [tax("7.00")]) == "7"


@pytest.mark.parametrize(("amount", "charged_tax"), [("0.10", "0.02"), ("10.00", "0.73"), ("0.50", "0.09")])
def test_cents_that_fit_several_rates_are_uncertain(amount: str, charged_tax: str) -> None:
    with pytest.raises(UncertainRate, match=r"lines\.0\.tax_rate: several_rates_fit"):
        rate(line(amount), [tax(charged_tax)])


def test_small_amount_has_a_rate_that_the_receipt_states() -> None:
    assert settled((line(), [tax("19.00", "19")]), (line("0.10"), [tax("0.02")]))[1] == ("19", None)
    assert rate(line("0.10"), [tax("0.02")], whole=[{"rate": "7"}, {"rate": "19"}]) == "19"


def test_small_amount_has_the_sum_of_the_rates_that_the_receipt_states() -> None:
    assert rate(line("10.00"), [tax("0.88")], whole=[{"rate": "7.25"}, {"rate": "1.5"}]) == "8.75"


def test_small_amount_has_a_declared_rate() -> None:
    assert rate(line("0.10"), [tax("0.02")], declared=("7", "19")) == "19"


def test_small_amount_has_the_rate_that_was_found_for_a_larger_one() -> None:
    assert settled((line("0.10"), [tax("0.02")]), (line(), [tax("20.00")])) == [("20", None), ("20", None)]


def test_cent_that_was_spread_does_not_make_another_rate() -> None:
    lines = [(line("100.00"), [tax("15.00")]), (line("200.00"), [tax("29.99")])]
    assert settled(*lines, total="44.99") == [("15", None), ("15", "29.99")]
    assert rate(line("200.00"), [tax("29.99")], declared=("15",)) == "15"


def test_rate_that_is_not_declared_is_uncertain() -> None:
    with pytest.raises(UncertainRate, match=r"lines\.0\.tax_rate: not_a_declared_rate"):
        rate(line(), [tax("20.00")], declared=("7", "19"))


def test_stated_rate_wins_over_the_declared_ones() -> None:
    assert rate(line(), [tax("20.00", "20")], declared=("7", "19")) == "20"


def test_rate_that_a_till_computed_from_its_cents_is_the_declared_one() -> None:
    assert rate(line("3.85"), [tax("0.39", "10.13")], declared=("10.1",)) == "10.1"


def test_rate_that_a_till_computed_for_the_whole_receipt_is_the_declared_one() -> None:
    lines = [(line("1.75"), [{"rate": "10.13"}]), (line("2.10"), [{"rate": "10.13"}]), (line("9.00"), [])]
    shared = settled(*lines, whole=[tax("0.39", "10.13")], declared=("10.1", "6.5"))
    assert [rate for rate, _ in shared] == ["10.1", "10.1", "0"]


def test_tax_that_was_not_charged_has_rate_zero() -> None:
    assert rate(line(), [tax("0.00")]) == "0"


@pytest.mark.parametrize(
    ("amount", "charged_tax", "included"),
    [("0.00", "5.00", False), ("5.00", "5.00", True), ("5.00", "-1.00", False), ("5.00", "6.00", False)],
)
def test_tax_that_no_rate_gives_is_uncertain(amount: str, charged_tax: str, included: bool) -> None:
    with pytest.raises(UncertainRate, match=r"lines\.0\.tax_rate: no_rate_fits"):
        rate(line(amount, tax_included=included), [tax(charged_tax)])


def test_minor_unit_is_the_currency_s() -> None:
    assert rate(line("104"), [tax("11", "10")], digits=0) == "10"
    assert settled((line("104"), [tax("10")]), (line("1000"), [tax("100")]), digits=0)[0] == ("10", None)


def test_value_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ConversionFailed, match="not_a_number"):
        rate(line(), [tax("example string")])


def test_rate_of_one_tax_and_amount_of_another_are_not_combined() -> None:
    with pytest.raises(ConversionFailed, match="rate_or_amount_missing"):
        rate(line(), [{"rate": "6"}, tax("1.50")])


def test_empty_tax_is_ignored() -> None:
    assert rate(line(), [{}]) == "0"


def test_taxes_of_the_receipt_are_shared_by_the_lines_of_their_rate() -> None:
    low, high = [{"rate": "7"}], [{"rate": "19"}]
    lines = [(line("0.50"), low), (line("0.50"), low), (line("0.50"), high), (line("0.50"), high)]
    shared = settled(*lines, whole=[tax("0.07", "7"), tax("0.19", "19")])
    assert shared == [("7", "0.03"), ("7", None), ("19", "0.09"), ("19", None)]


rates = st.integers(1, 3000)


@given(st.integers(1, 10**8), rates, st.booleans())
def test_stated_rate_is_kept_with_what_it_charges(cents: int, hundredths: int, included: bool) -> None:
    charged_tax = divide_half_up(cents * hundredths, 10_000 + hundredths if included else 10_000)
    amount, percent = str(Decimal(cents) / 100), str(Decimal(hundredths) / 100)
    said = line(amount, tax_included=included)
    assert Decimal(rate(said, [tax(str(Decimal(charged_tax) / 100), percent)])) == Decimal(percent)


@given(st.integers(1, 10**7), rates, st.booleans(), st.sets(rates, max_size=3))
def test_derived_rate_gives_the_printed_tax_or_none_is_taken(
    cents: int, hundredths: int, included: bool, declared: set[int]
) -> None:
    charged_tax = taxed(cents, hundredths * 100, included)[1]
    percents = tuple(str(Decimal(each) / 100) for each in declared | {hundredths}) if declared else ()
    said = line(str(Decimal(cents) / 100), tax_included=included)
    try:
        derived = Decimal(rate(said, [tax(str(Decimal(charged_tax) / 100))], declared=percents))
    except UncertainRate:
        assert not declared
        return
    assert declared or derived % Decimal("0.025") == 0
    assert taxed(cents, int(derived * 10_000), included)[1] == charged_tax
    assert not declared or not charged_tax or derived in map(Decimal, percents)
