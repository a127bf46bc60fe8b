"""Bytes to events: one validation path, one clear detail per failure, never a value in it."""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from schemas.codes import SUSPICIOUS, is_damaged
from schemas.dead_letter import Reason
from schemas.sale import SaleEvent
from schemas.strict import CHOICE
from streams.batch import DIGEST, Arrival, Batch, Record, Rejection, Skipped
from streams.sources.canonical import CANONICAL, RecordSource
from streams.sources.formats import MAX_OBJECTS
from streams.sources.source import RefusedRecord, SkippedPart, Source

if TYPE_CHECKING:
    from hashlib import _Hash

DUPLICATE_KEY = (Reason.AMBIGUOUS_JSON, "duplicate_key")
NUL = (Reason.SCHEMA_MISMATCH, "(a text): nul_character")
TOO_MANY = (Reason.INVALID_JSON, "too_many_objects")
TOO_DEEP = (Reason.UNCONVERTIBLE_VALUE, "(a value): too_deeply_nested")
_WHITE_SPACE = b" \t\r\n"


def decode(batch: Batch, source: RecordSource = CANONICAL) -> tuple[list[Arrival], list[Rejection], list[Skipped]]:
    """Return valid events, rejections and skipped records."""
    arrivals: list[Arrival] = []
    rejections: list[Rejection] = []
    skipped: list[Skipped] = []
    validate = SaleEvent.model_validate_json
    for record in batch.records:
        value = record.value
        if value is None:
            skipped.append(Skipped(record, "tombstone"))
            continue
        if len(value) > MAX_OBJECTS and value.count(b"{") > MAX_OBJECTS:
            rejections.append(Rejection(record, *TOO_MANY, "decode"))
            continue
        if not source.is_canonical:
            _decode_converted(record, value, source, arrivals, rejections, skipped)
            continue
        try:
            event = validate(value)
        except ValidationError as error:
            reason, detail = explain(error)
            rejections.append(Rejection(record, reason, detail, "decode"))
            continue
        fault = ambiguity(event, value) or damaged_code(event)
        if fault is not None:
            rejections.append(Rejection(record, *fault, "decode", event))
            continue
        arrivals.append(Arrival(record, event, event.identity, sha256(value).digest()[:DIGEST]))
    return arrivals, rejections, skipped


def _decode_converted(
    record: Record,
    value: bytes,
    source: Source,
    arrivals: list[Arrival],
    rejections: list[Rejection],
    skipped: list[Skipped],
) -> None:
    """Convert a record by the source's contract, and validate its events as canonical ones.

    A record may hold several events; each has its own digest, since their outcomes may differ.
    """
    digest = sha256(value)
    try:
        for index, part in enumerate(source.events(record)):
            if isinstance(part, SkippedPart):
                skipped.append(Skipped(record, part.why))
            elif isinstance(part, RefusedRecord):
                rejections.append(Rejection(record, part.reason, part.detail, "decode"))
            else:
                _validate_part(record, value, part, digest, index, arrivals, rejections)
    except RefusedRecord as fault:
        rejections.append(Rejection(record, fault.reason, fault.detail, "decode"))
    except RecursionError:
        rejections.append(Rejection(record, *TOO_DEEP, "decode"))


def _validate_part(
    record: Record,
    value: bytes,
    part: dict[str, Any],
    digest: "_Hash",
    index: int,
    arrivals: list[Arrival],
    rejections: list[Rejection],
) -> None:
    try:
        event = SaleEvent.model_validate(part)
    except ValidationError as error:
        rejections.append(Rejection(record, *explain(error), "decode"))
        return
    if (b"\\u0000" in value or b"\0" in value) and has_nul(event):
        rejections.append(Rejection(record, *NUL, "decode", event))
        return
    fault = damaged_code(event)
    if fault is not None:
        rejections.append(Rejection(record, *fault, "decode", event))
        return
    if index:
        digest = digest.copy()
        digest.update(b"\0%d" % index)
    arrivals.append(Arrival(record, event, event.identity, digest.digest()[:DIGEST]))


def explain(error: ValidationError) -> tuple[Reason, str]:
    """Return reason and detail of a record's first fault: `field.path: kind` and the number of others, no value."""
    faults = error.errors()
    # A path holds only field names of the model and indexes: unknown keys are ignored by the model.
    kinds: dict[str, str] = {}
    for fault in faults:
        path, kind = path_of(fault), fault["type"]
        if kinds.get(path, "string_type") == "string_type":  # a more specific kind of fault replaces this one
            kinds[path] = kind
    path, kind = next(iter(kinds.items()))
    if kind == "json_invalid":
        return Reason.INVALID_JSON, kind
    more = f" (and {len(kinds) - 1} more)" if len(kinds) > 1 else ""
    return Reason.SCHEMA_MISMATCH, f"{path or '(the whole value)'}: {kind}{more}"


def path_of(fault: ErrorDetails) -> str:
    """Return the path of the faulty field, without the name of the type that was tried for it."""
    return ".".join(str(step) for step in fault["loc"] if not str(step).startswith(CHOICE))


def ambiguity(event: SaleEvent, value: bytes) -> tuple[Reason, str] | None:
    """Return the fault if the record has duplicate keys or NUL characters, which a parser accepts and an ERP must not.

    A cheap test comes first: a record has as many `":` as the event has fields, white space aside, unless it has
    unknown fields or `":` inside a text. Only then is it parsed again.
    """
    if b"\\" in value and b"\\u0000" in value and has_nul(event):
        return NUL
    alike = value.translate(None, _WHITE_SPACE).count(b'":') == stated_fields(event)
    return None if alike or not has_duplicate_key(value) else DUPLICATE_KEY


def damaged_code(event: SaleEvent) -> tuple[Reason, str] | None:
    """Return the fault of the receipt's first code that a spreadsheet has damaged, if there is one.

    This comes before the search for duplicates: all receipts with a damaged number would seem to be the same one.
    `streams.checks` checks the lines' codes, since it caches lines.
    """
    customer = event.customer.get("id") if event.customer else None
    codes = f"{event.receipt}|{event.event_id}|{event.store}|{event.register_id}|{event.cashier}|{customer}"
    if event.original is None and SUSPICIOUS.search(codes) is None:
        return None
    original: Mapping[str, object] = event.original or {}
    listed = (
        ("receipt", event.receipt),
        ("event_id", event.event_id),
        ("store", event.store),
        ("register", event.register_id),
        ("cashier", event.cashier),
        ("customer.id", customer),
        *((f"original.{name}", original.get(name)) for name in ("receipt", "store", "register")),
    )
    name = next((name for name, code in listed if isinstance(code, str) and is_damaged(code)), None)
    return None if name is None else (Reason.DAMAGED_CODE, f"{name}: damaged_by_spreadsheet")


def has_nul(event: SaleEvent) -> bool:
    """Whether a text of the event has a NUL character, which databases don't accept."""
    return "\\u0000" in event.model_dump_json().replace("\\\\", "")


def stated_fields(event: SaleEvent) -> int:
    """Return the number of keys in the event's JSON text, if it has no unknown ones."""
    # The attribute behind the property `model_fields_set`, which costs twice as much to read.
    count = len(event.__pydantic_fields_set__) + len(event.totals)
    for line in event.lines:
        count += len(line)
        if "discounts" in line:
            count += sum(map(len, line["discounts"]))
    for tender in event.tenders:
        count += len(tender)
    if event.customer is not None:
        count += len(event.customer)
    if event.original is not None:
        count += len(event.original)
    return count


class _DuplicateKey(Exception):
    pass


def has_duplicate_key(value: bytes) -> bool:
    """Whether an object in this valid JSON text has a duplicate key."""
    try:
        json.loads(value, object_pairs_hook=_refuse_duplicate_key)
    except _DuplicateKey:
        return True
    return False


def _refuse_duplicate_key(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise _DuplicateKey
