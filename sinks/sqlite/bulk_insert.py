"""Rows for SQLite as tuples, which takes a third of the time of SQLAlchemy's dictionaries."""

from collections.abc import Sequence
from operator import attrgetter

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import sqlite

from sinks.sql.tables import deliveries, document_lines, document_payments, documents

_DIALECT = sqlite.dialect()


class BulkInsert:
    """Inserts objects into a table: each column takes the attribute of its name, `given` columns take the caller's
    values."""

    def __init__(self, table: Table, *given: str, verb: str = "INSERT") -> None:
        columns = [column for column in table.columns if column.name not in given and column.server_default is None]
        names = [*given, *(column.name for column in columns)]
        self._attributes = attrgetter(*names[len(given) :])
        types = [table.c[name].type.dialect_impl(_DIALECT) for name in names]
        self._processors = [kind.bind_processor(_DIALECT) or _as_it_is for kind in types]
        self._statement = f"{verb} INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"

    def insert(self, connection: Connection, parts: Sequence[tuple[object, ...]]) -> None:
        """`parts` are tuples of the values for the `given` columns, and an object last."""
        if not parts:
            return
        attributes, processors = self._attributes, self._processors
        rows = [
            tuple([to(value) for to, value in zip(processors, (*given, *attributes(part)), strict=True)])
            for *given, part in parts
        ]
        connection.exec_driver_sql(self._statement, rows)


def _as_it_is(value: object) -> object:
    return value


DELIVERIES = BulkInsert(deliveries, "delivered_at")
DOCUMENTS = BulkInsert(documents, "written_at", verb="INSERT OR REPLACE")
LINES = BulkInsert(document_lines, "external_ref", "position")
PAYMENTS = BulkInsert(document_payments, "external_ref", "position")
