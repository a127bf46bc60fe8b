"""What the SQL sinks hold, read back."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, func, select

from schemas.document import DocumentLine, ErpDocument, Payment
from schemas.money import minor_digits
from sinks import sqlprints
from sinks.base import DocumentPrint, StoreDay
from sinks.prints import in_digits, of_halves
from sinks.tables import document_lines, document_payments
from sinks.tables import documents as held

_SCALARS = [column for column in held.columns if column.name != "written_at"]


def totals(connection: Connection, store: str | None, day: date | None, *, deep: bool = False) -> list[StoreDay]:
    """As `Sink.totals`."""
    days = (held.c.store, held.c.business_date, held.c.currency)
    narrowed = _narrowed(store, day)
    sums = (func.sum(held.c.net).label("net"), func.sum(held.c.tax).label("tax"), func.sum(held.c.gross).label("gross"))
    found: dict[Key, StoreDay] = {}
    money = select(*days, func.count().label("documents"), *sums).where(*narrowed).group_by(*days).order_by(*days)
    for row in connection.execute(money):
        found[_key(row)] = _store_day(row)
    of_lines = (func.count().label("lines"), func.sum(document_lines.c.quantity).label("quantity"))
    for row in connection.execute(_by_day(document_lines, of_lines, narrowed)):
        found[_key(row)].lines, found[_key(row)].quantity = row.lines, row.quantity
    amount = func.sum(document_payments.c.amount).label("amount")
    tenders = _by_day(document_payments, (document_payments.c.kind, amount), narrowed)
    for row in connection.execute(tenders.group_by(document_payments.c.kind).order_by(document_payments.c.kind)):
        found[_key(row)].tenders[row.kind] = _in_minor_places(row.amount, row.currency)
    if deep:
        rows = sqlprints.row_prints(connection, narrowed)
        of_days = (rows.c.store, rows.c.business_date, rows.c.currency)
        for row in connection.execute(select(*of_days, *sqlprints.sums_of(rows)).group_by(*of_days)):
            found[_key(row)].digest = in_digits(of_halves(int(row.upper), int(row.lower)))
    return list(found.values())


Key = tuple[str, date, str]


def _key(row: Row[Any]) -> Key:
    return row.store, row.business_date, row.currency


def _narrowed(store: str | None, day: date | None) -> list[ColumnElement[bool]]:
    wanted = [] if store is None else [held.c.store == store]
    return wanted if day is None else [*wanted, held.c.business_date == day]


def _by_day(part: Table, sums: Sequence[ColumnElement[Any]], narrowed: Sequence[ColumnElement[bool]]) -> Select[Any]:
    days = (held.c.store, held.c.business_date, held.c.currency)
    query = select(*days, *sums).join(part, part.c.external_ref == held.c.external_ref)
    return query.where(*narrowed).group_by(*days)


def _store_day(row: Row[Any]) -> StoreDay:
    values = row._asdict()
    for name in ("net", "tax", "gross"):
        values[name] = _in_minor_places(values[name], values["currency"])
    return StoreDay(**values, lines=0, quantity=Decimal(0), tenders={})


def prints(connection: Connection, store: str, day: date) -> list[DocumentPrint]:
    """As `Sink.prints`."""
    rows = sqlprints.row_prints(connection, _narrowed(store, day))
    numbers = select(rows.c.external_ref, *sqlprints.sums_of(rows)).group_by(rows.c.external_ref).subquery()
    columns = (held.c.external_ref, held.c.event_id, held.c.revision, held.c.content, held.c.currency, held.c.gross)
    query = select(*columns, numbers.c.upper, numbers.c.lower).join(
        numbers, numbers.c.external_ref == held.c.external_ref
    )
    return [
        DocumentPrint(
            *(row.external_ref, row.event_id, row.revision, row.content, row.currency),
            _in_minor_places(row.gross, row.currency),
            in_digits(of_halves(int(row.upper), int(row.lower))),
        )
        for row in connection.execute(query.order_by(held.c.external_ref))
    ]


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
    refs = list(found)  # of documents that somebody deleted by hand the parts may be left
    for ref, part in _parts(connection, document_lines, refs):
        found[ref].lines.append(DocumentLine(**part))
    for ref, part in _parts(connection, document_payments, refs):
        found[ref].payments.append(Payment(**part))
    return list(found.values())


def _parts(connection: Connection, table: Table, external_refs: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    query = select(table).where(table.c.external_ref.in_(external_refs)).order_by(*table.primary_key.columns)
    columns = [column.name for column in table.columns if column.name not in ("external_ref", "position")]
    return [(row.external_ref, {name: getattr(row, name) for name in columns}) for row in connection.execute(query)]
