"""The steps of `sinks.sql.sink` that are the same in every SQL database, each within the batch's transaction."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select, update

from schemas.dead_letter import Reason
from schemas.document import ErpDocument
from sinks.base import Accepted, Effect, Refused, Result, in_conflict, same_or_conflict
from sinks.sql.tables import PARTS, conflicts, deliveries
from sinks.sql.tables import documents as held


def recognise(connection: Connection, documents: Sequence[ErpDocument]) -> dict[str, Result]:
    """Return the results for events that were delivered before."""
    if not documents:
        return {}
    columns = select(deliveries.c.event_id, deliveries.c.content)
    rows = connection.execute(columns.where(deliveries.c.event_id.in_([d.event_id for d in documents])))
    contents = {row.event_id: row.content for row in rows}
    results = {d.event_id: same_or_conflict(d, contents[d.event_id], Reason.CONFLICTING_DUPLICATE) for d in documents}
    return results | refused_before(connection, [d for d in documents if isinstance(results[d.event_id], Refused)])


def settle(connection: Connection, documents: Sequence[ErpDocument]) -> dict[str, Result]:
    """Return the results for claimed documents whose receipt is held at the same or a newer revision."""
    if not documents:
        return {}
    columns = select(held.c.external_ref, held.c.revision, held.c.content)
    rows = connection.execute(columns.where(held.c.external_ref.in_([d.external_ref for d in documents])))
    holding = {ref: (revision, content) for ref, revision, content in rows}
    results: dict[str, Result] = {}
    for d in documents:
        revision, content = holding[d.external_ref]
        if revision > d.revision:
            results[d.event_id] = Accepted(d.event_id, "superseded")
        else:
            results[d.event_id] = same_or_conflict(d, content, Reason.CONFLICTING_RECEIPT)
    other = [d for d in documents if results[d.event_id] != Accepted(d.event_id, "duplicate")]
    known = refused_before(connection, other)
    refused = [d for d in other if isinstance(results[d.event_id], Refused) and d.event_id not in known]
    if refused:
        connection.execute(insert(conflicts), [{"event_id": d.event_id, "content": d.content} for d in refused])
    return results | known


def refused_before(connection: Connection, documents: Sequence[ErpDocument]) -> dict[str, Result]:
    """Return the results for events that were refused before, with the same content, for their receipt.

    Without it, an event that is read again after a crash would count as superseded if a newer revision has arrived
    meanwhile, and nobody would see its conflict.
    """
    if not documents:
        return {}
    columns = select(conflicts.c.event_id, conflicts.c.content)
    rows = connection.execute(columns.where(conflicts.c.event_id.in_([d.event_id for d in documents])))
    refused = {(row.event_id, row.content) for row in rows}
    return {
        d.event_id: in_conflict(d, Reason.CONFLICTING_RECEIPT) for d in documents if (d.event_id, d.content) in refused
    }


def delete_parts(connection: Connection, external_refs: Sequence[str]) -> None:
    """Delete the lines and payments of these documents."""
    if external_refs:
        for table in PARTS:
            connection.execute(delete(table).where(table.c.external_ref.in_(external_refs)))


def note_effects(connection: Connection, results: dict[str, Result]) -> None:
    """Record the outcomes with their claims. `results` are those of claimed events."""
    effects: dict[Effect | None, list[str]] = {}
    for event_id, result in results.items():
        effects.setdefault(result.effect if isinstance(result, Accepted) else None, []).append(event_id)
    for effect, event_ids in effects.items():
        these = deliveries.c.event_id.in_(event_ids)
        if effect is None:  # refused: the claim is given up, and the event may come again
            connection.execute(delete(deliveries).where(these))
        elif effect != "written":
            connection.execute(update(deliveries).where(these).values(effect=effect))
