"""Read a record's bytes as a tree: JSON values, or an XML element. Unreadable records have a reason and a detail.

- `json`: one JSON text in UTF-8. Numbers with a fraction become text.
- `cloudevents`: a CloudEvent 1.0 in either Kafka binding, in its structured form: its attributes, and `data`.
- `avro`, `json_schema`: Confluent's wire format (`streams.sources.schema_registry`). Without a registry, as in a
  contract's examples, records are written as the equivalent JSON.
- `xml`: an element; no document type, no entities.
- `csv`: the rows of one receipt, as `streams.sources.rows` builds them from a file: `{"rows": [{column: text, …}, …]}`.
"""

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any

from lxml import etree

from schemas.contract import Contract
from schemas.dead_letter import Reason
from streams.batch import Record

RecordReader = Callable[[Record], Any]
_BOM = b"\xef\xbb\xbf"
#: Limit on the objects in one JSON text. A receipt has dozens; millions of empty ones fit into a record and take
#: seconds to read.
MAX_OBJECTS = 500_000


class UnreadableRecord(Exception):
    """The record's bytes are not in the contract's format."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def reader(contract: Contract) -> RecordReader:
    """Return the function that reads a record's value in the contract's format and raises UnreadableRecord."""
    if contract.format == "xml":
        return _xml_reader(ignore_namespaces=contract.xml.namespaces == "ignore")
    if contract.format == "cloudevents":
        return read_cloudevent
    if contract.format == "csv":
        return read_rows
    return read_json


def read_json(record: Record) -> Any:
    """Read JSON. Numbers with a fraction become text, so that amounts stay exact."""
    return parse_json(record.value or b"")


def parse_json(value: bytes, fraction: Callable[[str], Any] = str) -> Any:
    """Parse one JSON text in UTF-8. `fraction` converts numbers that are not whole. Raises UnreadableRecord."""
    if value.count(b"{") > MAX_OBJECTS:
        raise UnreadableRecord(Reason.INVALID_JSON, "too_many_objects")
    try:
        text = value.removeprefix(_BOM).decode()
        return json.loads(text, parse_float=fraction, parse_constant=_no_number, object_pairs_hook=_no_key_twice)
    except _DuplicateMember:
        raise UnreadableRecord(Reason.AMBIGUOUS_JSON, "duplicate_key") from None
    except RecursionError:
        raise UnreadableRecord(Reason.INVALID_JSON, "too_deeply_nested") from None
    except UnicodeDecodeError:
        raise UnreadableRecord(Reason.INVALID_JSON, "not_utf_8") from None
    except ValueError:  # also integers of thousands of digits
        raise UnreadableRecord(Reason.INVALID_JSON, "json_invalid") from None


class _DuplicateMember(Exception):
    pass


def _no_number(_: str) -> None:
    raise ValueError


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise _DuplicateMember
    return keys


def read_rows(record: Record) -> Any:
    """Read the rows of one receipt."""
    tree = read_json(record)
    rows = tree.get("rows") if isinstance(tree, dict) else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UnreadableRecord(Reason.SCHEMA_MISMATCH, "rows: not_a_list_of_rows")
    return tree


def read_cloudevent(record: Record) -> Any:
    """Read a CloudEvent from either of the two Kafka bindings, and return it in its structured form.

    Structured: the value is the event. Binary: attributes are `ce_…` headers, and the value is the data.
    """
    headers = _headers(record)
    media = headers.get("content-type", "")
    if media.lower().startswith("application/cloudevents") or "ce_specversion" not in headers:
        if media.lower().startswith("application/cloudevents") and not _is_json(media):
            raise UnreadableRecord(Reason.SCHEMA_MISMATCH, "content-type: not_json")
        event = read_json(record)
        if not isinstance(event, dict):
            raise UnreadableRecord(Reason.SCHEMA_MISMATCH, "(the whole value): no_cloudevent")
        _check_attributes(event)
        return _with_data(event)
    event = {name[3:]: value for name, value in headers.items() if name.startswith("ce_")}
    _check_attributes(event)
    if media:
        event["datacontenttype"] = media
        _check_media(media)
    return event | {"data": read_json(record)}


def _headers(record: Record) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in record.headers:
        if value is None or not (name.startswith("ce_") or name.lower() == "content-type"):
            continue
        name = name if name.startswith("ce_") else "content-type"
        try:
            text = value.decode()
        except UnicodeDecodeError:
            raise UnreadableRecord(Reason.SCHEMA_MISMATCH, "(a header): not_utf_8") from None
        if headers.setdefault(name, text) != text:
            raise UnreadableRecord(Reason.SCHEMA_MISMATCH, "(a header): given_twice")
    return headers


def _check_attributes(event: dict[str, Any]) -> None:
    for name in ("specversion", "id", "source", "type"):
        value = event.get(name)
        if not isinstance(value, str) or not value:
            raise UnreadableRecord(Reason.SCHEMA_MISMATCH, f"{name}: {'missing' if value is None else 'not_a_text'}")
    if not event["specversion"].startswith("1."):
        raise UnreadableRecord(Reason.SCHEMA_MISMATCH, "specversion: not_1")


def _with_data(event: dict[str, Any]) -> dict[str, Any]:
    media = event.get("datacontenttype")
    if media is not None:
        _check_media(str(media))
    encoded = event.get("data_base64")
    if encoded is None:
        return event
    if "data" in event:
        raise UnreadableRecord(Reason.SCHEMA_MISMATCH, "data_base64: beside_data")
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise UnreadableRecord(Reason.SCHEMA_MISMATCH, "data_base64: not_base64") from None
    return event | {"data": parse_json(data)}


def _check_media(media: str) -> None:
    if not _is_json(media):
        raise UnreadableRecord(Reason.SCHEMA_MISMATCH, "datacontenttype: not_json")
    charset = media.lower().partition("charset=")[2].strip(' "')
    if charset not in ("", "utf-8", "utf8", "us-ascii"):
        raise UnreadableRecord(Reason.SCHEMA_MISMATCH, "datacontenttype: not_utf_8")


def _is_json(media: str) -> bool:
    kind = media.partition(";")[0].strip().lower()
    return kind.endswith(("/json", "+json")) and not kind.endswith("-batch+json")


def _xml_reader(*, ignore_namespaces: bool) -> RecordReader:
    # No entities, no network, and libxml2's own limits on depth and size: the input is not trusted.
    options: dict[str, Any] = {
        "resolve_entities": False,
        "no_network": True,
        "remove_comments": True,
        "remove_pis": True,
    }

    def read(record: Record) -> Any:
        value = record.value or b""
        if b"<!DOCTYPE" in value[:4096]:  # cheap check before parsing; the one after parsing catches the rest
            raise UnreadableRecord(Reason.INVALID_XML, "doctype_not_allowed")
        try:
            root = etree.fromstring(value, etree.XMLParser(**options))
        except (etree.XMLSyntaxError, ValueError, LookupError):
            raise UnreadableRecord(Reason.INVALID_XML, "not_well_formed") from None
        if root.getroottree().docinfo.doctype:
            raise UnreadableRecord(Reason.INVALID_XML, "doctype_not_allowed")
        if ignore_namespaces:
            for element in root.iter(etree.Element):
                _localise(element)
        return root

    return read


def _localise(element: Any) -> None:
    if element.tag[0] == "{":
        element.tag = element.tag.rpartition("}")[2]
    for name in element.keys():  # noqa: SIM118 (an element's attributes, not its children)
        if name[0] == "{":
            value = element.attrib.pop(name)
            local = name.rpartition("}")[2]
            if local not in element.attrib:  # an attribute without a namespace takes precedence
                element.attrib[local] = value
