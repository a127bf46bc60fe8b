"""A contract at work: each part of a record becomes an event, is skipped, or is refused with its field."""

import json
import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.contract import Contract
from schemas.dead_letter import Reason
from schemas.sale import SaleEvent
from sinks.memory import MemorySink
from streams.batch import Batch
from streams.checks import check
from streams.decode import decode, explain
from streams.pipeline import process
from streams.sources.contracts import ContractError, built_in_contracts, find_contract
from streams.sources.source import RefusedRecord, SkippedPart, Source, load_source
from tests.support.events import NOON, FakeRecord, batch
from tests.support.line import Line

CONTRACT = """\
contract: 1
source: shop
version: "7"
events: bons
kinds:
  - when: [{path: kind, is: S}, {header: X-Test, is: live}]
    type: sale
  - when: {path: kind, is: R}
    type: return
    fields: {original.receipt: {path: of, as: trim}}
  - when: refused
    skip: refused by the till
fields:
  store: {key: true}
  register: {path: till, default: "1"}
  receipt: "no"
  occurred_at: {path: at, as: {time: {formats: "%d.%m.%Y %H:%M"}}}
  totals.gross: {path: sum, as: minor_units}
  currency: {value: EUR}
lines:
  - each: items
    fields: {sku: ean, quantity: qty, unit_price: {path: cents, as: minor_units}, tax_rate: {value: "19"}}
    discounts:
      - each: "off"
        fields: {amount: {path: "@", as: minor_units}}
  - each: postage
    fields: {sku: {value: POST}, quantity: {value: 1}, unit_price: {path: "@", as: minor_units}, tax_rate: {value: 19}}
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    path = tmp_path_factory.mktemp("contracts") / "shop.yaml"
    path.write_text(CONTRACT)
    return load_source(path, {"S1": ZoneInfo("Europe/Berlin")}.get)


def bon(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "kind": "S",
        "no": 17,
        "at": "02.03.2026 10:00",
        "sum": 250,
        "items": [{"ean": "A", "qty": 2, "cents": 100}],
        "postage": 50,
    }
    return plain | changes


def record(*bons: Any, key: bytes | None = b"S1") -> FakeRecord:
    return FakeRecord(0, json.dumps({"bons": bons}).encode(), key, headers=[("x-test", b"live")])


def read(source: Source, *bons: Any, key: bytes | None = b"S1") -> Any:
    return list(source.events(record(*bons, key=key)))


def refused(source: Source, *bons: Any, key: bytes | None = b"S1") -> list[tuple[Reason, str]]:
    _, rejections, _ = decode(Batch("t", 0, [record(*bons, key=key)]), source)
    return [(rejection.reason, rejection.detail) for rejection in rejections]


@pytest.mark.parametrize(
    ("first", "second", "made"),
    [
        ("7", "orders/create", "7/orders/create"),
        ("a/b", "c", "a%2Fb/c"),
        ("a", "b/c", "a/b/c"),
        ("a%2Fb", "c", "a%252Fb/c"),
        ("", "c", "/c"),
        ("c", "", "c/"),
    ],
)
def test_several_headers_make_an_id_of_their_own(tmp_path: Path, first: str, second: str, made: str) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(CONTRACT.replace("fields:\n  store", "fields:\n  event_id: {header: [X-Id, X-Topic]}\n  store"))
    sent = replace(record(bon()), headers=[("x-test", b"live"), ("x-id", first.encode()), ("x-topic", second.encode())])
    (event,) = load_source(path, {"S1": ZoneInfo("Europe/Berlin")}.get).events(sent)
    assert isinstance(event, dict)
    assert event["event_id"] == made


def test_event_is_made_of_fields_lines_and_constants(source: Source) -> None:
    (event,) = read(source, bon(items=[{"ean": "A", "qty": 2, "cents": 100, "off": [30, 0]}]))
    assert event == {
        "source": "shop",
        "type": "sale",
        "store": "S1",
        "register": "1",
        "receipt": "17",
        "occurred_at": "2026-03-02T10:00:00+01:00",
        "currency": "EUR",
        "totals": {"gross": "2.50"},
        "lines": [
            {"sku": "A", "quantity": "2", "unit_price": "1.00", "tax_rate": "19", "discounts": [{"amount": "0.30"}]},
            {"sku": "POST", "quantity": "1", "unit_price": "0.50", "tax_rate": "19"},
        ],
        "tenders": [],
    }


def test_kinds_are_tried_in_order_and_bring_rules_of_their_own(source: Source) -> None:
    sale, goods_back, none = read(source, bon(), bon(kind="R", of=" 16 "), bon(kind="?", refused=True))
    assert (sale["type"], goods_back["type"], goods_back["original"]) == ("sale", "return", {"receipt": "16"})
    assert none == SkippedPart("refused by the till")


def test_header_names_have_no_case_and_conditions_all_hold(source: Source) -> None:
    other = FakeRecord(0, record(bon()).value, b"S1", headers=[("X-TEST", b"trial")])
    (found,) = source.events(other)
    assert isinstance(found, RefusedRecord)
    assert (found.reason, found.detail) == (Reason.UNPLACED_RECORD, "kinds: none_fits")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"sum": "2,50"}, (Reason.UNCONVERTIBLE_VALUE, "totals.gross: not_a_number")),
        ({"at": "2026-03-02"}, (Reason.UNCONVERTIBLE_VALUE, "occurred_at: not_a_time")),
        (
            {"items": [{"ean": "A", "qty": 1, "cents": 1}, {"ean": "B", "qty": 1, "cents": []}]},
            (Reason.UNCONVERTIBLE_VALUE, "lines.1.unit_price: not_a_text_or_number"),
        ),
        ({"no": None}, (Reason.SCHEMA_MISMATCH, "receipt: missing")),
        ({"items": [{"ean": "", "qty": 1, "cents": 1}]}, (Reason.SCHEMA_MISMATCH, "lines.0.sku: missing")),
        ({"no": "a\u0000b"}, (Reason.SCHEMA_MISMATCH, "(a text): nul_character")),
        ({"no": "\ud800"}, (Reason.SCHEMA_MISMATCH, "receipt: string_unicode")),
        ({"kind": "?"}, (Reason.UNPLACED_RECORD, "kinds: none_fits")),
    ],
)
def test_fault_names_the_field_and_no_value(source: Source, changes: Any, fault: Any) -> None:
    assert refused(source, bon(**changes)) == [fault]


def test_time_of_a_store_that_is_unknown_is_refused(source: Source) -> None:
    assert refused(source, bon(), key=b"S9") == [
        (Reason.UNCONVERTIBLE_VALUE, "occurred_at: local_time_of_unknown_store")
    ]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", Reason.INVALID_JSON),
        (b"{", Reason.INVALID_JSON),
        (b"\xff", Reason.INVALID_JSON),
        (b'{"bons": NaN}', Reason.INVALID_JSON),
        (b"[" * 100_000, Reason.INVALID_JSON),
        (b'{"bons": [], "bons": []}', Reason.AMBIGUOUS_JSON),
        (b"{}", Reason.UNPLACED_RECORD),
        (b"7", Reason.UNPLACED_RECORD),
    ],
)
def test_record_that_holds_nothing_is_refused(source: Source, value: bytes, reason: Reason) -> None:
    arrivals, rejections, _ = decode(Batch("t", 0, [FakeRecord(0, value)]), source)
    assert (arrivals, [rejection.reason for rejection in rejections]) == ([], [reason])


async def test_events_of_one_record_come_to_their_own_ends(source: Source) -> None:
    line = Line(sink=MemorySink())
    line.services.source = source
    several = record(bon(no=1), bon(no=2, sum="x"), bon(kind="?", refused=True), bon(no=3))
    settled = await process(Batch("t", 0, [several]), line.services)
    assert [arrival.event.receipt for arrival in settled.delivered] == ["1", "3"]
    assert [rejection.detail for rejection in settled.rejected] == ["totals.gross: not_a_number"]
    assert [noted.why for noted in settled.skipped] == ["refused by the till"]
    assert [(letter.value, letter.key) for letter in line.letters] == [(several.value, b"S1")]


@pytest.mark.parametrize(
    ("bons", "fault"),
    [
        ([1] * 1_001, "events: more_than_1000"),
        ([bon(items=[{"ean": "A", "qty": 1, "cents": 1}] * 10_001)], "lines: more_than_10000"),
        ([bon(items=[{"ean": "A", "qty": 1, "cents": 1, "off": [1] * 10_001}])], "lines.0.discounts: more_than_10000"),
    ],
)
def test_record_that_would_hold_up_all_others_is_refused_at_once(source: Source, bons: Any, fault: str) -> None:
    assert refused(source, *bons) == [(Reason.SCHEMA_MISMATCH, fault)]


async def test_record_of_many_refused_events_is_one_dead_letter(source: Source) -> None:
    line = Line(sink=MemorySink())
    line.services.source = source
    settled = await process(Batch("t", 0, [record(*[bon(sum="x")] * 700)]), line.services)
    assert (len(settled.rejected), len(line.letters)) == (700, 1)


async def test_record_that_comes_again_is_known_event_by_event(source: Source) -> None:
    line = Line(sink=MemorySink())
    line.services.source = source
    batch = Batch("t", 0, [record(bon(no=1), bon(no=2))])
    await process(batch, line.services)
    settled = await process(batch, line.services)
    assert (len(settled.delivered), len(settled.seen_in_window)) == (0, 2)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["ean", "qty", "cents"]), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*bon(), "of", "refused", "till"]), values))
def test_whatever_a_record_holds_it_is_an_event_or_refused_and_both_ways_of_validating_agree(changes: Any) -> None:
    source = Source(Contract.model_validate(yaml.safe_load(CONTRACT)), {"S1": ZoneInfo("Europe/Berlin")}.get)
    for made in source.events(record(bon(**changes))):
        if not isinstance(made, SkippedPart | RefusedRecord):
            assert outcome(lambda made=made: SaleEvent.model_validate(made)) == outcome(
                lambda made=made: SaleEvent.model_validate_json(json.dumps(made))
            )


def outcome(validate: Any) -> Any:
    try:
        return validate()
    except ValidationError as error:
        return explain(error)


def test_missing_contract_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="No such file"):
        load_source(tmp_path / "gone.yaml", lambda _: None)


ODD = ("9" * 17, "9" * 40, "0.00000000000000000001", "-1", "1e300", "0001-01-01", "9999-12-31")


@pytest.mark.parametrize("name", built_in_contracts())
def test_numbers_and_times_beyond_all_bounds_are_refused_and_never_a_crash(name: str) -> None:
    """Every number of every example in turn, and every time, as no receipt has it."""
    contract = load_source(find_contract(name), lambda _: ZoneInfo("Asia/Tokyo"))
    for example in contract.contract.examples:
        text = example.value if isinstance(example.value, str) else json.dumps(example.value)
        headers = [(header, value.encode()) for header, value in example.headers.items()]
        for pattern, odd in product((r"(?<![\w.-])\d+(\.\d+)?(?![\w.:-])", r"\d{4}-\d\d-\d\d"), ODD):
            for match in re.finditer(pattern, text):
                value = text[: match.start()] + odd + text[match.end() :]
                batch = Batch("t", 0, [FakeRecord(0, value.encode(), headers=headers)])
                arrivals, _, _ = decode(batch, contract)
                check(arrivals, NOON)


@pytest.mark.parametrize(
    ("field", "found", "detail"),
    [
        ("revision", "7", None),
        ("revision", "7.0", None),
        ("revision", 7, None),
        ("revision", "7.5", "revision: int_type"),
        ("revision", True, "revision: int_type"),
        ("tax_included", "false", None),
        ("tax_included", False, None),
        ("tax_included", "0", "lines.0.tax_included: bool_type"),
        ("tax_included", 0, "lines.0.tax_included: bool_type"),
        ("tax_included", "no", "lines.0.tax_included: bool_type"),
        ("occurred_at", 1700000000, "occurred_at: string_pattern_mismatch"),
        ("occurred_at", "2026-03-10 12:00:00Z", "occurred_at: string_pattern_mismatch"),
    ],
)
def test_contract_gives_a_field_its_type_or_the_event_is_refused(field: str, found: Any, detail: str | None) -> None:
    line = {"sku": "A", "quantity": "1", "unit_price": "3.00", "tax_rate": "0", "tax_included": True}
    body = {"revision": 7, "occurred_at": "2026-03-10T12:00:00Z", "line": line}
    (line if field == "tax_included" else body)[field] = found
    fields = {"store": "s", "register": "1", "receipt": "1", "currency": "EUR", "totals.gross": "3.00"}
    contract = {
        "contract": 1,
        "source": "shop",
        "kinds": [{"type": "sale"}],
        "fields": {name: {"value": text} for name, text in fields.items()}
        | {"revision": "revision", "occurred_at": "occurred_at"},
        "lines": [{"each": "line", "fields": {name: name for name in line}}],
    }
    made = Source(Contract.model_validate(contract), lambda _: None)
    arrivals, rejections, _ = decode(batch(json.dumps(body).encode()), made)
    assert [fault.detail for fault in rejections] == ([] if detail is None else [detail])
    assert [(a.event.revision, a.event.lines[0].get("tax_included")) for a in arrivals] == (
        [] if detail is not None else [(7, found not in ("false", False) if field == "tax_included" else True)]
    )
