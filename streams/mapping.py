"""A sound receipt to the document the ERP books: signs, business date, tax summary. Master data map to themselves."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count

from schemas.deadletter import Reason
from schemas.document import DocumentLine, ErpDocument, Kind, Payment, TaxTotal
from schemas.sale import EventType, SaleEvent
from streams.batch import Rejection
from streams.checks import Sound
from streams.settings import Store, Stores

KINDS: dict[EventType, tuple[Kind, int]] = {
    "sale": ("invoice", 1),
    "return": ("credit_note", -1),
    "void": ("cancellation", -1),
}


def to_documents(sound: Sequence[Sound], stores: Stores) -> tuple[list[ErpDocument], list[Rejection]]:
    """One document per receipt, and the receipts whose master data are unknown."""
    documents: list[ErpDocument] = []
    unmapped: list[Rejection] = []
    for receipt in sound:
        store = stores.find(receipt.arrival.event.store)
        if store is None:
            arrival = receipt.arrival
            unmapped.append(
                Rejection(arrival.record, Reason.UNKNOWN_STORE, "store: not_in_settings", "map", arrival.event)
            )
        else:
            documents.append(to_document(receipt, store))
    return documents, unmapped


def to_document(receipt: Sound, store: Store) -> ErpDocument:
    """The receipt as the ERP books it."""
    event = receipt.arrival.event
    kind, sign = KINDS[event.type]
    if kind == "cancellation" and event.original is not None and event.original.type == "return":
        sign = 1  # what the return took away comes back
    unit = Decimal(1).scaleb(-receipt.digits)
    signed = unit * sign
    customer = event.customer
    return ErpDocument(
        event_id=receipt.arrival.id,
        external_ref=event.receipt_ref,
        kind=kind,
        revision=event.revision,
        content=receipt.arrival.digest.hex(),
        source=event.source,
        store=event.store,
        register_id=event.register_id,
        receipt=event.receipt,
        original_ref=original_ref(event),
        business_date=business_date(event.occurred_at, store),
        occurred_at=event.occurred_at.astimezone(UTC),
        currency=event.currency,
        cashier=event.cashier,
        customer_id=customer.id if customer is not None else None,
        net=receipt.net * signed,
        tax=receipt.tax * signed,
        rounding=receipt.rounding * signed,
        gross=receipt.gross * signed,
        lines=to_lines(receipt, sign, unit),
        payments=[
            Payment(position, tender.kind, amount * signed)
            for position, tender, amount in zip(count(1), event.tenders, receipt.tenders, strict=False)
        ],
        taxes=tax_totals(receipt, signed),
    )


def to_lines(receipt: Sound, sign: int, unit: Decimal) -> list[DocumentLine]:
    """The document's lines, in the receipt's order, positions from 1."""
    signed = unit * sign
    lines: list[DocumentLine] = []
    for line, (net, tax, gross, discount) in zip(receipt.arrival.event.lines, receipt.lines, strict=True):
        lines.append(
            DocumentLine(
                len(lines) + 1,
                line.sku,
                line.description,
                line.quantity if sign > 0 else -line.quantity,
                line.unit,
                line.unit_price,
                discount * unit,
                line.tax_rate,
                net * signed,
                tax * signed,
                gross * signed,
            )
        )
    return lines


def tax_totals(receipt: Sound, signed: Decimal) -> list[TaxTotal]:
    """The lines summed by tax rate, lowest rate first."""
    sums: dict[Decimal, tuple[int, int, int]] = {}
    for line, (net, tax, gross, _) in zip(receipt.arrival.event.lines, receipt.lines, strict=True):
        rate = line.tax_rate
        if rate in sums:
            sum_net, sum_tax, sum_gross = sums[rate]
            sums[rate] = (sum_net + net, sum_tax + tax, sum_gross + gross)
        else:
            sums[rate] = (net, tax, gross)
    rates = sorted(sums) if len(sums) > 1 else sums
    return [TaxTotal(rate, *(amount * signed for amount in sums[rate])) for rate in rates]


def business_date(occurred_at: datetime, store: Store) -> date:
    """The store's local date, or the day before when its clock shows less than the cut-off."""
    local = occurred_at.astimezone(store.zone)
    return local.date() if local.time() >= store.cutoff else local.date() - timedelta(days=1)


def original_ref(event: SaleEvent) -> str | None:
    """The external_ref of the sale that a return or a void refers to."""
    original = event.original
    if original is None:
        return None
    store = original.store or event.store
    register = original.register_id or event.register_id
    return f"{event.source}/{store}/{register}/{original.receipt}/{original.type}"
