"""Any record shaped like those of a built-in source, or nearly, becomes an event, a skip or a dead letter."""

import copy
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.money import divide_half_up
from tests.support.sources import examples, reasons, through

NAMES = ("shopify", "square")
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["", "0", "-1", "1e400", "NaN", "1e-30", "9" * 40, "2026-02-30T25:00:00Z", "\x00", "\ud800"])
)
JUNK = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all that is in a JSON value."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in parts for place in places(part, (*path, key)))]


@st.composite
def broken(draw: st.DrawFn, name: str) -> tuple[bytes, dict[str, str]]:
    """An example's record with up to three parts replaced, removed or doubled."""
    example = draw(st.sampled_from([example for contract, example in examples() if contract == name]))
    record = {"value": copy.deepcopy(example.value)}
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(places(record)[1:]))
        part: Any = record
        for step in way:
            part = part[step]
        change = draw(st.sampled_from(["replace", "remove", "double"]))
        if change == "remove":
            del part[last]
        elif change == "double" and isinstance(part, list):
            part.append(copy.deepcopy(part[last]))
        else:
            part[last] = draw(JUNK)
        record.setdefault("value", None)
    return json.dumps(record["value"]).encode(), example.headers


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_broken_record_comes_to_an_end(name: str, data: st.DataObject) -> None:
    value, headers = data.draw(broken(name))
    documents, rejected, noted = through(name, value, headers=headers)
    assert documents or rejected or noted


@pytest.mark.parametrize("name", NAMES)
@given(value=st.binary(max_size=40) | JUNK.map(lambda junk: json.dumps(junk).encode()))
def test_junk_is_not_an_event(name: str, value: bytes) -> None:
    documents, rejected, _ = through(name, value)
    assert documents == []
    assert rejected


AMOUNTS = st.integers(1, 100_000)
LINES = st.lists(
    st.tuples(AMOUNTS, st.integers(1, 9), st.integers(0, 100), st.sampled_from([0, 500, 700, 725, 1900])),
    min_size=1,
    max_size=5,
)


def money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"


def parts_of(lines: list[tuple[int, int, int, int]], included: bool) -> list[tuple[int, int, int, int, int, int]]:
    """(price, quantity, discount, rate in 0.01 %, tax, gross) of each line, in cents."""
    made = []
    for price, quantity, off, rate in lines:
        amount = price * quantity - (discount := price * quantity * off // 100)
        tax = divide_half_up(amount * rate, 10_000 + rate if included else 10_000)
        made.append((price, quantity, discount, rate, tax, amount if included else amount + tax))
    return made


@given(LINES, st.booleans(), st.integers(0, 500))
def test_shopify_order_keeps_its_money(lines: list[tuple[int, int, int, int]], included: bool, tip: int) -> None:
    parts = parts_of(lines, included)
    gross, tax = sum(part[5] for part in parts) + tip, sum(part[4] for part in parts)
    order = {
        "id": 2**60,
        "updated_at": "2026-03-10T12:00:00Z",
        "created_at": "2026-03-10T12:00:00Z",
        "currency": "EUR",
        "financial_status": "paid",
        "taxes_included": included,
        "total_tip_received": money(tip),
        "total_tax": money(tax),
        "total_price": money(gross),
        "line_items": [
            {
                "sku": "A",
                "price": money(price),
                "quantity": quantity,
                "discount_allocations": [{"amount": money(discount)}],
                "tax_lines": [{"rate": rate / 10_000, "price": money(tax)}],
            }
            for price, quantity, discount, rate, tax, _ in parts
        ],
    }
    documents, rejected, _ = through("shopify", order)
    assert reasons(rejected) == []
    assert [document.gross for document in documents] == [Decimal(gross) / 100]
    assert documents[0].tax == Decimal(tax) / 100


@given(LINES, st.booleans(), st.integers(0, 500))
def test_square_order_keeps_its_money(lines: list[tuple[int, int, int, int]], included: bool, tip: int) -> None:
    def eur(cents: int) -> dict[str, Any]:
        return {"amount": cents, "currency": "EUR"}

    parts = parts_of(lines, included)
    gross, tax = sum(part[5] for part in parts) + tip, sum(part[4] for part in parts)
    order = {
        "id": "O",
        "location_id": "L",
        "state": "COMPLETED",
        "version": 1,
        "created_at": "2026-03-10T12:00:00Z",
        "total_money": eur(gross),
        "total_tax_money": eur(tax),
        "total_tip_money": eur(tip),
        "tenders": [{"type": "CARD", "amount_money": eur(gross)}],
        "taxes": [{"uid": str(rate), "percentage": money(rate)} for *_, rate in lines],
        "line_items": [
            {
                "quantity": str(quantity),
                "base_price_money": eur(price),
                "gross_sales_money": eur(price * quantity),
                "total_discount_money": eur(discount),
                "total_tax_money": eur(tax),
                "total_money": eur(line_gross),
                "applied_taxes": [{"tax_uid": str(rate), "applied_money": eur(tax)}],
            }
            for price, quantity, discount, rate, tax, line_gross in parts
        ],
    }
    documents, rejected, _ = through("square", {"order": order})
    assert reasons(rejected) == []
    assert [document.gross for document in documents] == [Decimal(gross) / 100]
    assert documents[0].tax == Decimal(tax) / 100
