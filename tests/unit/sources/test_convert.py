"""Conversions: well-formed values come out exactly; others are refused, and the error never contains the value."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.contract import ConversionStep, FieldRule
from streams.sources.convert import ConversionFailed, StepError, converter


@dataclass
class StepContext:
    currency: str | None = "EUR"
    zone: ZoneInfo | None = None


BERLIN = StepContext(zone=ZoneInfo("Europe/Berlin"))


def convert(step: Any, value: Any, context: StepContext = BERLIN) -> Any:
    for one in FieldRule.model_validate({"path": "x", "as": step}).steps:
        value = converter(one)(value, context)
    return value


COMMA = {"decimal": {"point": ",", "thousands": "."}}
DOUBLE = {"decimal": {"point": ".", "thousands": ","}}
DOLLARS = {"decimal": {"point": ".", "thousands": ",", "signs": ["$", "US$", "USD"], "brackets": "negative"}}
EUROS = {"decimal": {"point": ",", "thousands": " ", "signs": ["€"]}}


@pytest.mark.parametrize(
    ("step", "value", "result"),
    [
        ("decimal", "12.30", "12.30"),
        ("decimal", " -0.5 ", "-0.5"),
        ("decimal", "12.30-", "-12.30"),
        ("decimal", 7, "7"),
        (COMMA, "1.234.567,89", "1234567.89"),
        (COMMA, "12,5", "12.5"),
        (COMMA, "1234", "1234"),
        (DOUBLE, "1,234.5", "1234.5"),
        ({"decimal": {"point": ",", "thousands": " "}}, "1 234,5", "1234.5"),
        ({"decimal": {"point": ",", "thousands": " "}}, "1\u202f234\u00a0567,5", "1234567.5"),
        ({"decimal": {"point": ","}}, ",5", "0.5"),
        (DOLLARS, "$1,234.50", "1234.50"),
        (DOLLARS, "-$5.00", "-5.00"),
        (DOLLARS, "US$ -5.00", "-5.00"),
        (DOLLARS, "5.00 USD", "5.00"),
        (DOLLARS, "($1,005.00)", "-1005.00"),
        (DOLLARS, " (5) ", "-5"),
        (DOLLARS, "7", "7"),
        (DOLLARS, Decimal("7.50"), "7.50"),
        (EUROS, "1\u202f234,50\u00a0€", "1234.50"),
        (EUROS, "€ 2,50-", "-2.50"),
        ({"decimal": {"signs": ["Rs."]}}, "Rs.2.50", "2.50"),
        (EUROS, "2,50 €-", "-2.50"),
        ("minor_units", 1999, "19.99"),
        ("minor_units", "-5", "-0.05"),
        ({"minor_units": "JPY"}, 250, "250"),
        ({"minor_units": "BHD"}, 1234, "1.234"),
        ({"multiply": "0.001"}, "1500", "1.5"),
        ({"codes": {"table": {"1": "cash", "2": "card"}}}, 2, "card"),
        ({"codes": {"table": {"true": "yes"}}}, True, "yes"),
        ({"codes": {"table": {"1": "cash"}, "otherwise": "other"}}, "9", "other"),
        ("boolean", "Yes", True),
        ("boolean", 0, False),
        ({"boolean": {"yes": ["J"], "no": ["N"]}}, "j", True),
        ("trim", "  e\u0301 ", "é"),
        ("half_width", "\uff11\uff12\u3000\uff21\uff0e", "12 A."),
        ("gtin", "4006381333931", "4006381333931"),
        ({"gtin": "to_14"}, "96385074", "00000096385074"),
        ("gtin", "36000291452", "036000291452"),
        ("gtin", 36000291452, "036000291452"),
        ("gtin", "36000291452.0", "036000291452"),
        ({"gtin": "to_14"}, "36000291452", "00036000291452"),
        ("gtin", "6000000002", "006000000002"),
        ("gtin", "1234565", "01234565"),
        ("gtin", '="4006381333931"', "4006381333931"),
        ("gtin", "'036000291452", "036000291452"),
        ({"codes": {"table": {"017": "cash"}}}, '="017"', "cash"),
        ("negate", "1.50", "-1.50"),
        ("absolute", "-1.50", "1.50"),
        (["half_width", COMMA, "negate"], "\uff11\uff0c\uff15", "-1.5"),
    ],
)
def test_converted(step: Any, value: Any, result: Any) -> None:
    assert convert(step, value) == result


@pytest.mark.parametrize(
    ("step", "value", "kind"),
    [
        ("decimal", "1,5", "not_a_decimal"),
        ("decimal", "1.2.3", "not_a_decimal"),
        ("decimal", "-1-", "not_a_decimal"),
        ("decimal", "", "not_a_decimal"),
        ("decimal", "1e5", "not_a_decimal"),
        ("decimal", "\u0663", "not_a_decimal"),
        ("decimal", [], "not_a_text_or_number"),
        ("decimal", True, "not_a_text_or_number"),
        (COMMA, "12.50", "not_a_decimal"),
        (COMMA, "1.23.456", "not_a_decimal"),
        ("decimal", "$5", "not_a_decimal"),
        ("decimal", "(5)", "not_a_decimal"),
        (DOLLARS, "(-5)", "not_a_decimal"),
        (DOLLARS, "(5", "not_a_decimal"),
        (DOLLARS, "()", "not_a_decimal"),
        (DOLLARS, "$", "not_a_decimal"),
        (DOLLARS, "$5$", "not_a_decimal"),
        (DOLLARS, "€5", "not_a_decimal"),
        (DOLLARS, " " * 200_000 + "$x", "not_a_decimal"),
        ("minor_units", "19.99", "not_whole"),
        ("minor_units", "NaN", "not_a_number"),
        ("minor_units", "1e999999", "out_of_range"),
        ({"codes": {"table": {"1": "cash"}}}, "9", "unknown_code"),
        ("boolean", "perhaps", "not_a_boolean"),
        ("gtin", "4006381333932", "wrong_check_digit"),
        ("gtin", "123", "not_a_gtin"),
        ("gtin", "36000291453", "not_a_gtin"),
        ("gtin", "0306406152", "not_a_gtin"),  # an ISBN of ten digits
        ("gtin", "4,00638E+12", "damaged_by_spreadsheet"),
        ("gtin", "4.00638e12", "damaged_by_spreadsheet"),
        ({"codes": {"table": {"1": "cash"}, "otherwise": "other"}}, "1.23457E+15", "damaged_by_spreadsheet"),
        ("time", "yesterday", "not_a_time"),
        ({"time": {"formats": "epoch_s"}}, "1e30", "not_a_time"),
        ("time", "0001-01-01T00:00:00", "time_out_of_range"),
        ({"time": {"formats": "excel"}}, "59", "not_a_time"),
        ({"time": {"formats": "excel"}}, "3000000", "not_a_time"),
        ({"time": {"formats": ["%d/%m/%Y", "%m/%d/%Y"]}}, "03/04/2026", "ambiguous_time"),
        ({"time": {"formats": "%d/%m/%Y"}}, "31/02/2026", "not_a_time"),
    ],
)
def test_not_convertible(step: Any, value: Any, kind: str) -> None:
    with pytest.raises(ConversionFailed, match=f"^{kind}$"):
        convert(step, value)


def test_minor_units_of_an_unknown_currency_are_refused() -> None:
    with pytest.raises(ConversionFailed, match="unknown_currency"):
        convert("minor_units", 1, StepContext(currency=None))


def time(formats: Any, **more: Any) -> dict[str, Any]:
    return {"time": {"formats": formats} | more}


@pytest.mark.parametrize(
    ("step", "value", "result"),
    [
        ("time", "2026-03-02T10:00:00Z", "2026-03-02T10:00:00+00:00"),
        ("time", "2026-03-02 10:00:00", "2026-03-02T10:00:00+01:00"),
        (time("epoch_s"), 1772445600, "2026-03-02T10:00:00+00:00"),
        (time("epoch_ms"), "1772445600123", "2026-03-02T10:00:00.123000+00:00"),
        (time("%d/%m/%Y %H:%M"), "02/03/2026 10:00", "2026-03-02T10:00:00+01:00"),
        (time(["%d.%m.%Y %H:%M", "iso"]), "2026-03-02T10:00", "2026-03-02T10:00:00+01:00"),
        (time("iso", zone="Asia/Tokyo"), "2026-03-02T10:00:00", "2026-03-02T10:00:00+09:00"),
        (time("%m/%d/%y %I:%M %p"), "3/10/26 5:04 PM", "2026-03-10T17:04:00+01:00"),
        (time("%m/%d/%y %I:%M %p"), "3/10/26 12:15 AM", "2026-03-10T00:15:00+01:00"),
        (time("%Y-%j %H:%M"), "2026-069 17:04", "2026-03-10T17:04:00+01:00"),
        (time("%G-W%V-%u %H:%M"), "2026-W11-2 17:04", "2026-03-10T17:04:00+01:00"),
        (time("%a %d %b %Y 100%% %H:%M"), "Tue 10 Mar 2026 100% 17:04", "2026-03-10T17:04:00+01:00"),
        (time("%Y-%m-%d %H:%M %z"), "2026-03-10 17:04 -0500", "2026-03-10T17:04:00-05:00"),
        (time(["iso", "%Y-%m-%d %H:%M %z"], zone="UTC"), "2026-03-10 17:04", "2026-03-10T17:04:00+00:00"),
        (time("excel"), "46091.71116898148", "2026-03-10T17:04:05+01:00"),
        (time("excel"), "46091.99305555555", "2026-03-10T23:50:00+01:00"),
        (time(["iso", "excel"]), 46091, "2026-03-10T12:00:00+01:00"),
        (time(["%d/%m/%Y", "%m/%d/%Y"]), "13/03/2026", "2026-03-13T12:00:00+01:00"),
        (time(["%d/%m/%Y", "%m/%d/%Y"]), "03/03/2026", "2026-03-03T12:00:00+01:00"),
        (time("iso"), "2026-03-10", "2026-03-10T12:00:00+01:00"),
        (time("iso"), "2026-03-10T00:00", "2026-03-10T00:00:00+01:00"),
        (time("iso"), "2026-10-25T02:30:00", "2026-10-25T02:30:00+02:00"),
        (time("iso", fold="later"), "2026-10-25T02:30:00", "2026-10-25T02:30:00+01:00"),
        (time("iso", gap="shift"), "2026-03-29T02:30:00", "2026-03-29T03:30:00+02:00"),
    ],
)
def test_moments(step: Any, value: Any, result: str) -> None:
    assert convert(step, value) == result


def test_hour_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConversionFailed, match="time_in_gap"):
        convert("time", "2026-03-29T02:30:00")


def test_local_time_of_an_unknown_store_is_refused() -> None:
    with pytest.raises(ConversionFailed, match="local_time_of_unknown_store"):
        convert("time", "2026-03-02T10:00:00", StepContext())


@given(st.datetimes(datetime(2001, 1, 1), datetime(2037, 1, 1)))  # noqa: DTZ001 (local times are the point)
def test_local_times_are_the_stores_or_in_a_gap(local: datetime) -> None:
    try:
        moment = datetime.fromisoformat(convert("time", local.isoformat()))
    except ConversionFailed:
        assert (local.month, local.hour) == (3, 2)
    else:
        assert moment.astimezone(BERLIN.zone).replace(tzinfo=None) == local
        assert abs(moment - local.replace(tzinfo=UTC)) <= timedelta(hours=2)


@given(st.decimals("-99999999", "99999999", places=2))
def test_decimals_come_through_every_way_of_writing(amount: Decimal) -> None:
    for how, text in (
        ("decimal", f"{amount:f}"),
        (DOUBLE, f"{amount:,.2f}"),
        (COMMA, f"{amount:,.2f}".translate({44: 46, 46: 44})),
        (DOLLARS, f"${amount:,.2f}"),
        (DOLLARS, f"(${-amount:,.2f})" if amount < 0 else f"{amount:,.2f} USD"),
        (EUROS, f"{amount:,.2f} €".translate({44: 32, 46: 44})),
    ):
        assert Decimal(convert(how, text)) == amount


@given(
    st.sampled_from(["decimal", DOLLARS, EUROS, "minor_units", "time", "boolean", "trim", "gtin", "negate"]), st.data()
)
def test_any_value_is_converted_or_refused(step: Any, data: st.DataObject) -> None:
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    value = data.draw(scalars | st.lists(scalars) | st.dictionaries(st.text(), scalars))
    with suppress(ConversionFailed):
        convert(step, value)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"decimal": {"point": ",", "thousands": ","}}, "same mark"),
        ({"decimal": {"signs": ["-"]}}, "a sign has no digits"),
        ({"decimal": {"signs": [" "]}}, "a sign has no digits"),
        ({"decimal": {"signs": ["."]}}, "more than punctuation"),
        ({"minor_units": "EURO"}, "not an ISO 4217 currency"),
        ({"multiply": "x"}, "not a number"),
        ({"multiply": "0." + "3" * 50}, "28 digits"),
        (time("dd/mm/yyyy"), "is not a format"),
        (time("%d %d"), "twice"),
        (time("%Q"), "%Q"),
        (time("iso", zone="Berlin"), "not a time zone"),
        (time("%m/%d/%y %H:%M %p"), "%p counts with %I alone"),
        (time("%m/%d/%y %I:%M PM"), "%I without %p"),
        (time("%m/%d/%y %H:%M %I %p"), "%H and %I"),
        (time("%m/%d/%y %p"), "%p counts with %I alone"),
        (time("%d.%m. %H:%M"), "no year"),
        (time("%H:%M"), "no year"),
        (time("%Y-%m %H:%M"), "states no day"),
        (time("%Y %d %H:%M"), "states no day"),
        (time("%Y %U %H:%M"), "states no day"),
        (time("%Y %a %H:%M"), "states no day"),
        (time("%G-%V %H:%M"), "%G and %V"),
        (time("%Y-%V-%u %H:%M"), "%G and %V"),
        (time("%G-%V-%u %Y %H:%M"), "date twice"),
        (time("%Y-%m-%d %j %H:%M"), "date twice"),
        (time("%Y-%m-%d week %W %a"), "date twice"),
        (time("%Y %j %m %H:%M"), "date twice"),
        (time("%Y %y-%m-%d %H:%M"), "year twice"),
        (time("%d %b %m %Y"), "month twice"),
        (time("%Y-%m-%d %H:%S"), "second and not the minute"),
        (time("%Y-%m-%d %M"), "minute and not the hour"),
        (time("%Y-%m-%d %H:%M %Z"), "%Z reads"),
        (time("%x %H:%M"), "%x is another order"),
        (time("%c"), "%c is another order"),
        (time(["iso", "%m/%d/%y %H:%M %p"]), "%p counts with %I alone"),
        (time("epoch_s", zone="Europe/Berlin"), "leave out zone: epoch_s already"),
        (time("epoch_ms", zone="store"), "leave out zone: epoch_ms already"),
        (time("%Y-%m-%d %H:%M %z", zone="Europe/Berlin"), "already determines the moment"),
        (time("epoch_s", gap="shift", fold="later"), "leave out gap, fold: epoch_s"),
    ],
)
def test_step_that_can_never_work_is_reported_at_load(step: Any, message: str) -> None:
    (one,) = FieldRule.model_validate({"path": "x", "as": step}).steps
    with pytest.raises(StepError, match=message):
        converter(one)


def test_step_is_exactly_one_conversion() -> None:
    for steps in ({}, {"decimal": {}, "multiply": "2"}):
        with pytest.raises(ValidationError, match="one conversion"):
            ConversionStep.model_validate(steps)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("%Y%m%d%H%M%S", "202603101500"),  # 00:15:00 without its zeros, and not 15:00:00
        ("%Y%m%d%H%M%S", "2026031010500"),  # 01:05:00, and not 10:50:00
        ("%Y%m%d", "2026111"),  # 11 January or 1 November
        ("%d.%m.%Y %H%M", "10.03.2026 105"),
        ("%d%m%y %H:%M", "11126 10:00"),
        ("%Y%j", "202669"),
    ],
)
def test_times_without_separators_have_all_their_digits(pattern: str, text: str) -> None:
    with pytest.raises(ConversionFailed, match="not_a_time"):
        convert({"time": {"formats": pattern}}, text)


@pytest.mark.parametrize(
    ("pattern", "text", "local"),
    [
        ("%Y%m%d%H%M%S", "20260310001500", "2026-03-10T00:15:00"),
        ("%Y%m%d%H%M%S%f", "20260310001500123", "2026-03-10T00:15:00.123000"),
        ("%Y%m%d  %H%M", " 20260310 0105 ", "2026-03-10T01:05:00"),
        ("%d%b%Y %I%M%p", "10MAR2026 0105pm", "2026-03-10T13:05:00"),
        ("%d.%m.%Y um %H%M Uhr (100%%)", "1.3.2026 UM 0105 Uhr (100%)", "2026-03-01T01:05:00"),
        ("%Y%j", "2026069", "2026-03-10T12:00:00"),
        ("%d.%m.%Y %H:%M", "1.3.2026 9:05", "2026-03-01T09:05:00"),
    ],
)
def test_times_without_separators_are_read_by_their_widths(pattern: str, text: str, local: str) -> None:
    assert convert({"time": {"formats": pattern}}, text) == f"{local}+01:00"


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (DOUBLE, "0,755"),
        (DOUBLE, "-0,755"),
        (DOUBLE, "00,123.5"),
        (COMMA, "0.755"),
        (EUROS, "0 755"),
        (EUROS, "€0 755"),
    ],
)
def test_group_of_thousands_does_not_begin_with_zero(step: Any, text: str) -> None:
    with pytest.raises(ConversionFailed, match="not_a_decimal"):
        convert(step, text)


def test_zeros_without_a_mark_are_a_number() -> None:
    assert [convert(DOUBLE, text) for text in ("0", "0.755", "000", "1,000.5", "100,000")] == [
        "0",
        "0.755",
        "000",
        "1000.5",
        "100000",
    ]
