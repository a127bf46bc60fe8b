"""Rates of rows that print their tax as an amount: an export with a type per row, as shops take it from their tills."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from schemas.store import Store, Stores
from streams.batch import Batch
from streams.checks import check
from streams.decode import decode
from streams.mapping.documents import to_documents
from streams.sources.contracts import ContractError
from streams.sources.source import Source, load_source
from tests.support.events import NOON, FakeRecord

CONTRACT = """\
contract: 1
source: rows
format: csv
group_by: [Nr]
kinds:
  - when: {path: "rows[?Type == 'Sale'].State | [0]", is: PARKED}
    skip: parked
  - type: sale
fields:
  store: {value: S1}
  register: {value: "1"}
  receipt: rows[0].Nr
  occurred_at: {path: "rows[0].At", as: time}
  currency: {value: NZD}
  totals.gross: "rows[?Type == 'Sale'].Total | [0]"
lines:
  - each: "rows[?Type == 'Line']"
    fields:
      sku: Sku
      quantity: Quantity
      unit_price: "divide(Total, Quantity)"
      amount: Total
    taxes: [{each: "[@]", fields: {amount: Tax}}]
tenders:
  - {each: "rows[?Type == 'Payment']", fields: {kind: Sku, amount: Total}}
"""


def source(folder: Path, more: str = "") -> Source:
    path = folder / "rows.yaml"
    path.write_text(CONTRACT + more)
    return load_source(path, lambda _: ZoneInfo("Pacific/Auckland"))


def row(kind: str, total: str, sku: str = "", quantity: str = "1", tax: str = "", state: str = "") -> dict[str, str]:
    plain = {"Nr": "9", "At": "2026-03-09T12:00:00Z", "Type": kind, "Total": total, "Sku": sku, "Tax": tax}
    return plain | {"Quantity": quantity, "State": state}


def outcome(of: Source, *rows: dict[str, str]) -> Any:
    """Return the document, or the reason why it was rejected."""
    arrivals, rejected, _ = decode(Batch("t", 0, [FakeRecord(0, json.dumps({"rows": rows}).encode())]), of)
    sound, unsound = check(arrivals, NOON)
    documents, _ = to_documents(sound, Stores({}, Store(timezone="Pacific/Auckland")))
    return documents[0] if documents else [f"{one.reason.value}: {one.detail}" for one in [*rejected, *unsound]]


SALE = (
    row("Sale", "46.00", state="CLOSED"),
    row("Line", "28.00", "A", "2", "3.65"),
    row("Line", "18.00", "B", tax="2.35"),
    row("Payment", "50.00", "Cash"),
    row("Payment", "-4.00", "Cash"),
)


def test_rate_of_a_printed_tax_is_the_round_one(tmp_path: Path) -> None:
    document = outcome(source(tmp_path), *SALE)
    assert [line.tax_rate for line in document.lines] == [15, 15]
    assert (document.tax, document.rounding, document.gross) == (Decimal("6.00"), 0, Decimal("46.00"))
    assert [payment.amount for payment in document.payments] == [Decimal("50.00"), Decimal("-4.00")]


def test_small_line_has_the_rate_of_the_others(tmp_path: Path) -> None:
    lines = (row("Sale", "46.20", state="CLOSED"), *SALE[1:3], row("Line", "0.20", "C", tax="0.03"))
    assert [line.tax_rate for line in outcome(source(tmp_path), *lines).lines] == [15, 15, 15]


def test_small_line_alone_needs_declared_rates(tmp_path: Path) -> None:
    lines = (row("Sale", "0.20", state="CLOSED"), row("Line", "0.20", "C", tax="0.03"))
    assert outcome(source(tmp_path), *lines) == ["uncertain_tax_rate: lines.0.tax_rate: several_rates_fit"]
    document = outcome(source(tmp_path, 'tax_rates: [15, "5.5", 0]\n'), *lines)
    assert [(line.tax_rate, line.tax) for line in document.lines] == [(15, Decimal("0.03"))]


def test_rate_that_is_not_declared_is_a_dead_letter(tmp_path: Path) -> None:
    of = source(tmp_path, "tax_rates: [19, 7]\n")
    assert outcome(of, *SALE) == ["uncertain_tax_rate: lines.0.tax_rate: not_a_declared_rate"]


@pytest.mark.parametrize("rates", ["[101]", "[-1]", "[15 %]", "[1.23456]", "[true]"])
def test_invalid_declared_rate_is_refused(tmp_path: Path, rates: str) -> None:
    with pytest.raises(ContractError, match=r"rows\.yaml:\d+: tax_rates\.0"):
        source(tmp_path, f"tax_rates: {rates}\n")
