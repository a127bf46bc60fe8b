"""Builders for documents, as the mapping makes them: sums are right, unless a test says otherwise."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from schemas.document import DocumentLine, DocumentPayment, ErpDocument
from schemas.money import minor_digits

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


def line(number: int = 1, net: str | Decimal = "2.52", tax: str | Decimal = "0.48", **changes: Any) -> DocumentLine:
    """Two apples, unless changed; net and tax add up to gross. Articles have one tax rate: A 19 %, B 7 %, N none."""
    net, tax = Decimal(net), Decimal(tax)
    taxed = {Decimal(7): "B", Decimal(0): "N"}.get(changes.get("tax_rate", Decimal(19)), "A")
    plain = DocumentLine(
        sku=f"{taxed}-{number}",
        description="Apple",
        quantity=Decimal(2),
        unit="each",
        unit_price=(net + tax) / 2,
        discount=Decimal("0.00"),
        tax_rate=Decimal(19),
        net=net,
        tax=tax,
        gross=net + tax,
    )
    return replace(plain, **changes)


def document(
    number: int = 1, revision: int = 0, *, lines: Sequence[DocumentLine] | None = None, **changes: Any
) -> ErpDocument:
    """Receipt `number` at `revision`, with its totals, one card payment, and a digest of all that as its content."""
    lines = [line()] if lines is None else list(lines)
    store, currency = changes.get("store", "S1"), changes.get("currency", "EUR")
    zero = Decimal(1).scaleb(-(minor_digits(currency) or 0)) * 0
    net = sum((part.net for part in lines), zero)
    tax = sum((part.tax for part in lines), zero)
    plain = ErpDocument(
        event_id=f"pos:e-{number}-{revision}",
        external_ref=f"pos/{store}/R1/{number}/sale",
        kind="invoice",
        revision=revision,
        content="",
        source="pos",
        store=store,
        register_id="R1",
        receipt=str(number),
        original_ref=None,
        business_date=date(2026, 3, 10),
        occurred_at=NOON + timedelta(seconds=number),
        currency=currency,
        cashier="Ada",
        customer_id=None,
        net=net,
        tax=tax,
        rounding=zero,
        gross=net + tax,
        lines=lines,
        payments=[DocumentPayment("card", net + tax)],
    )
    made = replace(plain, **changes)
    digest = hashlib.sha256(repr(made).encode(errors="surrogatepass")).hexdigest()
    return replace(made, content=changes.get("content", digest))


def documents(count: int, first: int = 1, **changes: Any) -> list[ErpDocument]:
    """That many documents, numbered from `first`."""
    return [document(number, **changes) for number in range(first, first + count)]


def sum_of(parts: Sequence[object], name: str) -> Decimal:
    """The sum of one amount over parts or documents."""
    return sum((getattr(part, name) for part in parts), Decimal(0))
