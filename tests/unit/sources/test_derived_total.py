"""`derive: total`: a source that prints no totals gets those that the check of receipts computes."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import Contract
from schemas.dead_letter import Reason
from streams.batch import Batch
from streams.checks import check
from streams.decode import decode
from streams.sources.contracts import ContractError, load_contract
from streams.sources.source import Source
from tests.support.events import FakeRecord

NOW = datetime(2026, 3, 2, tzinfo=UTC)
CONTRACT: dict[str, Any] = {
    "contract": 1,
    "source": "shop",
    "kinds": [{"type": "sale"}],
    "fields": {
        "receipt": {"value": "1"},
        "store": {"value": "S1"},
        "register": {"value": "1"},
        "currency": "currency",
        "occurred_at": {"value": "2026-03-01T10:00:00Z"},
        "totals.gross": {"derive": "total"},
    },
    "lines": [
        {
            "each": "rows",
            "fields": {
                "sku": "sku",
                "quantity": "quantity",
                "unit_price": "price",
                "tax_rate": "rate",
                "tax_included": "included",
            },
        }
    ],
}


def record(rows: list[dict[str, Any]], currency: str = "EUR") -> Batch:
    return Batch("t", 0, [FakeRecord(0, json.dumps({"rows": rows, "currency": currency}).encode())])


def source() -> Source:
    return Source(Contract.model_validate(CONTRACT), lambda _: None)


def row(**changed: Any) -> dict[str, Any]:
    return {"sku": "A", "quantity": "1", "price": "1.00", "rate": "0", "included": True} | changed


number = st.decimals(min_value=-1000, max_value=1000, places=3).map(str)
rows = st.builds(
    row,
    quantity=number,
    price=number,
    rate=st.sampled_from(["0", "7", "19", "8.875"]),
    included=st.booleans(),
)


@given(st.lists(rows, min_size=1, max_size=6), st.sampled_from(["EUR", "JPY", "BHD"]))
def test_derived_total_always_agrees_with_the_lines(lines: list[dict[str, Any]], currency: str) -> None:
    arrivals, rejected, _ = decode(record(lines, currency), source())
    assert not rejected
    sound, unsound = check(arrivals, NOW)
    assert not unsound
    assert sound[0].rounding == 0


def test_each_line_is_rounded_before_it_is_added() -> None:
    arrivals, _, _ = decode(record([row(quantity="3", price="0.335"), row(quantity="3", price="0.335")]), source())
    assert Decimal(arrivals[0].event.totals["gross"]) == Decimal("2.02")


@pytest.mark.parametrize(
    ("changed", "currency", "reason", "detail"),
    [
        ({"price": "1.2345678"}, "EUR", Reason.INVALID_AMOUNT, "lines.0.unit_price: more_than_6_places"),
        ({"rate": "101"}, "EUR", Reason.INVALID_AMOUNT, "lines.0.tax_rate: out_of_range"),
        ({"price": "one"}, "EUR", Reason.SCHEMA_MISMATCH, "lines.0.unit_price: string_pattern_mismatch (and 1 more)"),
        ({"sku": None}, "EUR", Reason.SCHEMA_MISMATCH, "lines.0.sku: missing (and 1 more)"),
        ({}, "XXX", Reason.UNKNOWN_CURRENCY, "currency: not_in_iso_4217"),
    ],
)
def test_fault_of_a_line_is_reported_before_that_of_the_total(
    changed: dict[str, Any], currency: str, reason: Reason, detail: str
) -> None:
    _, rejected, _ = decode(record([row(**changed)], currency), source())
    assert [(each.reason, each.detail) for each in rejected] == [(reason, detail)]


def test_only_the_total_can_be_derived(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("contract: 1\nsource: s\nkinds: [{type: sale}]\nfields:\n  receipt: {derive: total}\n")
    with pytest.raises(ContractError, match=r"c\.yaml:4: fields: only totals\.gross can be derived, not receipt"):
        load_contract(path)
