"""Snapshots of the rows under references, taken before a deletion and restored by an undo; and orphaned parts."""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Column, Connection, Date, Table, delete, exists, func, insert, select

from schemas.reference import unescaped_reference
from sinks.base import OrphanedParts, ReferenceSnapshot, Restored
from sinks.sql.tables import PARTS, ExactDecimal, UtcDateTime, deliveries, document_lines, document_payments
from sinks.sql.tables import documents as held

#: The tables whose rows are of a reference. Deliveries last: those of a document are nothing without it.
_TABLES = (held, *PARTS, deliveries)
_CHUNK = 500


def keep(connection: Connection, external_refs: Sequence[str]) -> list[ReferenceSnapshot]:
    """As `Forgetful.keep`. The table of deliveries is read through: it is made to be asked by event."""
    refs = sorted(set(external_refs))
    found: dict[str, ReferenceSnapshot] = {}
    for start in range(0, len(refs), _CHUNK):
        for table in _TABLES:
            names = _names(table, refs[start : start + _CHUNK])
            query = select(table).where(table.c.external_ref.in_(names))
            for row in connection.execute(query.order_by(*table.primary_key.columns)).mappings():
                ref = names[row["external_ref"]]
                kept = found.setdefault(ref, ReferenceSnapshot(ref, {}))
                kept.rows.setdefault(table.name, []).append(_to_json(row))
    return [found[ref] for ref in sorted(found)]


def forget(connection: Connection, kept: Sequence[ReferenceSnapshot]) -> list[str]:
    """As `Forgetful.forget`, within the caller's transaction, which locks the rows."""
    now = {each.external_ref: each for each in keep(connection, [each.external_ref for each in kept])}
    changed = [each.external_ref for each in kept if now.get(each.external_ref) not in (None, each)]
    refs = [each.external_ref for each in kept if each.external_ref not in changed]
    for start in range(0, len(refs), _CHUNK):
        for table in _TABLES:
            names = _names(table, refs[start : start + _CHUNK])
            connection.execute(delete(table).where(table.c.external_ref.in_(names)))
    return sorted(changed)


def _names(table: Table, refs: Sequence[str]) -> dict[str, str]:
    """Return the references under which the table may have rows of these receipts, each with the receipt's own.

    Deliveries from before parts were escaped may have the unescaped one, which another receipt may share: an earlier
    revision of that one is then superseded when it comes again, as it was before.
    """
    names: dict[str, str] = {}
    if table is deliveries:
        names = {old: ref for ref in refs if (old := unescaped_reference(ref)) is not None}
    return names | {ref: ref for ref in refs}


def restore(connection: Connection, kept: Sequence[ReferenceSnapshot], *, rehearse: bool) -> dict[str, Restored]:
    """As `Forgetful.restore`, within the caller's transaction."""
    now = {each.external_ref: each for each in keep(connection, [each.external_ref for each in kept])}
    outcomes: dict[str, Restored] = {}
    for each in kept:
        if each.external_ref in now:
            outcomes[each.external_ref] = "there" if now[each.external_ref] == each else "occupied"
        elif _delivered_since(connection, each):
            outcomes[each.external_ref] = "occupied"
        else:
            outcomes[each.external_ref] = "restored"
            if not rehearse:
                _put_back(connection, each)
    return outcomes


def lock(connection: Connection, external_refs: Sequence[str]) -> None:
    """Lock the documents of these references, and the events that were delivered for them, until the end."""
    for start in range(0, len(external_refs), _CHUNK):
        part = external_refs[start : start + _CHUNK]
        for table in (deliveries, held):
            connection.execute(select(table.c.external_ref).where(table.c.external_ref.in_(part)).with_for_update())


def _delivered_since(connection: Connection, kept: ReferenceSnapshot) -> bool:
    """Whether one of its events was delivered for another reference meanwhile."""
    ids = [row["event_id"] for row in kept.rows.get(deliveries.name, [])]
    query = select(func.count()).where(deliveries.c.event_id.in_(ids))
    return bool(connection.execute(query).scalar_one())


def _put_back(connection: Connection, kept: ReferenceSnapshot) -> None:
    for table in _TABLES:
        rows = [_from_json(row, table) for row in kept.rows.get(table.name, [])]
        if rows:
            connection.execute(insert(table), rows)


def fragments(connection: Connection, external_refs: Sequence[str] | None) -> list[OrphanedParts]:
    """As `Fragmentary.fragments`."""
    found: dict[str, OrphanedParts] = {}
    refs = None if external_refs is None else sorted(set(external_refs))
    names = {document_lines: "lines", document_payments: "payments"}
    names |= {deliveries: "deliveries"} if refs is None else {}
    for start in (0,) if refs is None else range(0, len(refs), _CHUNK):
        for table, name in names.items():
            ref: Column[str] = table.c.external_ref
            query = select(ref, func.count()).where(~exists().where(held.c.external_ref == ref)).group_by(ref)
            if refs is not None:
                query = query.where(ref.in_(refs[start : start + _CHUNK]))
            for one, count in connection.execute(query):
                setattr(found.setdefault(one, OrphanedParts(one)), name, count)
    return [found[ref] for ref in sorted(found)]


def _to_json(row: Any) -> dict[str, Any]:
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    return value.isoformat() if isinstance(value, date) else value  # a datetime is a date


def _from_json(row: dict[str, Any], table: Table) -> dict[str, Any]:
    return {name: value if value is None else _reader(table.c[name])(value) for name, value in row.items()}


def _reader(column: Column[Any]) -> Callable[[Any], Any]:
    if isinstance(column.type, ExactDecimal):
        return Decimal
    if isinstance(column.type, UtcDateTime):
        return datetime.fromisoformat
    return date.fromisoformat if isinstance(column.type, Date) else lambda value: value
