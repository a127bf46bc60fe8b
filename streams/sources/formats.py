"""Bytes to a record's tree: JSON values, or an XML element. What can't be read is refused with reason and detail."""

import json
from collections.abc import Callable
from typing import Any

from lxml import etree

from schemas.contract import Contract
from schemas.deadletter import Reason
from streams.batch import Record

Read = Callable[[Record], Any]


class Unreadable(Exception):
    """The record's bytes are not in the contract's format."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def reader(contract: Contract) -> Read:
    """What reads a record's value in the contract's format; raises Unreadable."""
    if contract.format == "xml":
        return _xml_reader(ignore_namespaces=contract.xml.namespaces == "ignore")
    if contract.format == "cloudevents":
        return read_cloudevent
    return read_json


def read_json(record: Record) -> Any:
    """JSON; numbers with a fraction are their text, so that no cent is lost in them."""
    return parse_json(record.value or b"")


def parse_json(value: bytes) -> Any:
    """One JSON text in UTF-8. Raises Unreadable."""
    try:
        return json.loads(value.decode(), parse_float=str, parse_constant=_no_number, object_pairs_hook=_no_key_twice)
    except _KeyTwice:
        raise Unreadable(Reason.AMBIGUOUS_JSON, "duplicate_key") from None
    except RecursionError:
        raise Unreadable(Reason.INVALID_JSON, "too_deeply_nested") from None
    except ValueError:  # also what is not UTF-8, and integers of thousands of digits
        raise Unreadable(Reason.INVALID_JSON, "json_invalid") from None


class _KeyTwice(Exception):
    pass


def _no_number(_: str) -> None:
    raise ValueError


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise _KeyTwice
    return keys


def read_cloudevent(record: Record) -> Any:
    """A CloudEvent as in its structured form, in whichever of the two Kafka bindings it comes.

    Structured: the value is the event, with `data` in it. Binary: attributes are headers `ce_…`, the value is the data.
    """
    headers = dict(record.headers)
    if "ce_specversion" not in headers:
        event = read_json(record)
        if not isinstance(event, dict) or "specversion" not in event:
            raise Unreadable(Reason.SCHEMA_MISMATCH, "specversion: missing")
        return event
    try:
        attributes = {name[3:]: value.decode() for name, value in record.headers if name.startswith("ce_")}
    except UnicodeDecodeError:
        raise Unreadable(Reason.SCHEMA_MISMATCH, "(a ce_ header): not_utf_8") from None
    return attributes | {"data": read_json(record)}


def _xml_reader(*, ignore_namespaces: bool) -> Read:
    # No entities, no network, and libxml2's own limits on depth and size: the file is a stranger's.
    options: dict[str, Any] = {
        "resolve_entities": False,
        "no_network": True,
        "remove_comments": True,
        "remove_pis": True,
    }

    def read(record: Record) -> Any:
        try:
            root = etree.fromstring(record.value or b"", etree.XMLParser(**options))
        except (etree.XMLSyntaxError, ValueError):
            raise Unreadable(Reason.INVALID_XML, "not_well_formed") from None
        if root.getroottree().docinfo.doctype:
            raise Unreadable(Reason.INVALID_XML, "doctype_not_allowed")
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
            if local not in element.attrib:  # an element's own attribute goes before one of another namespace
                element.attrib[local] = value
