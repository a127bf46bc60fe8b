"""Compare documents with the content that was sent, field by field. Personal values are never shown."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from ops.reconcile.event_store import EventStore
from ops.reconcile.rows import DeadEventRow, EventRow, as_date, milliseconds
from schemas.document import DocumentLine, ErpDocument
from schemas.money import minor_digits
from sinks.base import DocumentDigest, DocumentsRefused, OrphanedParts
from sinks.digests import in_digits, personal_print_of, print_of
from sinks.store_days import totals_of
from streams.privacy.detection import by_value

#: The most changes listed of one document.
MOST = 6
_NAMES = {
    "register_id": "register",
    "original_ref": "original",
    "occurred_at": "time",
    "event_id": "event",
    "content": "content hash",
    "customer_id": "customer",
}
_FIELDS = (
    *("net", "tax", "rounding", "currency", "kind", "revision", "store", "register_id", "receipt"),
    *("original_ref", "occurred_at", "business_date", "source", "event_id", "customer_id", "cashier", "content"),
)
_LINE_FIELDS = ("sku", "quantity", "unit", "unit_price", "discount", "tax_rate", "net", "tax", "gross", "description")
#: Fields whose values are never shown: they are personal, may be, or mean nothing to people.
_UNNAMED = {"cashier", "customer_id", "content", "description"}
_AMOUNT_FIELDS = {"net", "tax", "rounding", "gross", "amount"}


def changes(sent: ErpDocument, held: ErpDocument) -> list[str]:
    """Return the fields that differ, in words: "line 3: sku X instead of Y".

    A description that the till left out may come from a mapping, and does not count as a change then.
    """
    currency = sent.currency
    found = ["gross"] if held.gross != sent.gross else []  # the report shows both amounts
    found += [
        _describe(name, getattr(held, name), getattr(sent, name), currency)
        for name in _FIELDS
        if getattr(held, name) != getattr(sent, name)
    ]
    if len(held.lines) != len(sent.lines):
        found.append(f"lines {len(held.lines)} instead of {len(sent.lines)}")
    for place, (was, now) in enumerate(zip(sent.lines, held.lines, strict=False), 1):
        filled = held.mapping is not None and not was.description
        names = [name for name in _LINE_FIELDS if name != "description" or not filled]
        found += _differing(f"line {place}", names, was, now, currency)
    if len(held.payments) != len(sent.payments):
        found.append(f"payments {len(held.payments)} instead of {len(sent.payments)}")
    for place, (paid, kept) in enumerate(zip(sent.payments, held.payments, strict=False), 1):
        found += _differing(f"payment {place}", ("kind", "amount"), paid, kept, currency)
    return found


def in_words(found: Sequence[str]) -> str:
    """Return the first changes as one text."""
    more = [f"and {len(found) - MOST} more"] if len(found) > MOST else []
    return ", ".join([*found[:MOST], *more])


def _differing(where: str, names: Sequence[str], was: object, now: object, currency: str) -> list[str]:
    return [
        f"{where}: {_describe(name, getattr(now, name), getattr(was, name), currency)}"
        for name in names
        if getattr(now, name) != getattr(was, name)
    ]


def _describe(name: str, now: Any, was: Any, currency: str) -> str:
    word = _NAMES.get(name, name).replace("_", " ")
    texts = [value for value in (now, was) if isinstance(value, str)]
    if name in _UNNAMED or any(map(by_value, texts)):
        return f"{word} differs"
    if name in _AMOUNT_FIELDS:
        return f"{word} {format_amount(now, currency)} instead of {format_amount(was, currency)}"
    return f"{word} {_format(now)} instead of {_format(was)}"


def _format(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Decimal):
        return format_number(value)
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return str(value) if value != "" else "(empty)"


def matches_digest(document: ErpDocument, held: DocumentDigest) -> bool:
    """Return whether the document read is the one that the sink computed its digest of.

    An ERP behind an API may return the document as it was delivered, without later changes.
    """
    return held.personal is not None and has_digests(document, held.digest, held.personal)


def has_digests(document: ErpDocument, digest: str, personal: str) -> bool:
    """Return whether the document has these digests, which cover all its fields, personal values included."""
    try:
        return (in_digits(print_of(document)), in_digits(personal_print_of(document))) == (digest, personal)
    except (DocumentsRefused, UnicodeEncodeError):  # no sink would have taken it: somebody entered it by hand
        return False


def _without_descriptions(document: ErpDocument) -> ErpDocument:
    """Return the document without descriptions of lines, as some tills send it."""
    lines: list[DocumentLine] = [replace(line, description="") for line in document.lines]
    return replace(document, lines=lines)


def matches_dead_letter(letter: DeadEventRow, document: ErpDocument) -> bool:
    """Return whether the document comes from the dead letter's record.

    Of a record that today's rules refuse, compare the fields that are known.
    """
    if letter.reason:
        known = (document.revision, document.content, document.currency, document.gross)
        return known == (letter.revision, letter.content, letter.currency, letter.gross)
    document = replace(document, event_id=letter.event_id)  # another event may have had the same content
    filled = [] if document.mapping is None else [_without_descriptions(document)]
    return any(has_digests(each, letter.print, letter.personal) for each in (document, *filled))


def find_original(event_store: EventStore, document: DocumentDigest, read: ErpDocument | None) -> EventRow | None:
    """Return the receipt with the same lines, payments, amounts, register, time, customer and cashier, if any.

    Only the reference, the event id and the day (which follows from the time) may differ. The hash in the column
    `content` proves nothing: it may have been copied.
    """
    if read is None or not matches_digest(read, document):
        return None
    sold_at = (read.source, read.store, read.register_id, milliseconds(read.occurred_at))
    for event in event_store.sold_at(*sold_at):
        named = replace(read, external_ref=event.ref, event_id=event.event_id, content=event.content)
        named.business_date = as_date(event.day)
        if has_digests(named, event.print, event.personal):
            return event
    return None


def describe_changed_sums(event: EventRow, document: ErpDocument) -> list[str]:
    """Return the sums that differ from the receipt. An ERP behind an API may return the document as delivered."""
    held = totals_of([document])[0]
    kinds = sorted({*held.tenders, *event.tenders})
    zero = Decimal(0)
    paid = [(f"paid by {kind}", held.tenders.get(kind, zero), event.tenders.get(kind, zero)) for kind in kinds]
    said = [
        f"{name} {format_amount(now, event.currency)} instead of {format_amount(sent, event.currency)}"
        for name, now, sent in (("net", held.net, event.net), ("tax", held.tax, event.tax), *paid)
        if now != sent
    ]
    counts = [("lines", Decimal(held.lines), Decimal(event.lines)), ("quantity", held.quantity, event.quantity)]
    return said + [
        f"{name} {format_number(now)} instead of {format_number(sent)}" for name, now, sent in counts if now != sent
    ]


def describe_parts(fragment: OrphanedParts) -> str:
    """Return the numbers of lines and payments of a fragment as text."""
    counts = (("lines", fragment.lines), ("payments", fragment.payments))
    return " and ".join(f"{count} {name if count > 1 else name[:-1]}" for name, count in counts if count)


def format_amount(amount: Decimal, currency: str) -> str:
    """Return the amount with the decimal places of its currency."""
    digits = minor_digits(currency)
    if digits is None:
        return format(amount.normalize() + 0, "f")
    amount += 0  # there are negative zeros
    shown = amount.quantize(Decimal(1).scaleb(-digits))
    return format(shown if shown == amount else amount, "f")


def format_number(number: Decimal) -> str:
    """Return the number without trailing zeros."""
    return format(number.normalize() + 0, "f")
