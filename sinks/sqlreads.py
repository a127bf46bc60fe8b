"""What the SQL sinks hold, read back."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, func, select

from schemas.document import DocumentLine, ErpDocument, Payment
from schemas.money import minor_digits
from sinks.base import StoreDay
from sinks.tables import document_lines, document_payments
from sinks.tables import documents as held

_SCALARS = [column for column in held.columns if column.name != "written_at"]


def totals(connection: Connection, store: str | None, day: date | None) -> list[StoreDay]:
    """As `Sink.totals`. One statement, so that documents and lines are counted at the same moment."""
    days = (held.c.store, held.c.business_date, held.c.currency)

    def narrowed(query: Select[Any]) -> Select[Any]:
        query = query.group_by(*days)
        query = query if store is None else query.where(held.c.store == store)
        return query if day is None else query.where(held.c.business_date == day)

    sums = (func.sum(held.c.net).label("net"), func.sum(held.c.tax).label("tax"), func.sum(held.c.gross).label("gross"))
    money = narrowed(select(*days, func.count().label("documents"), *sums)).subquery()
    lines = narrowed(
        select(*days, func.count().label("lines")).join(
            document_lines, document_lines.c.external_ref == held.c.external_ref
        )
    ).subquery()
    same_day = [money.c[column.name] == lines.c[column.name] for column in days]
    query = (
        select(money, func.coalesce(lines.c.lines, 0).label("lines"))
        .outerjoin(lines, onclause=same_day[0] & same_day[1] & same_day[2])
        .order_by(money.c.store, money.c.business_date, money.c.currency)
    )
    return [_store_day(row) for row in connection.execute(query)]


def _store_day(row: Row[Any]) -> StoreDay:
    values = row._asdict()
    for name in ("net", "tax", "gross"):
        values[name] = _in_minor_places(values[name], values["currency"])
    return StoreDay(**values)


def _in_minor_places(amount: Decimal, currency: str) -> Decimal:
    """`amount` with just the currency's places, whatever the database pads it to; unchanged if it has more."""
    digits = minor_digits(currency)
    if digits is None:
        return amount
    shown = amount.quantize(Decimal(1).scaleb(-digits))
    return shown if shown == amount else amount


def documents(connection: Connection, external_refs: Sequence[str]) -> list[ErpDocument]:
    """The documents held under these references, ordered by them."""
    rows = connection.execute(
        select(*_SCALARS).where(held.c.external_ref.in_(external_refs)).order_by(held.c.external_ref)
    )
    found = {row.external_ref: ErpDocument(**row._asdict(), lines=[], payments=[]) for row in rows}
    for ref, part in _parts(connection, document_lines, external_refs):
        found[ref].lines.append(DocumentLine(**part))
    for ref, part in _parts(connection, document_payments, external_refs):
        found[ref].payments.append(Payment(**part))
    return list(found.values())


def _parts(connection: Connection, table: Table, external_refs: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    query = select(table).where(table.c.external_ref.in_(external_refs)).order_by(*table.primary_key.columns)
    columns = [column.name for column in table.columns if column.name not in ("external_ref", "position")]
    return [(row.external_ref, {name: getattr(row, name) for name in columns}) for row in connection.execute(query)]
