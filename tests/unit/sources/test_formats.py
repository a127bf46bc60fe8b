"""Bytes of every format, right and wrong: a tree, or a reason; never a crash, and never a service to an attacker."""

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from schemas.contract import Contract
from schemas.dead_letter import Reason
from streams.decode import decode
from streams.sources.formats import RecordReader, UnreadableRecord, reader
from streams.sources.source import Source
from tests.support.events import FakeRecord, batch, event

FORMATS = ["json", "cloudevents", "xml", "csv", "avro", "json_schema"]


def reads(form: str, **how: Any) -> RecordReader:
    plain = {"contract": 1, "source": "s", "format": form, "kinds": [{"type": "sale"}]}
    return reader(Contract.model_validate(plain | how))


def refused(form: str, raw: bytes, **headers: str) -> tuple[Reason, str]:
    with pytest.raises(UnreadableRecord) as fault:
        read(form, raw, **headers)
    return fault.value.reason, fault.value.detail


def read(form: str, raw: bytes, **headers: str) -> Any:
    named = [(name.replace("content_type", "content-type"), value.encode()) for name, value in headers.items()]
    return reads(form)(FakeRecord(0, raw, headers=named))


# JSON


def test_fractions_of_json_are_text_as_written() -> None:
    assert read("json", b'{"a": 12.30, "b": 1e-2, "c": 7}') == {"a": "12.30", "b": "1e-2", "c": 7}


def test_byte_order_mark_before_json_is_left_out() -> None:
    assert read("json", b"\xef\xbb\xbf{}") == {}


@pytest.mark.parametrize(
    ("raw", "reason", "detail"),
    [
        ("{}".encode("utf-16"), Reason.INVALID_JSON, "not_utf_8"),
        ('{"a": "£"}'.encode("cp1252"), Reason.INVALID_JSON, "not_utf_8"),
        (b"\xef\xbb\xbf\xef\xbb\xbf{}", Reason.INVALID_JSON, "json_invalid"),
        (b"[" * 5_000_000, Reason.INVALID_JSON, "too_deeply_nested"),
        (b'{"a":' * 100_000, Reason.INVALID_JSON, "too_deeply_nested"),
        (b"1" * 5_000, Reason.INVALID_JSON, "json_invalid"),
        (b"NaN", Reason.INVALID_JSON, "json_invalid"),
        (b"{} {}", Reason.INVALID_JSON, "json_invalid"),
        (b'{"a": 1, "a": 2}', Reason.AMBIGUOUS_JSON, "duplicate_key"),
    ],
    ids=["utf-16", "cp1252", "two marks", "deep list", "deep object", "long number", "nan", "two texts", "key twice"],
)
def test_invalid_json_is_refused(raw: bytes, reason: Reason, detail: str) -> None:
    assert refused("json", raw) == (reason, detail)


def test_five_megabytes_are_read() -> None:
    assert len(read("json", b'{"a": "' + b"x" * 5_000_000 + b'"}')["a"]) == 5_000_000
    assert len(read("xml", b"<a>" + b"<b>1</b>" * 600_000 + b"</a>")) == 600_000


# CloudEvents

STRUCTURED = {"specversion": "1.0", "id": "7", "source": "/till", "type": "sale", "data": {"gross": 1}}
BINARY = {"ce_specversion": "1.0", "ce_id": "7", "ce_source": "/till", "ce_type": "sale"}


@pytest.mark.parametrize("media", ["", "application/cloudevents+json", "application/cloudevents+json; charset=UTF-8"])
def test_structured_cloudevent_is_its_value(media: str) -> None:
    headers = {"content_type": media} if media else {}
    assert read("cloudevents", json.dumps(STRUCTURED).encode(), **headers) == STRUCTURED


@pytest.mark.parametrize("media", ["", "application/json", "application/json; charset=utf-8", "application/vnd.x+json"])
def test_binary_cloudevent_is_as_the_structured_one(media: str) -> None:
    headers = BINARY | ({"content_type": media} if media else {})
    made = read("cloudevents", b'{"gross": 1}', **headers)
    assert {name: made[name] for name in STRUCTURED} == STRUCTURED
    assert made.get("datacontenttype", "") == media


def test_extensions_of_a_binary_cloudevent_are_attributes() -> None:
    assert read("cloudevents", b"{}", **BINARY, ce_storeid="9")["storeid"] == "9"


def test_structured_by_its_content_type_whatever_the_headers_say() -> None:
    headers = BINARY | {"ce_id": "another", "content_type": "application/cloudevents+json"}
    assert read("cloudevents", json.dumps(STRUCTURED).encode(), **headers)["id"] == "7"


def test_data_in_base64_is_its_json() -> None:
    encoded = {name: value for name, value in STRUCTURED.items() if name != "data"}
    encoded["data_base64"] = base64.b64encode(b'{"gross": 1.10}').decode()
    assert read("cloudevents", json.dumps(encoded).encode())["data"] == {"gross": "1.10"}


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"specversion": "0.3"}, "specversion: not_1"),
        ({"specversion": None}, "specversion: missing"),
        ({"id": None}, "id: missing"),
        ({"id": 7}, "id: not_a_text"),
        ({"id": ""}, "id: not_a_text"),
        ({"type": None}, "type: missing"),
        ({"datacontenttype": "application/xml"}, "datacontenttype: not_json"),
        ({"datacontenttype": "text/plain"}, "datacontenttype: not_json"),
        ({"datacontenttype": "application/json; charset=latin-1"}, "datacontenttype: not_utf_8"),
        ({"data_base64": "e30="}, "data_base64: beside_data"),
    ],
)
def test_invalid_cloudevent_is_refused_by_its_attribute(changes: dict[str, Any], detail: str) -> None:
    raw = json.dumps(STRUCTURED | changes).encode()
    assert refused("cloudevents", raw) == (Reason.SCHEMA_MISMATCH, detail)


@pytest.mark.parametrize("encoded", ["?", "e30", 7, [], "é"])
def test_invalid_base64_is_refused(encoded: Any) -> None:
    plain = {name: value for name, value in STRUCTURED.items() if name != "data"} | {"data_base64": encoded}
    assert refused("cloudevents", json.dumps(plain).encode()) == (
        Reason.SCHEMA_MISMATCH,
        "data_base64: not_base64",
    )


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        (BINARY | {"content_type": "application/avro"}, "datacontenttype: not_json"),
        (BINARY | {"ce_id": ""}, "id: not_a_text"),
        ({"content_type": "application/cloudevents+avro"}, "content-type: not_json"),
        ({"content_type": "application/cloudevents-batch+json"}, "content-type: not_json"),
        ({}, "specversion: missing"),
    ],
)
def test_invalid_binary_event_is_refused(headers: dict[str, str], detail: str) -> None:
    assert refused("cloudevents", b"{}", **headers) == (Reason.SCHEMA_MISMATCH, detail)


def test_undecodable_or_contradictory_headers_are_refused() -> None:
    plain = [(name, value.encode()) for name, value in BINARY.items()]
    for more, detail in (
        (("ce_id", b"8"), "(a header): given_twice"),
        (("ce_storeid", b"\xff"), "(a header): not_utf_8"),
    ):
        with pytest.raises(UnreadableRecord) as fault:
            reads("cloudevents")(FakeRecord(0, b"{}", headers=[*plain, more]))
        assert fault.value.detail == detail


def test_header_without_a_value_is_ignored() -> None:
    headers: Any = [*((name, value.encode()) for name, value in BINARY.items()), ("ce_note", None), ("x", b"\xff")]
    assert "note" not in reads("cloudevents")(FakeRecord(0, b"{}", headers=headers))


def test_id_of_a_cloudevent_is_the_events() -> None:
    plain = event()
    del plain["event_id"]
    paths = {"event_id": "id"} | {name: f"data.{name}" for name in ("store", "register", "receipt", "currency")}
    contract = {
        "contract": 1,
        "source": "till",
        "format": "cloudevents",
        "kinds": [{"when": {"path": "type", "is": "sale"}, "type": "sale"}],
        "fields": paths | {"occurred_at": "data.occurred_at", "totals.gross": "data.totals.gross"},
    }
    source = Source(Contract.model_validate(contract), lambda _: None)
    records = batch(json.dumps(plain).encode())
    records.records[0].headers.extend((name, value.encode()) for name, value in BINARY.items())  # type: ignore[attr-defined]  # a FakeRecord's list
    arrivals, rejections, _ = decode(records, source)
    assert not rejections
    assert arrivals[0].id == "till:7"


# XML


def text_of(raw: bytes) -> str:
    return "".join(read("xml", raw).itertext())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_encoding_that_xml_declares_is_taken(encoding: str) -> None:
    assert text_of(f'<?xml version="1.0" encoding="{encoding}"?><a>£</a>'.encode(encoding)) == "£"


def test_byte_order_mark_before_xml_is_left_out() -> None:
    assert text_of("\ufeff<a>1</a>".encode()) == "1"


def test_comments_do_not_split_a_value() -> None:
    assert text_of(b"<a>0.<!-- rough -->94<?x y?></a>") == "0.94"


def test_attribute_goes_before_one_of_another_namespace() -> None:
    assert read("xml", b'<a xmlns:x="u" x:b="1" b="2" x:c="3"/>').attrib == {"b": "2", "c": "3"}


def test_namespaces_are_kept_where_the_contract_has_prefixes() -> None:
    element = reads("xml", xml={"namespaces": {"p": "u"}})(FakeRecord(0, b'<a xmlns="u"/>'))
    assert element.tag == "{u}a"


BOMB = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "ha"}">' for n in range(10))


@pytest.mark.parametrize("body", ["<a>&e9;</a>", '<a b="&e9;"/>', "<a/>"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("before", ["", " " * 5_000], ids=["at the front", "far behind"])
def test_entities_are_never_expanded(body: str, encoding: str, before: str) -> None:
    raw = f'<?xml version="1.0" encoding="{encoding}"?>{before}<!DOCTYPE a [{BOMB}]>{body}'.encode(encoding)
    reason, detail = refused("xml", raw)
    assert reason is Reason.INVALID_XML
    assert detail in ("doctype_not_allowed", "not_well_formed")


def test_files_and_addresses_are_never_opened() -> None:
    raw = b" " * 0 + b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/hostname">]><a>&e;</a>'
    assert refused("xml", raw) == (Reason.INVALID_XML, "doctype_not_allowed")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"<a>",
        b"<a></b>",
        b"\xff\xfe",
        b"<a>\xff</a>",
        b"<a>" * 100_000,
        b'<?xml version="1.0" encoding="x"?><a/>',
    ],
    ids=["empty", "json", "open", "crossed", "no text", "no utf-8", "deep", "unknown encoding"],
)
def test_invalid_xml_is_refused(raw: bytes) -> None:
    assert refused("xml", raw) == (Reason.INVALID_XML, "not_well_formed")


# Rows


@pytest.mark.parametrize("raw", [b"[]", b"{}", b'{"rows": []}', b'{"rows": [1]}', b'{"rows": {"a": "b"}}', b"null"])
def test_record_without_rows_is_refused(raw: bytes) -> None:
    assert refused("csv", raw) == (Reason.SCHEMA_MISMATCH, "rows: not_a_list_of_rows")


# Anything


@pytest.mark.parametrize("form", FORMATS)
@given(raw=st.binary(max_size=80))
def test_any_bytes_are_a_tree_or_unreadable(form: str, raw: bytes) -> None:
    with suppress(UnreadableRecord):
        read(form, raw)


names = st.sampled_from([*BINARY, "content-type", "ce_x", "other"])
header_lists = st.lists(
    st.tuples(names, st.none() | st.binary(max_size=12) | st.just(b"1.0") | st.just(b"application/json"))
)


@given(st.binary(max_size=20) | st.just(b"{}") | st.just(json.dumps(STRUCTURED).encode()), header_lists)
def test_any_headers_are_a_cloudevent_or_unreadable(raw: bytes, headers: Any) -> None:
    with suppress(UnreadableRecord):
        reads("cloudevents")(FakeRecord(0, raw, headers=headers))


SCRAPS = "< > / & ; a b = \" ' ! ? [ ] -- <a <b> </a> </b> xmlns:x x:a <!DOCTYPE <!ENTITY &#0; &lt; 1"
scraps = st.sampled_from(SCRAPS.split())


@given(st.lists(scraps, max_size=25))
def test_any_scraps_of_xml_are_an_element_or_unreadable(parts: list[str]) -> None:
    with suppress(UnreadableRecord):
        assert isinstance(read("xml", "".join(parts).encode()), etree._Element)


def test_value_too_deep_to_be_written_again_is_a_dead_letter() -> None:
    contract = {"contract": 1, "source": "s", "kinds": [{"type": "sale"}], "fields": {"cashier": "@"}}
    source = Source(Contract.model_validate(contract), lambda _: None)
    for depth in range(300, 1000):
        _, rejections, _ = decode(batch(b"[" * depth + b"]" * depth), source)
        assert len(rejections) == 1
