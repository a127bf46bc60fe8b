"""Store-days made of documents: for sinks that read their documents, where the SQL sinks let the database add up."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from decimal import Decimal

from pydantic import ValidationError

from schemas.document import ErpDocument, from_json
from sinks.base import DocumentDigest, SinkUnavailable, StoreDay
from sinks.digests import added, in_digits, personal_print_of, print_of


def as_held(
    text: str | None, store: str, day: date, currency: str, *, net: Decimal, tax: Decimal, gross: Decimal
) -> ErpDocument:
    """Return the document as an ERP keeps it with the booking, but with the ERP's current place and sums.

    So changes made in the ERP show in totals and digests as far as they change one of these. Lines, quantities
    and tenders are those of the document. Raises SinkUnavailable where somebody has spoilt it.
    """
    try:
        stated = from_json((text or "").encode())
    except ValidationError:
        raise SinkUnavailable("corrupt", f"what the ERP booked in {store} on {day} has lost its document") from None
    return replace(stated, store=store, business_date=day, currency=currency, net=net, tax=tax, gross=gross)


def totals_of(documents: Iterable[ErpDocument], *, deep: bool = False) -> list[StoreDay]:
    """As `Sink.totals`. The documents, in any order, are read once and not kept. Raises DocumentsRefused."""
    days: dict[tuple[str, str, str], StoreDay] = {}
    prints: dict[tuple[str, str, str], int] = {}
    personal: dict[tuple[str, str, str], int] = {}
    for d in documents:
        key = (d.store, d.business_date.isoformat(), d.currency)
        if key not in days:
            money = (d.net * 0, d.tax * 0, d.gross * 0)
            days[key] = StoreDay(d.store, d.business_date, d.currency, 0, 0, *money, Decimal(0), {})
        _add(days[key], d)
        if deep:
            prints[key] = added((prints.get(key, 0), print_of(d)))
            personal[key] = added((personal.get(key, 0), personal_print_of(d)))
    for key, day in days.items():
        day.tenders = dict(sorted(day.tenders.items()))
        day.digest = in_digits(prints[key]) if deep else None
        day.personal = in_digits(personal[key]) if deep else None
    return [days[key] for key in sorted(days)]


def prints_of(documents: Iterable[ErpDocument]) -> list[DocumentDigest]:
    """As `Sink.prints`, of one store's business day. Raises DocumentsRefused."""
    found = [
        DocumentDigest(
            *(d.external_ref, d.event_id, d.revision, d.content, d.currency, d.gross),
            in_digits(print_of(d)),
            in_digits(personal_print_of(d)),
        )
        for d in documents
    ]
    return sorted(found, key=lambda document: document.external_ref)


def _add(day: StoreDay, d: ErpDocument) -> None:
    day.documents += 1
    day.lines += len(d.lines)
    day.net += d.net
    day.tax += d.tax
    day.gross += d.gross
    day.quantity += sum((line.quantity for line in d.lines), Decimal(0))
    for payment in d.payments:
        day.tenders[payment.kind] = day.tenders.get(payment.kind, payment.amount * 0) + payment.amount
