"""The prints of `sinks.digests`, made where the documents are: what leaves the database is a row a day, or a
receipt."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Table,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import BIT

from sinks.digests import DOCUMENT, LINE, PAYMENT, PERSONAL, Columns, How, personal_key
from sinks.sql.tables import document_lines, document_payments
from sinks.sql.tables import documents as held
from sinks.storable import AMOUNT_PLACES, FINE_PLACES

_PLACES = {"amount": AMOUNT_PLACES, "fine": FINE_PLACES}
_COVERED: dict[Table, tuple[str, Columns]] = {
    held: ("d", DOCUMENT),
    document_lines: ("l", LINE),
    document_payments: ("p", PAYMENT),
}


def print_sum(connection: Connection, table: Table) -> ColumnElement[Any]:
    """Return the sum of the prints of the table's rows, to be brought to 64 bits by `prints.added`."""
    letter, columns = _COVERED[table]
    return _sum(connection, literal_column(f"'{letter}'", Text), table, columns)


def personal_sum(connection: Connection) -> ColumnElement[Any]:
    """Return the same of the personal values of documents, with this process's key."""
    key = bindparam("personal_key", personal_key(), Text, unique=True)
    return _sum(connection, key, held, PERSONAL)


def _sum(connection: Connection, head: ColumnElement[str], table: Table, columns: Columns) -> ColumnElement[Any]:
    if connection.dialect.name != "postgresql":
        values = [type_coerce(table.c[name], Text) for name in columns]
        return func.tillstream_print(head, *values, type_=Text)
    parts = [_as_text(table.c[name], how) for name, how in columns.items()]
    row: ColumnElement[str] = func.concat_ws("|", cast(head, Text), *parts, type_=Text)
    digits = literal_column("'x'", Text).concat(func.substr(func.md5(row), 1, 16))
    return func.sum(cast(cast(digits, BIT(64)), BigInteger))  # of 64 bits with a sign: the sum is a numeric


def _as_text(column: Column[Any], how: How) -> ColumnElement[str]:
    """Return a column as `prints.row_text` writes it, in PostgreSQL."""
    if how == "whole":
        return cast(column, Text)
    if how in _PLACES:
        return cast(cast(type_coerce(column, BigInteger) * 10 ** _PLACES[how], BigInteger), Text)
    text: ColumnElement[str] = column
    if how == "date":
        text = func.to_char(column, "YYYY-MM-DD", type_=Text)
    elif how == "moment":
        text = func.to_char(func.timezone("UTC", column), "YYYY-MM-DD HH24:MI:SS.US", type_=Text)
    whole = cast(func.length(text), Text).concat(":").concat(text)
    return func.coalesce(whole, "-") if column.nullable else whole
