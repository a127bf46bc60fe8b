"""Exact money: every number of a text comes through whole, or is refused with the kind of fault."""

from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.money import (
    LONGEST,
    NotMoney,
    any_number,
    divide_half_up,
    minor_digits,
    minor_text,
    parse_minor,
    round_half_up,
    to_minor,
)

minors = st.integers(-(10**12) + 1, 10**12 - 1)


@pytest.mark.parametrize(("currency", "digits"), [("EUR", 2), ("JPY", 0), ("BHD", 3), ("CLF", 4), ("HUF", 2)])
def test_currency_has_its_iso_4217_places(currency: str, digits: int) -> None:
    assert minor_digits(currency) == digits


@pytest.mark.parametrize("currency", ["XAU", "XXX", "EUX", "eur", "", "EURO"])
def test_what_is_no_money_has_no_places(currency: str) -> None:
    assert minor_digits(currency) is None


@given(minors, st.integers(0, 4))
def test_minor_units_as_text_are_read_as_they_were(minor: int, digits: int) -> None:
    text = minor_text(minor, digits)
    assert parse_minor(text, digits) == minor
    assert Decimal(text) == Decimal(minor).scaleb(-digits)
    assert len(text.partition(".")[2]) == digits
    assert text.lstrip("-")[0].isdigit()


@pytest.mark.parametrize(
    ("minor", "digits", "text"),
    [(5, 2, "0.05"), (-5, 2, "-0.05"), (0, 2, "0.00"), (1234, 2, "12.34"), (-7, 0, "-7"), (0, 0, "0"), (1, 3, "0.001")],
)
def test_text_of_minor_units(minor: int, digits: int, text: str) -> None:
    assert minor_text(minor, digits) == text


@given(minors, st.integers(0, 6), st.integers(0, 4))
def test_amount_is_read_exactly_or_refused(number: int, places: int, digits: int) -> None:
    amount = Decimal(number).scaleb(-places)
    scaled = amount.scaleb(digits)
    reads: list[Callable[[], int]] = [
        lambda: parse_minor(format(amount, "f"), digits),
        lambda: to_minor(amount, 10**digits),
    ]
    for read in reads:
        if scaled == int(scaled):
            assert read() == int(scaled)
        else:
            with pytest.raises(NotMoney, match=r"^too_many_places$"):
                read()


@pytest.mark.parametrize(
    ("text", "digits", "minor"),
    [
        ("3", 2, 300), ("3.5", 2, 350), ("3.500", 2, 350), ("1e2", 0, 100), ("1e2", 2, 10_000), ("1e-2", 2, 1),
        ("1E+2", 2, 10_000), ("999999999999.99", 2, 10**14 - 1), ("-0.00", 2, 0),
        ("-999999999999.99", 2, 1 - 10**14), ("0." + "0" * 60, 2, 0), ("999999999999", 0, 10**12 - 1),
    ],
)  # fmt: skip
def test_text_of_any_form_is_read(text: str, digits: int, minor: int) -> None:
    assert parse_minor(text, digits) == minor


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("1000000000000.00", "out_of_range"), ("-1000000000000.00", "out_of_range"), ("1e12", "out_of_range"),
        ("1e9999999999999999999", "out_of_range"), ("0.001", "too_many_places"), ("1e-9", "too_many_places"),
        ("3." + "0" * 60 + "1", "too_many_places"), ("-0.005", "too_many_places"),
    ],
)  # fmt: skip
def test_amount_that_does_not_fit_is_refused(text: str, fault: str) -> None:
    with pytest.raises(NotMoney, match=f"^{fault}$"):
        parse_minor(text, 2)


@pytest.mark.parametrize(
    "text",
    ["1e-20", "-1e-20", "9e20", "-9.99e20", "0." + "1" * 20, "0", "-12.5", "12345678.90123456789012345678"],
)
def test_number_of_a_source_is_taken_whole(text: str) -> None:
    assert any_number(text) == Decimal(text)


@pytest.mark.parametrize("text", ["1" + "." + "1" * 28, "1e-21", "1e21", "-1e21", "0e-21", "9" * 29, "1e999999"])
def test_number_beyond_any_receipt_is_out_of_range(text: str) -> None:
    with pytest.raises(NotMoney, match=r"^out_of_range$"):
        any_number(text)


def test_text_longer_than_any_number_is_refused_whatever_it_says() -> None:
    assert any_number("1".zfill(LONGEST)) == 1
    with pytest.raises(NotMoney, match=r"^out_of_range$"):
        any_number("1".zfill(LONGEST + 1))


def test_number_of_28_digits_is_taken_and_of_29_is_not() -> None:
    assert any_number("1" * 20 + "." + "1" * 8) == Decimal("1" * 20 + "." + "1" * 8)
    with pytest.raises(NotMoney, match=r"^out_of_range$"):
        any_number("1" * 20 + "." + "1" * 9)


@pytest.mark.parametrize("text", ["", "x", "NaN", "sNaN", "Infinity", "-Infinity", "1,5", "1e99999999999999999999"])
def test_text_that_is_no_number_is_said_to_be_none(text: str) -> None:
    with pytest.raises(NotMoney, match=r"^not_a_number$"):
        any_number(text)


def half_up(number: Fraction) -> int:
    """Halves away from zero, the plain way."""
    return floor(abs(number) + Fraction(1, 2)) * (1 if number >= 0 else -1)


@given(st.integers(-1_000, 1_000) | st.integers(), st.integers(1, 50) | st.integers(1))
def test_division_rounds_half_away_from_zero(numerator: int, denominator: int) -> None:
    assert divide_half_up(numerator, denominator) == half_up(Fraction(numerator, denominator))


@given(st.decimals(-100, 100, places=1) | st.decimals(-(10**9), 10**9, places=3))
def test_rounding_is_half_away_from_zero(amount: Decimal) -> None:
    assert round_half_up(amount) == half_up(Fraction(amount)) == int(amount.quantize(Decimal(1), ROUND_HALF_UP))


def test_what_is_remembered_of_currencies_is_bounded_whatever_sources_say() -> None:
    for number in range(300):
        minor_digits(f"X{number}")
    assert minor_digits.cache_info().currsize < 300
