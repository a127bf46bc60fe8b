"""Documents as the text that PostgreSQL's COPY reads: one row per line, tabs between columns, `\\N` for NULL.

https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.2
A batch has ten thousand of values and almost none of them needs escaping, so rows are first put together as if none
did. Where the text then has other tabs, line ends or backslashes than were put there, the rows of each such document
are made again from escaped values.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from datetime import datetime
from functools import partial
from typing import Any

from schemas.document import DocumentLine, ErpDocument, Kind, Payment
from sinks.values import to_utf8

DOCUMENT_COLUMNS = (
    "event_id, external_ref, kind, revision, content, source, store, register_id, receipt, original_ref, "
    "business_date, occurred_at, currency, cashier, customer_id, net, tax, rounding, gross, "
    "written_at"
)
DELIVERY_COLUMNS = "event_id, external_ref, revision, content, delivered_at"
LINE_COLUMNS = (
    "external_ref, position, sku, description, quantity, unit, unit_price, discount, tax_rate, net, tax, gross"
)
PAYMENT_COLUMNS = "external_ref, position, kind, amount"

_NULL = "\\N"


def documents_text(documents: Sequence[ErpDocument], now: datetime) -> bytes:
    """DOCUMENT_COLUMNS of each document. Raises DocumentsRefused for text that can't be stored, as all of these do."""
    to_rows = partial(_document_rows, now=now.isoformat())
    return _text(documents, DOCUMENT_COLUMNS, to_rows, nullable=("original_ref", "cashier", "customer_id"))


def deliveries_text(documents: Sequence[ErpDocument], now: datetime) -> bytes:
    """DELIVERY_COLUMNS of each document."""
    return _text(documents, DELIVERY_COLUMNS, partial(_delivery_rows, now=now.isoformat()))


def lines_text(documents: Sequence[ErpDocument]) -> bytes:
    """LINE_COLUMNS of each line."""
    return _text(documents, LINE_COLUMNS, _line_rows)


def payments_text(documents: Sequence[ErpDocument]) -> bytes:
    """PAYMENT_COLUMNS of each payment."""
    return _text(documents, PAYMENT_COLUMNS, _payment_rows)


def _text(
    documents: Sequence[ErpDocument],
    columns: str,
    to_rows: Callable[[Sequence[ErpDocument]], list[str]],
    nullable: Sequence[str] = (),
) -> bytes:
    tabs = columns.count(",")

    def plain(some: Sequence[ErpDocument]) -> str | None:
        """The rows of some documents, if nothing in them needs escaping."""
        rows = to_rows(some)
        text = "".join(rows)
        nulls = sum([getattr(d, name) for d in some].count(None) for name in nullable)
        lines_are_right = text.count("\n") == len(rows) and "\r" not in text
        columns_are_right = text.count("\t") == len(rows) * tabs and text.count("\\") == nulls
        return text if lines_are_right and columns_are_right else None

    text = plain(documents)
    if text is None:
        text = "".join([plain([d]) or "".join(to_rows([_escaped(d)])) for d in documents])
    return to_utf8(text)


# !s, because str() of a Decimal takes a third of the time of format().


def _document_rows(documents: Sequence[ErpDocument], now: str) -> list[str]:
    return [
        f"{d.event_id}\t{d.external_ref}\t{d.kind}\t{d.revision}\t{d.content}\t{d.source}\t{d.store}\t"
        f"{d.register_id}\t{d.receipt}\t{_NULL if d.original_ref is None else d.original_ref}\t"
        f"{d.business_date.isoformat()}\t{d.occurred_at.isoformat()}\t{d.currency}\t"
        f"{_NULL if d.cashier is None else d.cashier}\t{_NULL if d.customer_id is None else d.customer_id}\t"
        f"{d.net!s}\t{d.tax!s}\t{d.rounding!s}\t{d.gross!s}\t{now}\n"
        for d in documents
    ]


def _delivery_rows(documents: Sequence[ErpDocument], now: str) -> list[str]:
    return [f"{d.event_id}\t{d.external_ref}\t{d.revision}\t{d.content}\t{now}\n" for d in documents]


def _line_rows(documents: Sequence[ErpDocument]) -> list[str]:
    return [
        f"{d.external_ref}\t{position}\t{line.sku}\t{line.description}\t{line.quantity!s}\t{line.unit}\t"
        f"{line.unit_price!s}\t{line.discount!s}\t{line.tax_rate!s}\t{line.net!s}\t{line.tax!s}\t{line.gross!s}\n"
        for d in documents
        for position, line in enumerate(d.lines, 1)
    ]


def _payment_rows(documents: Sequence[ErpDocument]) -> list[str]:
    return [
        f"{d.external_ref}\t{position}\t{payment.kind}\t{payment.amount!s}\n"
        for d in documents
        for position, payment in enumerate(d.payments, 1)
    ]


def _escaped(d: ErpDocument) -> ErpDocument:
    """A copy of the document with its texts as COPY reads them."""
    return replace(
        d,
        **_escaped_texts(d),
        lines=[replace(line, **_escaped_texts(line)) for line in d.lines],
        payments=[replace(payment, **_escaped_texts(payment)) for payment in d.payments],
    )


def _escaped_texts(part: ErpDocument | DocumentLine | Payment) -> dict[str, Any]:
    values = [(name, getattr(part, name)) for name in _TEXTS[type(part)]]
    return {name: _escape(value) for name, value in values if value is not None}


def _escape(text: str) -> str:
    # four passes of replace() take less time than one of translate()
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


_TEXTS = {
    kind: [field.name for field in fields(kind) if field.type in (str, str | None, Kind)]
    for kind in (ErpDocument, DocumentLine, Payment)
}
