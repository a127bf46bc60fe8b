"""The prints of `sinks.prints`, made where the documents are: what leaves the database is a row a day, or a receipt."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Select,
    Subquery,
    Text,
    cast,
    func,
    literal_column,
    select,
    type_coerce,
    union_all,
)
from sqlalchemy.dialects.postgresql import BIT

from sinks.tables import Exact, document_lines, document_payments
from sinks.tables import documents as held

#: Each table, the letter that its rows begin with, and what of it counts, in the order of `sinks.prints`.
_COUNTED: tuple[tuple[Any, str, tuple[str, ...]], ...] = (
    (held, "d", ("external_ref", "revision", "content", "kind", "net", "tax", "rounding", "gross")),
    (document_lines, "l", ("external_ref", "position", "sku", "quantity", "tax_rate", "net", "tax", "gross")),
    (document_payments, "p", ("external_ref", "position", "kind", "amount")),
)


def row_prints(connection: Connection, narrowed: list[ColumnElement[bool]]) -> Subquery:
    """(external_ref, upper, lower) of every row of the documents that the conditions on `documents` mean."""
    parts: list[Select[Any]] = []
    for table, letter, names in _COUNTED:
        row = _row(connection, letter, [table.c[name] for name in names])
        halves = [_half(connection, row, half) for half in (0, 1)]
        query = select(
            table.c.external_ref, held.c.store, held.c.business_date, held.c.currency,
            halves[0].label("upper"), halves[1].label("lower"),
        )  # fmt: skip
        if table is not held:
            query = query.join(held, held.c.external_ref == table.c.external_ref)
        parts.append(query.where(*narrowed))
    return union_all(*parts).subquery()


def sums_of(rows: Subquery) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """The two halves, added up."""
    return func.sum(rows.c.upper).label("upper"), func.sum(rows.c.lower).label("lower")


def _row(connection: Connection, letter: str, columns: list[Column[Any]]) -> ColumnElement[str]:
    row: ColumnElement[str] = literal_column(f"'{letter}'", Text)
    for column in columns:
        row = row.concat("|").concat(_as_text(connection, column))
    return row


def _as_text(connection: Connection, column: Column[Any]) -> ColumnElement[str]:
    if isinstance(column.type, Exact):
        if connection.dialect.name == "postgresql":
            return cast(cast(type_coerce(column, BigInteger) * 10**column.type.places, BigInteger), Text)
        return cast(type_coerce(column, BigInteger), Text)  # it is held in so many places
    return cast(column, Text)


def _half(connection: Connection, row: ColumnElement[str], half: int) -> ColumnElement[int]:
    if connection.dialect.name == "postgresql":
        digits = literal_column("'x'", Text).concat(func.substr(func.md5(row), 1 + 8 * half, 8))
        return cast(cast(digits, BIT(32)), BigInteger)
    return func.tillstream_print(row, half, type_=BigInteger)
