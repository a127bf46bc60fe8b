"""The print of a document as a number, so that two sides can be compared without carrying documents to each other.

Each row of a document (itself, its lines, its payments) has a number of 64 bits, from the MD5 of all that the row says
of the event. A document's print is the sum of its rows', a store-day's the sum of its documents', all modulo 2 ** 64.
Sums, because a database can add them up in any order and give one row for a day, and because a day's print is as well
the sum of the prints that the other side has of each receipt. Two different days have the same print with a chance of
1 in 10 ** 19: enough against mistakes, not against somebody who means to forge.

Personal values (the cashier, the customer's id) are not in it, nor is `content`, a plain hash of an event that has
them: prints are published in certificates, and from the print of one document a short id could be found by trying. They
have a print of their own, keyed with random bytes that live as long as the process. It is compared and never shown.

A row is text in which no two different rows are the same: texts have their length before them, so it does not matter
which characters they are made of. `sinks.sql.digests` makes the same text in SQL.
"""

import secrets
from collections.abc import Iterable
from datetime import UTC
from functools import cache
from hashlib import md5
from typing import Literal

from schemas.document import ErpDocument
from sinks.storable import AMOUNT_PLACES, FINE_PLACES, to_scaled

#: Raised whenever a print is made of other things than before: prints of different versions can't be compared.
VERSION = 2
_MASK = 2**64 - 1
_DIGITS = 16  # hexadecimal

How = Literal["text", "whole", "amount", "fine", "date", "moment"]
Columns = dict[str, How]

#: The columns of each table that a digest covers: every column that comes from the event, in this order.
DOCUMENT: Columns = {
    "external_ref": "text",
    "event_id": "text",
    "kind": "text",
    "revision": "whole",
    "source": "text",
    "store": "text",
    "register_id": "text",
    "receipt": "text",
    "original_ref": "text",
    "business_date": "date",
    "occurred_at": "moment",
    "currency": "text",
    "net": "amount",
    "tax": "amount",
    "rounding": "amount",
    "gross": "amount",
}
PERSONAL: Columns = {"external_ref": "text", "content": "text", "cashier": "text", "customer_id": "text"}
LINE: Columns = {
    "external_ref": "text",
    "position": "whole",
    "sku": "text",
    "description": "text",
    "quantity": "fine",
    "unit": "text",
    "unit_price": "fine",
    "discount": "fine",
    "tax_rate": "fine",
    "net": "amount",
    "tax": "amount",
    "gross": "amount",
}
PAYMENT: Columns = {"external_ref": "text", "position": "whole", "kind": "text", "amount": "amount"}


def print_of(document: ErpDocument) -> int:
    """Return the document's print. Raises DocumentsRefused for numbers that no sink can hold."""
    return added(row_print(row) for row in _rows(document))


def personal_print_of(document: ErpDocument) -> int:
    """Return the print of the document's personal values, to be compared within this process alone."""
    d = document
    return row_print(row_text(personal_key(), d.external_ref, d.content, d.cashier, d.customer_id))


@cache
def personal_key() -> str:
    """Return the key of personal prints: another one in every process."""
    return secrets.token_hex(16)


def row_text(head: str, *values: object) -> str:
    """Return the row: texts as length and text, None as a dash, whole numbers as they are."""
    return "|".join(
        [
            head,
            *[f"{len(v)}:{v}" if isinstance(v, str) else "-" if v is None else str(v) for v in values],
        ]
    )


def row_print(row: str) -> int:
    """Return the number of one row."""
    return int(md5(row.encode(), usedforsecurity=False).hexdigest()[:_DIGITS], 16)


def added(prints: Iterable[int]) -> int:
    """Return the print of all of them together."""
    return sum(prints) & _MASK


def less(total: int, part: int) -> int:
    """Return the print of all but one."""
    return (total - part) & _MASK


def in_digits(number: int) -> str:
    """Return a print as people see it."""
    return f"{number & _MASK:016x}"


def from_digits(digits: str) -> int:
    """Return the print that `in_digits` wrote."""
    return int(digits, 16)


def _rows(d: ErpDocument) -> Iterable[str]:
    """Yield the rows with the values of DOCUMENT, LINE and PAYMENT, written out because this is done for every
    event."""
    ref, places, fine = d.external_ref, AMOUNT_PLACES, FINE_PLACES
    yield row_text(
        "d", ref, d.event_id, d.kind, d.revision, d.source, d.store, d.register_id, d.receipt, d.original_ref,
        d.business_date.isoformat(), d.occurred_at.astimezone(UTC).isoformat(" ", "microseconds")[:26], d.currency,
        to_scaled(d.net, places), to_scaled(d.tax, places), to_scaled(d.rounding, places), to_scaled(d.gross, places),
    )  # fmt: skip
    for position, line in enumerate(d.lines, 1):
        yield row_text(
            "l", ref, position, line.sku, line.description, to_scaled(line.quantity, fine), line.unit,
            to_scaled(line.unit_price, fine), to_scaled(line.discount, fine), to_scaled(line.tax_rate, fine),
            to_scaled(line.net, places), to_scaled(line.tax, places), to_scaled(line.gross, places),
        )  # fmt: skip
    for position, payment in enumerate(d.payments, 1):
        yield row_text("p", ref, position, payment.kind, to_scaled(payment.amount, places))


class DigestSum:
    """An aggregate function for SQLite: the sum of the prints of rows, each of them given as its values."""

    def __init__(self) -> None:
        self._total = 0

    def step(self, head: str, *values: object) -> None:
        """Add a row."""
        self._total += row_print(row_text(head, *values))

    def finalize(self) -> str:
        """Return the sum, as text: SQLite's integers have a sign."""
        return str(self._total & _MASK)
