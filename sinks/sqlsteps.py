"""The steps of `sinks.sql` that are the same in every SQL database, each within the batch's transaction."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete, select, update

from schemas.deadletter import Reason
from schemas.document import ErpDocument
from sinks import sqlreads
from sinks.base import Effect, Receipt, Refusal, Result
from sinks.tables import PARTS, deliveries
from sinks.tables import documents as held


def recognise(connection: Connection, documents: Sequence[ErpDocument]) -> dict[str, Result]:
    """The results for events that were delivered before."""
    if not documents:
        return {}
    columns = select(deliveries.c.event_id, deliveries.c.content)
    rows = connection.execute(columns.where(deliveries.c.event_id.in_([d.event_id for d in documents])))
    contents = {row.event_id: row.content for row in rows}
    return _same_or_conflict(connection, [(d, contents[d.event_id]) for d in documents], Reason.CONFLICTING_DUPLICATE)


def settle(connection: Connection, documents: Sequence[ErpDocument]) -> dict[str, Result]:
    """The results for claimed documents whose receipt is held at the same or a newer revision."""
    if not documents:
        return {}
    columns = select(held.c.external_ref, held.c.revision, held.c.content)
    rows = connection.execute(columns.where(held.c.external_ref.in_([d.external_ref for d in documents])))
    holding = {ref: (revision, content) for ref, revision, content in rows}
    newer = [d for d in documents if holding[d.external_ref][0] > d.revision]
    equal = [(d, holding[d.external_ref][1]) for d in documents if holding[d.external_ref][0] == d.revision]
    superseded: dict[str, Result] = {d.event_id: Receipt(d.event_id, "superseded") for d in newer}
    return superseded | _same_or_conflict(connection, equal, Reason.CONFLICTING_RECEIPT)


def _same_or_conflict(
    connection: Connection, documents: Sequence[tuple[ErpDocument, str]], conflict: Reason
) -> dict[str, Result]:
    """Duplicate or conflict, for documents beside the digest of what was delivered.

    Other bytes may say the same: then the documents themselves are compared. That is rare, and only then are they read.
    """
    results: dict[str, Result] = {}
    other = {d.external_ref: d for d, content in documents if content != d.content}
    held_now = {h.external_ref: h for h in sqlreads.documents(connection, list(other))} if other else {}
    for d, _ in documents:
        now = held_now.get(d.external_ref)
        if d.external_ref not in other or (now is not None and now.says_the_same_as(d)):
            results[d.event_id] = Receipt(d.event_id, "duplicate")
        else:
            results[d.event_id] = Refusal(
                d.event_id, conflict, f"revision {d.revision} was delivered with other content"
            )
    return results


def delete_parts(connection: Connection, external_refs: Sequence[str]) -> None:
    if external_refs:
        for table in PARTS:
            connection.execute(delete(table).where(table.c.external_ref.in_(external_refs)))


def note_effects(connection: Connection, results: dict[str, Result]) -> None:
    """Makes the claims tell what came of them. `results` are those of claimed events."""
    effects: dict[Effect | None, list[str]] = {}
    for event_id, result in results.items():
        effects.setdefault(result.effect if isinstance(result, Receipt) else None, []).append(event_id)
    for effect, event_ids in effects.items():
        these = deliveries.c.event_id.in_(event_ids)
        if effect is None:  # refused: the claim is given up, and the event may come again
            connection.execute(delete(deliveries).where(these))
        elif effect != "written":
            connection.execute(update(deliveries).where(these).values(effect=effect))
