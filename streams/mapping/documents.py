"""A sound receipt to the document the ERP books: signs, business date, tax summary.

Master data map to themselves, unless there is a mapping: then `streams.mapping.mapper` adds the ERP's own codes.
"""

from collections.abc import Callable, Sequence
from datetime import UTC
from decimal import Decimal
from functools import cache, lru_cache

from schemas.dead_letter import Reason
from schemas.document import DocumentLine, DocumentPayment, ErpDocument, Kind
from schemas.reference import join_reference
from schemas.sale import EventType, SaleEvent
from schemas.store import Store, Stores, business_date
from streams.batch import Rejection
from streams.checks import LINES_KEPT, CheckedLine, CheckedReceipt

KINDS: dict[EventType, tuple[Kind, int]] = {
    "sale": ("invoice", 1),
    "return": ("credit_note", -1),
    "void": ("cancellation", -1),
}


UNKNOWN_STORE = (Reason.UNKNOWN_STORE, "store: not_in_settings")


def to_documents(
    sound: Sequence[CheckedReceipt],
    stores: Stores,
    mapped: Callable[[CheckedReceipt], ErpDocument | Rejection] | None = None,
) -> tuple[list[ErpDocument], list[Rejection]]:
    """One document per receipt, as `mapped` makes it, if given; and the receipts whose master data are unknown."""
    documents: list[ErpDocument] = []
    unmapped: list[Rejection] = []
    if mapped is not None:
        for made in map(mapped, sound):
            if isinstance(made, Rejection):
                unmapped.append(made)
            else:
                documents.append(made)
        return documents, unmapped
    for receipt in sound:
        store = stores.find(receipt.arrival.event.store)
        if store is None:
            arrival = receipt.arrival
            unmapped.append(Rejection(arrival.record, *UNKNOWN_STORE, "map", arrival.event))
        else:
            documents.append(to_document(receipt, store))
    return documents, unmapped


def kind_sign_unit(receipt: CheckedReceipt) -> tuple[Kind, int, Decimal]:
    """The document's kind, the sign of what the receipt prints, and its currency's smallest unit."""
    event = receipt.arrival.event
    kind, sign = KINDS[event.type]
    if kind == "cancellation" and event.original is not None and event.original.get("type") == "return":
        sign = 1  # what the return took away comes back
    return kind, sign, minor_unit(receipt.digits)


def to_document(receipt: CheckedReceipt, store: Store, lines: list[DocumentLine] | None = None) -> ErpDocument:
    """The receipt as the ERP books it; `lines`, where a mapping has made them."""
    event = receipt.arrival.event
    kind, sign, unit = kind_sign_unit(receipt)
    signed = unit * sign
    return ErpDocument(
        event_id=receipt.arrival.id,
        external_ref=event.receipt_ref,
        kind=kind,
        revision=event.revision,
        content=event.content([line.content for line in receipt.said or receipt.lines]),
        source=event.source,
        store=event.store,
        register_id=event.register_id,
        receipt=event.receipt,
        original_ref=original_ref(event),
        business_date=business_date(event.occurred_at, store),
        occurred_at=event.occurred_at.astimezone(UTC),
        currency=event.currency,
        cashier=event.cashier,
        customer_id=event.customer.get("id") if event.customer is not None else None,
        net=receipt.net * signed,
        tax=receipt.tax * signed,
        rounding=receipt.rounding * signed,
        gross=receipt.gross * signed,
        lines=[to_line(line, sign, unit) for line in receipt.lines] if lines is None else lines,
        payments=[
            DocumentPayment(tender["kind"], amount * signed)
            for tender, amount in zip(event.tenders, receipt.tenders, strict=True)
        ],
    )


@lru_cache(LINES_KEPT)  # by identity: receipts share their lines
def to_line(line: CheckedLine, sign: int, unit: Decimal) -> DocumentLine:
    """The line as the ERP books it; `unit` is the currency's smallest."""
    said = line.said
    signed = unit * sign
    return DocumentLine(
        sku=said["sku"],
        description=said.get("description", ""),
        quantity=line.quantity if sign > 0 else -line.quantity,
        unit=said.get("unit", "each"),
        unit_price=line.unit_price,
        discount=line.discount * unit,
        tax_rate=line.tax_rate,
        net=line.net * signed,
        tax=line.tax * signed,
        gross=line.gross * signed,
    )


@cache
def minor_unit(digits: int) -> Decimal:
    """The smallest unit of a currency with so many places."""
    return Decimal(1).scaleb(-digits)


def original_ref(event: SaleEvent) -> str | None:
    """The external_ref of the sale that a return or a void refers to."""
    original = event.original
    if original is None:
        return None
    store = original.get("store") or event.store
    register = original.get("register") or event.register_id
    return join_reference(event.source, store, register, original["receipt"], original.get("type", "sale"))
