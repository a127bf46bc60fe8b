"""Read documents and sums back from the SQL sinks."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Integer, Row, Select, Table, and_, case, func, select

from schemas.document import DocumentLine, DocumentPayment, ErpDocument
from schemas.money import minor_digits
from sinks.base import DocumentDigest, StoreDay
from sinks.digests import added, in_digits
from sinks.sql import digests
from sinks.sql.tables import deliveries, document_lines, document_payments, exact_sum
from sinks.sql.tables import documents as held

_SCALARS = [column for column in held.columns if column.name != "written_at"]


def totals(connection: Connection, store: str | None, day: date | None, *, deep: bool = False) -> list[StoreDay]:
    """As `Sink.totals`. Digests are made in the same passes over the tables as the sums."""
    days = (held.c.store, held.c.business_date, held.c.currency)
    narrowed = _narrowed(store, day)
    sums: list[ColumnElement[Any]] = [
        exact_sum(connection, held.c[name]).label(name) for name in ("net", "tax", "gross")
    ]
    sums += _deep_sums(connection) if deep else []
    money = select(*days, func.count().label("documents"), *sums).select_from(_remembered() if deep else held)
    found: dict[Key, StoreDay] = {}
    prints: dict[Key, list[int]] = {}
    for row in connection.execute(money.where(*narrowed).group_by(*days).order_by(*days)):
        found[_key(row)] = _store_day(row)
        if deep:
            prints[_key(row)] = [int(row.print)]
            found[_key(row)].personal = in_digits(int(row.personal))
            found[_key(row)].unremembered = row.unremembered
    of_lines = [func.count().label("lines"), exact_sum(connection, document_lines.c.quantity).label("quantity")]
    for row in connection.execute(
        _by_day(document_lines, of_lines + _print(connection, document_lines, deep), narrowed)
    ):
        found[_key(row)].lines, found[_key(row)].quantity = row.lines, row.quantity
        if deep:
            prints[_key(row)].append(int(row.print))
    kind = document_payments.c.kind
    amounts = [
        kind,
        exact_sum(connection, document_payments.c.amount).label("amount"),
        *_print(connection, document_payments, deep),
    ]
    tenders = _by_day(document_payments, amounts, narrowed)
    for row in connection.execute(tenders.group_by(kind).order_by(kind)):
        found[_key(row)].tenders[row.kind] = _in_minor_places(row.amount, row.currency)
        if deep:
            prints[_key(row)].append(int(row.print))
    for key, parts in prints.items():
        found[key].digest = in_digits(added(parts))
    return list(found.values())


def _print(connection: Connection, table: Table, deep: bool) -> list[ColumnElement[Any]]:
    return [digests.print_sum(connection, table).label("print")] if deep else []


def _deep_sums(connection: Connection) -> list[ColumnElement[Any]]:
    """Of documents: the two prints, and how many of them have no delivery. To be asked of `_remembered`."""
    unknown = func.sum(case((deliveries.c.event_id.is_(None), 1), else_=0), type_=Integer)
    return [
        *_print(connection, held, deep=True),
        digests.personal_sum(connection).label("personal"),
        unknown.label("unremembered"),
    ]


def _remembered() -> FromClause:
    """Join the documents with the deliveries written with them, where there are any."""
    names = ("event_id", "external_ref", "revision", "content")
    return held.outerjoin(deliveries, and_(*(deliveries.c[name] == held.c[name] for name in names)))


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
    names = ("store", "business_date", "currency", "documents")
    values = {name: getattr(row, name) for name in names}
    for name in ("net", "tax", "gross"):
        values[name] = _in_minor_places(getattr(row, name), row.currency)
    return StoreDay(**values, lines=0, quantity=Decimal(0), tenders={})


def prints(connection: Connection, store: str, day: date) -> list[DocumentDigest]:
    """As `Sink.prints`."""
    narrowed = _narrowed(store, day)
    sums: dict[str, list[int]] = {}
    for table in (document_lines, document_payments):
        ref = table.c.external_ref
        query = select(ref, *_print(connection, table, deep=True)).join(held, held.c.external_ref == ref)
        for row in connection.execute(query.where(*narrowed).group_by(ref)):
            sums.setdefault(row.external_ref, []).append(int(row.print))
    names = ("external_ref", "event_id", "revision", "content", "currency", "gross")
    columns = [held.c[name] for name in names]
    query = select(*columns, *_deep_sums(connection)).select_from(_remembered())
    return [
        DocumentDigest(
            *(row.external_ref, row.event_id, row.revision, row.content, row.currency),
            _in_minor_places(row.gross, row.currency),
            in_digits(added([int(row.print), *sums.get(row.external_ref, [])])),
            in_digits(int(row.personal)),
            remembered=not row.unremembered,
        )
        for row in connection.execute(query.where(*narrowed).group_by(*columns).order_by(held.c.external_ref))
    ]


def _in_minor_places(amount: Decimal, currency: str) -> Decimal:
    """`amount` with just the currency's places, whatever the database pads it to; unchanged if it has more."""
    digits = minor_digits(currency)
    if digits is None:
        return amount
    shown = amount.quantize(Decimal(1).scaleb(-digits))
    return shown if shown == amount else amount


def documents(connection: Connection, external_refs: Sequence[str]) -> list[ErpDocument]:
    """Return the documents held under these references, ordered by them."""
    rows = connection.execute(
        select(*_SCALARS).where(held.c.external_ref.in_(external_refs)).order_by(held.c.external_ref)
    )
    found = {row.external_ref: ErpDocument(**row._asdict(), lines=[], payments=[]) for row in rows}
    refs = list(found)  # of documents that somebody deleted by hand the parts may be left
    for ref, part in _parts(connection, document_lines, refs):
        found[ref].lines.append(DocumentLine(**part))
    for ref, part in _parts(connection, document_payments, refs):
        found[ref].payments.append(DocumentPayment(**part))
    return list(found.values())


def _parts(connection: Connection, table: Table, external_refs: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    query = select(table).where(table.c.external_ref.in_(external_refs)).order_by(*table.primary_key.columns)
    columns = [column.name for column in table.columns if column.name not in ("external_ref", "position")]
    return [(row.external_ref, {name: getattr(row, name) for name in columns}) for row in connection.execute(query)]
