"""Turns a checked receipt into the document that the ERP books: signs, business date, tax summary.

Codes map to themselves here; with a mapping file `streams.mapping.table_mapper` adds the ERP's own codes.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC
from decimal import Decimal
from functools import cache, lru_cache
from typing import Protocol

from schemas.dead_letter import Reason
from schemas.document import DocumentLine, DocumentPayment, ErpDocument, Kind
from schemas.reference import join_reference
from schemas.sale import EventType, SaleEvent
from schemas.store import Store, business_date
from streams.batch import Rejection
from streams.checks import LINES_KEPT, CheckedLine, CheckedReceipt

KINDS: dict[EventType, tuple[Kind, int]] = {
    "sale": ("invoice", 1),
    "return": ("credit_note", -1),
    "void": ("cancellation", -1),
}
#: Reason and detail of a receipt whose store is unknown.
UNKNOWN_STORE = (Reason.UNKNOWN_STORE, "store: not_in_settings")


class StoreDirectory(Protocol):
    """Time zone, cut-off and opening hours of the stores."""

    def find(self, store: str) -> Store | None:
        """Return the store's facts, or None when it is unknown."""
        ...

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the listed stores."""
        ...


def to_documents(
    receipts: Sequence[CheckedReceipt], stores: StoreDirectory
) -> tuple[list[ErpDocument], list[Rejection]]:
    """Return one document per receipt, and rejections of the receipts whose store is unknown."""
    documents: list[ErpDocument] = []
    rejections: list[Rejection] = []
    for receipt in receipts:
        store = stores.find(receipt.arrival.event.store)
        if store is None:
            arrival = receipt.arrival
            rejections.append(Rejection(arrival.record, *UNKNOWN_STORE, "map", arrival.event))
        else:
            documents.append(to_document(receipt, store))
    return documents, rejections


def kind_sign_unit(receipt: CheckedReceipt) -> tuple[Kind, int, Decimal]:
    """Return the document's kind, the sign of the receipt's printed amounts, and its currency's smallest unit."""
    event = receipt.arrival.event
    kind, sign = KINDS[event.type]
    if kind == "cancellation" and event.original is not None and event.original.get("type") == "return":
        sign = 1  # voiding a return books its amounts again
    return kind, sign, minor_unit(receipt.digits)


def to_document(receipt: CheckedReceipt, store: Store, lines: list[DocumentLine] | None = None) -> ErpDocument:
    """Return the receipt as the ERP books it, with these `lines` if a mapping has already built them."""
    event = receipt.arrival.event
    kind, sign, unit = kind_sign_unit(receipt)
    signed = unit * sign
    return ErpDocument(
        event_id=receipt.arrival.id,
        external_ref=event.receipt_ref,
        kind=kind,
        revision=event.revision,
        content=event.content([line.content for line in receipt.all_lines or receipt.lines]),
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
    """Return the line as the ERP books it; `unit` is the currency's smallest unit."""
    sale_line = line.sale_line
    signed = unit * sign
    return DocumentLine(
        sku=sale_line["sku"],
        description=sale_line.get("description", ""),
        quantity=line.quantity if sign > 0 else -line.quantity,
        unit=sale_line.get("unit", "each"),
        unit_price=line.unit_price,
        discount=line.discount * unit,
        tax_rate=line.tax_rate,
        net=line.net * signed,
        tax=line.tax * signed,
        gross=line.gross * signed,
    )


@cache
def minor_unit(digits: int) -> Decimal:
    """Return the smallest unit of a currency with this many decimal places."""
    return Decimal(1).scaleb(-digits)


def original_ref(event: SaleEvent) -> str | None:
    """Return the external_ref of the receipt that a return or a void refers to, if it names one."""
    original = event.original
    if original is None:
        return None
    store = original.get("store") or event.store
    register = original.get("register") or event.register_id
    return join_reference(event.source, store, register, original["receipt"], original.get("type", "sale"))
