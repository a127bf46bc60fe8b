"""Any bytes at all end as an event, a tombstone or a rejection with one clear detail; never as a crash."""

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.dead_letter import Reason
from schemas.sale import SaleEvent
from streams.batch import DIGEST
from streams.decode import decode, stated_fields
from streams.sources.canonical import CANONICAL
from streams.sources.source import RefusedRecord, SkippedPart, Source
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


def test_tombstone_is_skipped() -> None:
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


class Parts:
    """A source whose records hold JSON lists of parts: events, and words for parts that are not events."""

    is_canonical = False

    def events(self, record: Any) -> Iterator[dict[str, Any] | SkippedPart | RefusedRecord]:
        for part in json.loads(record.value):
            match part:
                case "skip":
                    yield SkippedPart("a copy")
                case "refuse":
                    yield RefusedRecord(Reason.UNPLACED_RECORD, "kind: unknown")
                case "break":
                    raise RefusedRecord(Reason.UNCONVERTIBLE_VALUE, "events: not_found")
                case "deep":
                    raise RecursionError
                case _:
                    yield part


def parts(*said: Any) -> bytes:
    return json.dumps(said).encode()


def outcomes(*values: bytes | None, source: bool) -> tuple[list[Any], list[Any], list[Any]]:
    arrivals, rejections, skipped = decode(batch(*values), cast(Source, Parts()) if source else CANONICAL)
    return (
        [(arrival.record.value, arrival.event, arrival.id, arrival.digest) for arrival in arrivals],
        [(one.record.value, one.reason, one.detail, one.stage, one.event) for one in rejections],
        [(one.record.value, one.why) for one in skipped],
    )


BY_ITSELF = [
    None, b"{", value(1), value(2), value(3, store=5), value(4)[:-1] + b',"store":"S9"}', value(5, cashier="a\0b"),
]  # fmt: skip
OF_SOURCE = [
    None, parts(event(1)), parts(event(2), "skip", event(3)), parts("refuse", event(4)), parts(event(5), "break"),
    parts("deep"), parts(event(6, store=5), event(7)), parts(event(8, cashier="a\0b"), event(9)), parts(),
]  # fmt: skip


@pytest.mark.parametrize(("source", "records"), [(False, BY_ITSELF), (True, OF_SOURCE)], ids=["canonical", "source"])
def test_record_is_decoded_in_a_batch_as_by_itself(source: bool, records: list[bytes | None]) -> None:
    """Whatever comes before it or after it."""
    alone = [outcomes(record, source=source) for record in records]
    for order in (records, records[::-1]):
        expected = alone if order is records else alone[::-1]
        together = outcomes(*order, source=source)
        assert together == tuple([one for kind in column for one in kind] for column in zip(*expected, strict=True))


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("refuse", (Reason.UNPLACED_RECORD, "kind: unknown")),
        ("break", (Reason.UNCONVERTIBLE_VALUE, "events: not_found")),
        ("deep", (Reason.UNCONVERTIBLE_VALUE, "(a value): too_deeply_nested")),
        (event(store=5), (Reason.SCHEMA_MISMATCH, "store: string_type")),
        (event(cashier="a\0b"), (Reason.SCHEMA_MISMATCH, "(a text): nul_character")),
    ],
)
def test_part_that_is_no_event_is_rejected_with_its_reason(part: Any, expected: tuple[Reason, str]) -> None:
    arrivals, rejections, skipped = outcomes(parts(part, event(2)), source=True)
    assert [one[1:4] for one in rejections] == [(*expected, "decode")]
    assert len(arrivals) == (0 if part in ("break", "deep") else 1)
    assert not skipped


def test_part_that_is_skipped_is_skipped_with_the_contracts_word() -> None:
    assert outcomes(parts("skip"), source=True)[2] == [(parts("skip"), "a copy")]


def test_tombstones_and_why_they_are_skipped() -> None:
    assert outcomes(None, source=False)[2] == outcomes(None, source=True)[2] == [(None, "tombstone")]


def digests(*values: bytes, source: bool = True) -> list[bytes]:
    return [arrival[3] for arrival in outcomes(*values, source=source)[0]]


def test_digest_is_of_the_records_bytes() -> None:
    assert digests(value(1), source=False) == [sha256(value(1)).digest()[:DIGEST]]
    assert digests(parts(event(1))) == [sha256(parts(event(1))).digest()[:DIGEST]]


def test_each_event_of_a_record_has_its_own_digest_and_the_same_whenever_it_is_read() -> None:
    several = parts(*[event(1)] * 12)
    found = digests(several)
    assert found[0] == sha256(several).digest()[:DIGEST]
    assert len({*found}) == 12
    assert digests(several) == found
    assert not {*found} & {*digests(parts(*[event(1)] * 11))}


def test_digest_of_a_place_is_stable_across_versions() -> None:
    """Windows on disk hold them: another would let every re-sent record through to the sink."""
    several = parts(event(1), event(2), event(3))
    assert digests(several)[2] == sha256(several + b"\x002").digest()[:DIGEST]


@pytest.mark.parametrize("written", [b"\\u0000", b"\0"])
def test_nul_in_a_record_and_in_none_of_its_texts_is_no_fault(written: bytes) -> None:
    class Around(Parts):
        def events(self, record: Any) -> Iterator[dict[str, Any] | SkippedPart | RefusedRecord]:
            yield event(1)
            yield event(2, cashier="a\0b")

    arrivals, rejections, _ = decode(batch(written), cast(Source, Around()))
    assert [arrival.id for arrival in arrivals] == ["pos:e-1"]
    assert [rejection.detail for rejection in rejections] == ["(a text): nul_character"]


def test_rejection_of_a_record_that_could_be_read_has_its_event() -> None:
    raw = value(1)[:-1] + b',"store":"S9"}'
    (ambiguous,) = decode(batch(raw))[1]
    assert ambiguous.event is not None
    (nul,) = decode(batch(parts(event(1, cashier="a\0b"))), cast(Source, Parts()))[1]
    assert nul.event is not None


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        (json.dumps(event(store=1)).encode(), "store: string_type"),
        (json.dumps(event(store=1, source=2)).encode(), "source: string_type (and 1 more)"),
        (json.dumps(event(store=1, source=2, receipt=3)).encode(), "source: string_type (and 2 more)"),
        (b"[]", "(the whole value): model_type"),
    ],
)
def test_first_fault_is_named_and_further_ones_are_counted(raw: bytes, detail: str) -> None:
    assert reject(raw) == (Reason.SCHEMA_MISMATCH, detail)


FULL: dict[str, Any] = event(
    cashier="Ada",
    customer={"id": "C7", "name": "N"},
    original={"store": "S2", "register": "R7", "receipt": "9"},
    lines=[
        event()["lines"][0],
        event()["lines"][0] | {"discounts": [{"amount": "0.10"}, {"amount": "0.20", "reason": "coupon"}]},
    ],
    tenders=[{"kind": "cash", "amount": "1.00"}, {"kind": "card", "amount": "2.00"}],
    totals={"gross": "3.00", "net": "2.52", "tax": "0.48"},
)


def keys(said: Any) -> int:
    if isinstance(said, dict):
        return len(said) + sum(map(keys, said.values()))
    return sum(map(keys, said)) if isinstance(said, list) else 0


@pytest.mark.parametrize("without", [(), ("customer",), ("original",), ("lines",), ("tenders",), ("customer", "lines")])
def test_keys_of_an_event_are_counted_as_they_stand_in_its_text(without: tuple[str, ...]) -> None:
    said = {name: part for name, part in FULL.items() if name not in without}
    assert stated_fields(SaleEvent.model_validate(said)) == keys(said)


@pytest.mark.parametrize("depth", [150, 250, 5_000])
def test_key_given_twice_is_seen_at_any_depth_and_no_depth_is_fatal(depth: int) -> None:
    def nested(inside: bytes) -> bytes:
        return value()[:-1] + b',"extra":' + b"[" * depth + inside + b"]" * depth + b"}"

    if depth < 200:
        assert len(decode(batch(nested(b'{"a":1}')))[0]) == 1
        assert reject(nested(b'{"a":1,"a":2}')) == (Reason.AMBIGUOUS_JSON, "duplicate_key")
    else:
        assert reject(nested(b"{}")) == (Reason.INVALID_JSON, "json_invalid")
