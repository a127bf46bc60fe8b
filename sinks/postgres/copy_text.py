"""Documents as the text that PostgreSQL's COPY reads: one row per line, tabs between columns, `\\N` for NULL.

https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.2
A batch has ten thousand of values and almost none of them needs escaping, so rows are first put together as if none
did. Where the text then has other tabs, line ends or backslashes than were put there, the rows of each such document
are made again from escaped values.

Where no document of a batch has codes from a mapping, their columns are left out, and cost nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from schemas.document import DocumentLine, DocumentPayment, ErpDocument, Kind
from sinks.storable import to_utf8

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

DOCUMENT_CODES = "mapping, company, warehouse, cost_centre, customer_code, review"
LINE_CODES = "item_code, item_unit, tax_code, cost"
PAYMENT_CODES = "payment_mode, account"


class CopyColumns(NamedTuple):
    """The columns of each text, in their order."""

    documents: str
    lines: str
    payments: str


PLAIN = CopyColumns(DOCUMENT_COLUMNS, LINE_COLUMNS, PAYMENT_COLUMNS)
MAPPED = CopyColumns(
    f"{DOCUMENT_COLUMNS}, {DOCUMENT_CODES}", f"{LINE_COLUMNS}, {LINE_CODES}", f"{PAYMENT_COLUMNS}, {PAYMENT_CODES}"
)

_NULL = "\\N"
_NULLABLE = ("original_ref", "cashier", "customer_id")


def columns_of(documents: Sequence[ErpDocument]) -> CopyColumns:
    """Return the columns of these documents' texts: MAPPED if any of them is, else PLAIN."""
    return PLAIN if [d.mapping for d in documents].count(None) == len(documents) else MAPPED


def documents_text(documents: Sequence[ErpDocument], now: datetime) -> bytes:
    """Return a row for each document. Raises DocumentsRefused for text that can't be stored, as all of these do."""
    columns, moment = columns_of(documents).documents, now.isoformat()
    if columns is PLAIN.documents:
        return _text(documents, columns, partial(_document_rows, now=moment), partial(_nulls, _NULLABLE))
    nullable = (*_NULLABLE, *DOCUMENT_CODES.split(", "))
    return _text(documents, columns, partial(_mapped_document_rows, now=moment), partial(_nulls, nullable))


def deliveries_text(documents: Sequence[ErpDocument], now: datetime) -> bytes:
    """DELIVERY_COLUMNS of each document."""
    return _text(documents, DELIVERY_COLUMNS, partial(_delivery_rows, now=now.isoformat()))


def lines_text(documents: Sequence[ErpDocument]) -> bytes:
    """Return a row for each line."""
    columns = columns_of(documents).lines
    if columns is PLAIN.lines:
        return _text(documents, columns, _line_rows)
    codes = LINE_CODES.split(", ")
    return _text(
        documents, columns, _mapped_line_rows, lambda some: _nulls(codes, [line for d in some for line in d.lines])
    )


def payments_text(documents: Sequence[ErpDocument]) -> bytes:
    """Return a row for each payment."""
    columns = columns_of(documents).payments
    if columns is PLAIN.payments:
        return _text(documents, columns, _payment_rows)
    codes = PAYMENT_CODES.split(", ")
    return _text(
        documents,
        columns,
        _mapped_payment_rows,
        lambda some: _nulls(codes, [paid for d in some for paid in d.payments]),
    )


def _nulls(names: Sequence[str], parts: Sequence[object]) -> int:
    return sum([getattr(part, name) for part in parts].count(None) for name in names)


def _text(
    documents: Sequence[ErpDocument],
    columns: str,
    to_rows: Callable[[Sequence[ErpDocument]], list[str]],
    nulls_in: Callable[[Sequence[ErpDocument]], int] = lambda some: 0,
) -> bytes:
    tabs = columns.count(",")

    def plain(some: Sequence[ErpDocument]) -> str | None:
        """Return the rows of some documents, if nothing in them needs escaping."""
        rows = to_rows(some)
        text = "".join(rows)
        nulls = nulls_in(some)
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


# Rows with codes: the plain row, its line end taken off, and the codes.


def _mapped_document_rows(documents: Sequence[ErpDocument], now: str) -> list[str]:
    return [
        f"{row[:-1]}{_code(d.mapping)}{_code(d.company)}{_code(d.warehouse)}{_code(d.cost_centre)}"
        f"{_code(d.customer_code)}{_code(d.review)}\n"
        for row, d in zip(_document_rows(documents, now), documents, strict=True)
    ]


def _mapped_line_rows(documents: Sequence[ErpDocument]) -> list[str]:
    lines = [line for d in documents for line in d.lines]
    return [
        f"{row[:-1]}{_code(line.item_code)}{_code(line.item_unit)}{_code(line.tax_code)}{_code(line.cost)}\n"
        for row, line in zip(_line_rows(documents), lines, strict=True)
    ]


def _mapped_payment_rows(documents: Sequence[ErpDocument]) -> list[str]:
    payments = [payment for d in documents for payment in d.payments]
    return [
        f"{row[:-1]}{_code(payment.payment_mode)}{_code(payment.account)}\n"
        for row, payment in zip(_payment_rows(documents), payments, strict=True)
    ]


def _code(value: object) -> str:
    return "\t\\N" if value is None else f"\t{value!s}"


def _escaped(d: ErpDocument) -> ErpDocument:
    """Return a copy of the document with its texts as COPY reads them."""
    return replace(
        d,
        **_escaped_texts(d),
        lines=[replace(line, **_escaped_texts(line)) for line in d.lines],
        payments=[replace(payment, **_escaped_texts(payment)) for payment in d.payments],
    )


def _escaped_texts(part: ErpDocument | DocumentLine | DocumentPayment) -> dict[str, Any]:
    values = [(name, getattr(part, name)) for name in _TEXTS[type(part)]]
    return {name: _escape(value) for name, value in values if value is not None}


def _escape(text: str) -> str:
    # four passes of replace() take less time than one of translate()
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


_TEXTS = {
    kind: [field.name for field in fields(kind) if field.type in (str, str | None, Kind)]
    for kind in (ErpDocument, DocumentLine, DocumentPayment)
}
