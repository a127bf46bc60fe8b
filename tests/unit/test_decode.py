"""Any bytes at all end as an event, a tombstone or a rejection with one clear detail; never as a crash."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.deadletter import Reason
from streams.decode import decode
from tests.support.events import batch, event, value


def reject(raw: bytes) -> tuple[Reason, str]:
    arrivals, rejections, tombstones = decode(batch(raw))
    assert not arrivals
    assert not tombstones
    return rejections[0].reason, rejections[0].detail


def changed(path: list[Any], new: Any) -> bytes:
    plain = event()
    place: Any = plain
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = new
    return json.dumps(plain).encode()


def test_valid_event_is_an_arrival_with_its_identity() -> None:
    arrivals, rejections, _ = decode(batch(value(7)))
    assert [arrival.id for arrival in arrivals] == ["pos:e-7"]
    assert not rejections


def test_identity_without_event_id_is_the_natural_key() -> None:
    arrivals, _, _ = decode(batch(value(7, event_id=None, revision=2)))
    assert arrivals[0].id == "pos:S1/R1/7/sale/2"


def test_tombstone_is_noted() -> None:
    _, rejections, tombstones = decode(batch(None))
    assert len(tombstones) == 1
    assert not rejections


@pytest.mark.parametrize(
    "raw",
    [b"", b" ", b"{", b"\xff\xfe", b'{"a":"\\ud800"}', b"[" * 100_000, value()[:-1], value() + value(), b"\x00" * 10],
    ids=["empty", "blank", "cut", "no utf-8", "lone surrogate", "deep", "cut off", "two texts", "zeros"],
)
def test_no_json_is_invalid_json(raw: bytes) -> None:
    assert reject(raw) == (Reason.INVALID_JSON, "json_invalid")


@pytest.mark.parametrize("raw", [b"null", b"[]", b"1", b'"x"', b"{}"])
def test_json_of_another_shape_is_schema_mismatch(raw: bytes) -> None:
    assert reject(raw)[0] is Reason.SCHEMA_MISMATCH


@pytest.mark.parametrize(
    ("path", "new", "detail"),
    [
        (["occurred_at"], "2026-03-10T12:00:00", "occurred_at: timezone_aware"),
        (["type"], "gift", "type: literal_error"),
        (["store"], 5, "store: string_type"),
        (["store"], "", "store: string_too_short"),
        (["currency"], "eur", "currency: string_pattern_mismatch"),
        (["lines", 0, "quantity"], float("nan"), "lines.0.quantity: string_pattern_mismatch"),
        (["lines", 0, "quantity"], "Infinity", "lines.0.quantity: string_pattern_mismatch"),
        (["lines", 0, "unit_price"], "one", "lines.0.unit_price: string_pattern_mismatch"),
        (["lines", 0, "unit_price"], True, "lines.0.unit_price: string_type"),
        (["totals", "gross"], "3." + "0" * 63, "totals.gross: string_too_long"),
        (["revision"], -1, "revision: greater_than_equal"),
        (["totals"], {}, "totals.gross: missing"),
    ],
)
def test_detail_names_the_field_and_the_kind_of_fault(path: list[Any], new: Any, detail: str) -> None:
    assert reject(changed(path, new)) == (Reason.SCHEMA_MISMATCH, detail)


def test_detail_never_contains_a_value() -> None:
    secret = "4929-1234-5678-9012"
    raw = changed(["customer"], {"name": {"first": secret}, "id": 5, secret: secret})
    assert secret not in reject(raw)[1]


def test_further_faults_are_counted() -> None:
    raw = json.dumps(event(store=1, source=2)).encode()
    assert reject(raw)[1].endswith("(and 1 more)")


@pytest.mark.parametrize(
    "raw",
    [
        value()[:-1] + b',"store":"S9"}',
        value()[:-1] + b', "store" : "S9"}',
        value().replace(b'"sku":"A"', b'"sku":"A","quantity":"9"'),
        value()[:-1] + b',"extra":{"a":1,"a":2}}',
        # one key hidden by a space before its colon, one given twice: as many '":' as fields
        value().replace(b'"source":', b'"source" :')[:-1] + b',"store":"S9"}',
    ],
)
def test_key_given_twice_is_ambiguous(raw: bytes) -> None:
    assert reject(raw) == (Reason.AMBIGUOUS_JSON, "duplicate_key")


def test_unknown_fields_are_ignored() -> None:
    arrivals, _, _ = decode(batch(value(1, loyalty={"level": 3, 'quoted":': [1]})))
    assert len(arrivals) == 1


def test_nul_character_is_rejected_and_its_written_out_form_is_not() -> None:
    assert reject(value(1, cashier="a\x00b")) == (Reason.SCHEMA_MISMATCH, "(a text): nul_character")
    arrivals, _, _ = decode(batch(value(1, cashier="a\\u0000b"), value(2, other="\x00")))
    assert len(arrivals) == 2


def test_five_megabytes_of_anything_are_decided() -> None:
    assert reject(b'{"a":"' + b"x" * 5_000_000 + b'"}')[0] is Reason.SCHEMA_MISMATCH
    assert reject(b"\x80" * 5_000_000)[0] is Reason.INVALID_JSON


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@given(st.binary(max_size=200))
def test_any_bytes_end_somewhere(raw: bytes) -> None:
    arrivals, rejections, tombstones = decode(batch(raw))
    assert len(arrivals) + len(rejections) + len(tombstones) == 1


@given(st.sampled_from(sorted(event())), json_values)
@example("lines", [{"sku": "A"}] * 20)
def test_any_value_in_any_field_ends_somewhere(field: str, new: Any) -> None:
    raw = json.dumps(event() | {field: new}).encode()
    arrivals, rejections, _ = decode(batch(raw))
    assert len(arrivals) + len(rejections) == 1


@given(st.binary(max_size=3), st.integers(0, len(value())))
def test_any_damage_to_a_valid_record_ends_somewhere(damage: bytes, place: int) -> None:
    raw = value()
    arrivals, rejections, _ = decode(batch(raw[:place] + damage + raw[place + len(damage) :]))
    assert len(arrivals) + len(rejections) == 1
