"""The published schema and the parser say the same of a record, and a number keeps its digits."""

import json
import re
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from pydantic import ValidationError

from ops.json_schema import json_schema
from schemas.sale import SaleEvent
from tests.support.events import event, value

FORMATS = FormatChecker(())
_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII
)


@FORMATS.checks("date-time", ValueError)
def is_rfc_3339(moment: object) -> bool:
    if not isinstance(moment, str):
        return True
    return _RFC_3339.fullmatch(moment) is not None and date.fromisoformat(moment[:10]) is not None


SCHEMA = Draft202012Validator(json_schema(SaleEvent), format_checker=FORMATS)


def by_parser(text: str) -> bool:
    try:
        SaleEvent.model_validate_json(text)
    except ValidationError:
        return False
    return True


def by_mapping(tree: Any) -> bool:
    try:
        SaleEvent.model_validate(tree)
    except ValidationError:
        return False
    return True


def assert_agreed(text: str) -> bool:
    tree = json.loads(text)
    verdict = SCHEMA.is_valid(tree)
    assert by_parser(text) is verdict
    assert by_mapping(tree) is verdict
    return verdict


def record() -> dict[str, Any]:
    """A record with every field that there is."""
    line = {"sku": "1", "description": "Mug", "quantity": "2", "unit": "each", "unit_price": "3.50", "amount": "6.00"}
    line |= {"discounts": [{"amount": "1.00", "reason": "x"}], "tax_rate": "19", "tax_included": True}
    return {
        "event_id": "7",
        "source": "pos",
        "type": "return",
        "store": "0001",
        "register": "1",
        "receipt": "10",
        "revision": 3,
        "cashier": None,
        "occurred_at": "2026-03-10T12:00:00.5+01:00",
        "currency": "EUR",
        "customer": {"id": "C", "name": "N", "email": "e", "phone": None},
        "lines": [line],
        "tenders": [{"kind": "cash", "amount": "6.00"}],
        "totals": {"gross": "6.00", "net": "5.04", "tax": None, "rounding": "0.00"},
        "original": {"store": None, "register": "1", "receipt": "9", "type": "sale"},
    }


def with_raw(path: tuple[Any, ...], raw: str) -> str:
    """The record as JSON, with this text at the path."""
    tree: Any = record()
    part = tree
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = "RAW-VALUE"
    return json.dumps(tree).replace('"RAW-VALUE"', raw)


def paths(tree: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    found = [here] if here else []
    return found + [path for key, child in inner for path in paths(child, (*here, key))]


GROSS = ("totals", "gross")


@pytest.mark.parametrize("raw", ["true", '"1"', '"1.0"', "1.5", "null", "-1", "2147483648", "1e20", "NaN", "[]"])
def test_revision_that_is_no_integer_is_refused(raw: str) -> None:
    assert not assert_agreed(with_raw(("revision",), raw))


@pytest.mark.parametrize(("raw", "revision"), [("0", 0), ("1.0", 1), ("2e3", 2000), ("2147483647", 2147483647)])
def test_revision_is_an_integer_as_json_has_them(raw: str, revision: int) -> None:
    text = with_raw(("revision",), raw)
    assert assert_agreed(text)
    read = SaleEvent.model_validate_json(text).revision
    assert (type(read), read) == (int, revision)


@pytest.mark.parametrize("raw", ['"0"', '"false"', "0", "1", '"true"', "null"])
def test_only_true_and_false_say_whether_tax_is_included(raw: str) -> None:
    assert not assert_agreed(with_raw(("lines", 0, "tax_included"), raw))


@pytest.mark.parametrize(
    "raw",
    [
        *("1700000000", '"1700000000"', "1.5", "true", '"2026-03-10T12:00Z"', '"2026-03-10 12:00:00Z"', '"2026-03-10"'),
        *('"2026-03-10T12:00:00+0100"', '"2026-03-10T12:00:00+01"', '"2026-03-10T12:00:00"', '"20260310T120000Z"'),
        *('"2026-02-29T12:00:00Z"', '"2026-03-10T24:00:00Z"', '"2026-03-10T12:00:60Z"', '"0000-01-01T00:00:00Z"'),
        *('"2026-03-10T12:00:00,5Z"', '"2026-03-10_12:00:00Z"', '"2026-03-10T12:00:00Z\\n"', '" 2026-03-10T12:00:00Z"'),
        *('"2026-03-10T12:00:00+24:00"', '"2026-03-10T12:00:00.Z"', '"\\u0662026-03-10T12:00:00Z"'),
    ],
)
def test_moment_that_is_not_of_rfc_3339_is_refused(raw: str) -> None:
    assert not assert_agreed(with_raw(("occurred_at",), raw))


@pytest.mark.parametrize(
    "moment",
    [
        *(
            "2026-03-10T12:00:00Z",
            "2026-03-10t12:00:00z",
            "2026-03-10T12:00:00-00:00",
            "2026-03-10T12:00:00.123456789Z",
        ),
        *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59+23:59", "2024-02-29T12:00:00.1+14:00"),
    ],
)
def test_moment_of_rfc_3339_is_read(moment: str) -> None:
    assert assert_agreed(with_raw(("occurred_at",), json.dumps(moment)))


@pytest.mark.parametrize(
    ("raw", "exact"),
    [
        *(
            ("1e-05", "0.00001"),
            ("0.1", "0.1"),
            ("1.10", "1.1"),
            ("1.0", "1"),
            ("1E5", "100000"),
            ("-0.0", "-0"),
            ("-0", "0"),
        ),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("0.12345678901234567890", "0.12345678901234567890"),
        ("0.1000000000000000000001", "0.1000000000000000000001"),
        ("12345678901234567.5", "12345678901234567.5"),
        ("1e-400", "1e-400"),
        ("4.9406564584124654e-324", "4.9406564584124654e-324"),
    ],
)
def test_number_keeps_the_digits_that_it_is_written_with(raw: str, exact: str) -> None:
    text = with_raw(GROSS, raw)
    assert assert_agreed(text)
    assert SaleEvent.model_validate_json(text).totals["gross"] == exact


def test_number_with_more_digits_than_a_text_may_have_is_no_rounder_than_it_was() -> None:
    read = SaleEvent.model_validate_json(with_raw(GROSS, "1." + "0" * 80 + "1")).totals["gross"]
    assert (Decimal(read) > 1, len(read) <= 64) == (True, True)


@pytest.mark.parametrize(
    "raw", ["true", "NaN", "Infinity", "1e400", "1e61", "9" * 61, '"1,5"', '"1.0\\n"', '"\\u0661"', '""']
)
def test_amount_that_is_no_decimal_number_is_refused(raw: str) -> None:
    assert not assert_agreed(with_raw(GROSS, raw))


def test_records_of_the_tests_are_valid_by_both() -> None:
    assert assert_agreed(value().decode())
    assert assert_agreed(json.dumps(record()))
    assert assert_agreed(json.dumps(event()))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=70)
numerals = st.from_regex(r"\A[+-]?[0-9]{0,25}\.?[0-9]{0,25}([eE][+-]?[0-9]{1,4})?\n?\Z")
moments = st.from_regex(
    r"\A[0-9]{3,4}-[01][0-9]-[0-3][0-9][Tt _][012][0-9]:[0-6][0-9](:[0-6][0-9])?([.,][0-9]{0,10})?"
    r"([Zz]|[+-][0-2][0-9]:?[0-6][0-9])?\n?\Z"
)
raw_numbers = st.from_regex(r"\A-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,70})?([eE][+-]?[0-9]{1,3})?\Z")
edges = st.sampled_from(
    [
        '"x"',
        '""',
        "null",
        "true",
        "false",
        "[]",
        "{}",
        "[{}]",
        "NaN",
        "Infinity",
        "1e999",
        "-0",
        "0",
        "1",
        '"EUR\\n"',
        '"\\u0000"',
    ]
)
long_texts = st.sampled_from([64, 65, 128, 129, 500, 501]).map(lambda length: json.dumps("é" * length))
values = st.one_of(
    edges,
    raw_numbers,
    long_texts,
    st.one_of(texts, numerals, moments).map(json.dumps),
    st.one_of(st.integers(), st.floats(), st.integers(-(2**31), 2**32)).map(json.dumps),
)


@settings(max_examples=300)
@given(st.data())
def test_schema_and_parser_agree_on_every_record(data: st.DataObject) -> None:
    tree = record()
    path = data.draw(st.sampled_from(paths(tree)))
    change = data.draw(st.sampled_from(["replace", "remove", "add", "repeat"]))
    part: Any = tree
    for step in path[:-1]:
        part = part[step]
    if change == "remove":
        del part[path[-1]]
        text = json.dumps(tree)
    elif change == "add" and isinstance(part, dict):
        text = json.dumps(tree | {}).replace("{", '{"unknown": ' + data.draw(values) + ", ", 1)
    elif change == "repeat" and isinstance(part[path[-1]], list):
        part[path[-1]] = part[path[-1]] * data.draw(st.sampled_from([0, 2, 100, 101]))
        text = json.dumps(tree)
    else:
        text = with_raw(path, data.draw(values))
    assert_agreed(text)


@given(raw_numbers)
def test_no_number_that_an_amount_can_hold_is_changed(raw: str) -> None:
    text = with_raw(GROSS, raw)
    if by_parser(text):
        read = SaleEvent.model_validate_json(text).totals["gross"]
        assert Decimal(read) == Decimal(raw) or (
            len(raw) > 64 and Decimal(read) != Decimal(read).quantize(Decimal("1e-7"))
        )
