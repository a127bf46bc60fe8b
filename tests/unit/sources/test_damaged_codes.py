"""Codes that a spreadsheet has damaged never become an article's, a receipt's or a customer's."""

import json
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codes import bare_code, check_digit_is_right, is_damaged, with_zeros
from schemas.contract import Contract
from streams.sources.examples import outcome
from streams.sources.source import Source
from tests.support.events import FakeRecord
from tests.support.events import event as sale

DAMAGED = ["4,00638E+12", "4.00638E+12", "4.00638e12", "4.00638E12", "4E+12", "400.638E+10", "1.23457E+15", "1.2E-05"]
DATES = ["3-Mar", "03-Mar", "Mar-03", "3-Mar-26", "3. Mrz", "Mrz 03", "2026-03-03 00:00:00"]
ERRORS = ["#######", "#N/A", "#NAME?", "#REF!", "#WERT!"]
WHOLE = [
    "4006381333931",
    "R-501",
    "1E5",
    "12E34",
    "AB1.5E3X",
    "2026-03-10",
    "#17",
    "550e8400-e29b-41d4-a716-446655440000",
]

CONTRACT = {
    "contract": 1,
    "source": "till",
    "kinds": [{"type": "sale"}],
    "fields": {
        "receipt": "no",
        "occurred_at": {"value": "2026-03-10T10:00:00Z"},
        "store": {"path": "store", "default": "S1"},
        "register": {"value": "1"},
        "currency": {"value": "EUR"},
        "customer.id": "customer",
        "totals.gross": {"derive": "total"},
    },
    "lines": [
        {
            "each": "items",
            "fields": {"sku": "sku", "quantity": {"value": "1"}, "unit_price": "price", "tax_rate": {"value": "0"}},
        }
    ],
}


def made(value: Any, **more: Any) -> Any:
    """Return the outcome of a record under the contract."""
    source = Source(Contract.model_validate(CONTRACT | more), lambda _: ZoneInfo("UTC"))
    return outcome(source, value if isinstance(value, bytes) else json.dumps(value).encode())


def record(no: str = "R-1", sku: str = "A", **more: str) -> dict[str, Any]:
    return {"no": no, "items": [{"sku": sku, "price": "1.50"}]} | more


@pytest.mark.parametrize("code", DAMAGED + DATES + ERRORS)
def test_damaged_code_is_distinguished_from_a_valid_one(code: str) -> None:
    assert is_damaged(code)


@pytest.mark.parametrize("code", WHOLE)
def test_whole_code_that_looks_like_a_damaged_one_stays(code: str) -> None:
    assert not is_damaged(code)
    (event,) = made(record(no=code, sku=code))["events"]
    assert (event["receipt"], event["lines"][0]["sku"]) == (code, code)


@pytest.mark.parametrize("code", DAMAGED + DATES + ERRORS)
def test_damaged_article_receipt_customer_and_store_are_dead_letters(code: str) -> None:
    assert made(record(sku=code)) == {"rejected": ["damaged_code: lines.0.sku: damaged_by_spreadsheet"]}
    assert made(record(no=code)) == {"rejected": ["damaged_code: receipt: damaged_by_spreadsheet"]}
    assert made(record(customer=code)) == {"rejected": ["damaged_code: customer.id: damaged_by_spreadsheet"]}
    assert made(record(store=code)) == {"rejected": ["damaged_code: store: damaged_by_spreadsheet"]}


def test_json_number_with_an_exponent_is_not_a_code() -> None:
    value = b'{"no": "R-1", "items": [{"sku": 4.00638E+12, "price": "1.50"}]}'
    assert made(value) == {"rejected": ["damaged_code: lines.0.sku: damaged_by_spreadsheet"]}
    assert made(b'{"no": 1.23457E+15, "items": []}') == {"rejected": ["damaged_code: receipt: damaged_by_spreadsheet"]}


def test_damaged_part_of_a_joined_receipt_number_is_found() -> None:
    fields = CONTRACT["fields"] | {"receipt": "join('-', [day, no])"}  # type: ignore[operator]  # a contract as JSON has it
    assert made(record(no="1.23457E+15", day="2026-03-10"), fields=fields) == {
        "rejected": ["damaged_code: receipt: damaged_by_spreadsheet"]
    }


def test_gtin_step_names_the_reason() -> None:
    lines = [{"each": "items", "fields": {"sku": {"path": "sku", "as": "gtin"}}}]
    assert made(record(sku="4,00638E+12"), lines=lines) == {
        "rejected": ["damaged_code: lines.0.sku: damaged_by_spreadsheet"]
    }


@pytest.mark.parametrize(
    ("written", "code"),
    [('="0069012345"', "0069012345"), ("'00123", "00123"), ('="0069012345" ', "0069012345"), ("'n-17", "'n-17")],
)
def test_spreadsheet_quoting_is_removed_from_codes(written: str, code: str) -> None:
    (event,) = made(record(no=written, sku=written))["events"]
    assert (event["receipt"], event["lines"][0]["sku"]) == (code, code)
    assert bare_code(code) == code


def test_canonical_event_with_a_damaged_code_is_a_dead_letter() -> None:
    from datetime import UTC, datetime

    from streams.batch import Batch
    from streams.checks import check
    from streams.decode import decode

    receipt = sale(receipt="1.23457E+15")
    article = sale()
    article["lines"][0]["sku"] = "4.00638E+12"
    records = [FakeRecord(n, json.dumps(event).encode()) for n, event in enumerate((receipt, article))]
    arrivals, rejected, _ = decode(Batch("t", 0, records))
    _, held = check(arrivals, datetime.now(UTC))
    assert [(fault.reason.value, fault.detail) for fault in (*rejected, *held)] == [
        ("damaged_code", "receipt: damaged_by_spreadsheet"),
        ("damaged_code", "lines.0.sku: damaged_by_spreadsheet"),
    ]
    assert all(fault.event is not None for fault in (*rejected, *held))  # so that its money is counted


@given(st.integers(0, 10**12 - 1), st.sampled_from([8, 12, 13]))
def test_zeros_come_back_where_the_check_digit_proves_them(number: int, length: int) -> None:
    body = str(number).zfill(12)[-(length - 1) :]
    gtin = next(f"{body}{digit}" for digit in range(10) if check_digit_is_right(f"{body}{digit}"))
    short = gtin.lstrip("0")
    zeros = length - len(short)
    restored = with_zeros(short)
    assert restored.zfill(14) == gtin.zfill(14)  # never another article
    if length == 12 and zeros in (1, 2) and short != "":
        assert restored in (gtin, short)
        assert restored == gtin or len(short) == 10  # indistinguishable from an ISBN
