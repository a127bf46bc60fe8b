"""Which patches leave a record the one it is."""

import json
from typing import Any

import pytest

from ops.dlq.patch import ValuePatch, identity, same_identity
from streams.sources.canonical import CANONICAL, RecordSource
from streams.sources.source import Source, load_source
from tests.support.events import FakeRecord, event

MAPPED = """\
contract: 1
source: shop
version: "1"
kinds:
  - when: {path: kind, is: S}
    type: sale
fields:
  event_id: id
  store: shop
  register: till
  receipt: {path: "no", as: trim}
  occurred_at: at
  totals.gross: {path: sum, as: minor_units}
  currency: {value: EUR}
lines:
  - each: items
    fields: {sku: ean, quantity: qty, unit_price: {path: cents, as: minor_units}, tax_rate: {value: "19"}}
"""
RECEIPT: dict[str, Any] = {"kind": "S", "id": "e-1", "shop": "S1", "till": "1", "no": "7", "items": "none"}


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Source:
    path = tmp_path_factory.mktemp("contracts") / "shop.yaml"
    path.write_text(MAPPED)
    return load_source(path, {}.get)


def same(value: Any, patch: Any, source: RecordSource = CANONICAL) -> bool:
    """Whether the record is the same one after the patch."""
    raw = json.dumps(value).encode()
    before, after = FakeRecord(0, raw), FakeRecord(0, ValuePatch(json.dumps(patch)).applied(raw))
    return same_identity(identity(before, source), identity(after, source))


@pytest.mark.parametrize(
    ("patch", "kept"),
    [({"totals": {"gross": "9.00"}}, True), ({"event_id": "e-9"}, False), ({"store": None}, False), ({"x": 1}, True)],
)
def test_patch_of_an_event_may_not_touch_what_names_it(patch: Any, kept: bool) -> None:
    assert same(event(1), patch) is kept


@pytest.mark.parametrize(
    ("patch", "kept"),
    [
        ({"items": [{"ean": "A", "qty": 1, "cents": 300}], "sum": 300, "at": "2026-03-02T10:00:00Z"}, True),
        ({"no": "8"}, False),
        ({"no": " 7 "}, True),  # the contract trims it
        ({"id": "e-2"}, False),
        ({"kind": "R"}, False),
    ],
)
def test_record_that_becomes_no_event_yet_keeps_what_can_be_told_of_it(mapped: Source, patch: Any, kept: bool) -> None:
    assert same(RECEIPT, patch, mapped) is kept


@pytest.mark.parametrize("broken", [RECEIPT | {"kind": "?"}, RECEIPT | {"no": {}}, {}])
def test_what_could_not_be_told_before_and_can_now_is_another_identity(mapped: Source, broken: Any) -> None:
    assert not same(broken, RECEIPT, mapped)
