"""Which value in SQLite's tables can't be read: its columns take any text, whatever their type, from any hand."""

from sqlalchemy import ColumnElement, Connection, Date, Integer, and_, func, select
from sqlalchemy.sql.schema import Column

from sinks.sql.tables import ExactDecimal, UtcDateTime, document_lines, document_payments, documents


def illegible(connection: Connection) -> str | None:
    """Name a column and document whose value is no number, or no date, where it has to be one; never the value."""
    for table in (documents, document_lines, document_payments):
        for column in table.columns:
            is_wrong = _is_wrong(column)
            if is_wrong is None:
                continue
            query = select(table.c.external_ref).where(and_(column.is_not(None), is_wrong)).limit(1)
            ref = connection.execute(query).scalar()
            if ref is not None:
                return f"{table.name}.{column.name} of {ref}"
    return None


def _is_wrong(column: Column[object]) -> ColumnElement[bool] | None:
    if isinstance(column.type, ExactDecimal | Integer):
        return func.typeof(column).not_in(("integer", "real"))
    if isinstance(column.type, Date):
        return func.date(column).is_(None)
    if isinstance(column.type, UtcDateTime):
        return func.datetime(column).is_(None)
    return None
