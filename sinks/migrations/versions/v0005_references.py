"""References whose parts are escaped: older rows get the references that the same receipts have now.

Parts were joined with "/" as they were, so register `1` with receipt `2/3` and register `1/2` with receipt `3` shared
one reference. Now a part's "/" is written "%2F". The parts are in the columns of `documents`. Rows without a "/" in a
part, nearly all of them, are not written.

Ambiguous rows stay as they are: a delivery under a shared reference, of an event that the document is not from,
may be another receipt's. Its event is recognised by its id, and taking a receipt back takes its old reference along.
A migration is self-contained: it does not import the tables of today, nor today's way of joining.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

PAGE = 1000
TYPES = {"invoice": "sale", "credit_note": "return", "cancellation": "void"}
PARTS = ("source", "store", "register_id", "receipt")
COLUMNS = ("external_ref", "event_id", "kind", "revision", "content", *PARTS, "original_ref")

documents = sa.table("documents", *map(sa.column, COLUMNS))
deliveries = sa.table("deliveries", *map(sa.column, ("event_id", "external_ref", "revision", "content")))
conflicts = sa.table("conflicts", *map(sa.column, ("event_id", "content")))
KEYED = ("document_lines", "document_payments", "documents")


def escaped(part: str) -> str:
    return re.sub("%(?=2F|25)|/", lambda found: "%2F" if found[0] == "/" else "%25", part)


def escaped_source(source: str) -> str:
    return re.sub("%(?=3A|25)|:", lambda found: "%3A" if found[0] == ":" else "%25", source)


def joined(*parts: str) -> str:
    return "/".join(map(escaped, parts))


def odd(column: Any) -> Any:
    """Whether a part may have to be escaped."""
    return column.contains("/") | column.contains("%2F", autoescape=True) | column.contains("%25", autoescape=True)


def odd_source(column: Any) -> Any:
    return column.contains(":") | column.contains("%3A", autoescape=True) | column.contains("%25", autoescape=True)


def slashes(column: Any) -> Any:
    return sa.func.length(column) - sa.func.length(sa.func.replace(column, "/", ""))


#: Documents whose reference, or whose events' ids, are written otherwise now.
CHANGED = sa.or_(*(odd(documents.c[name]) for name in PARTS), odd_source(documents.c.source))


def reference_of(row: Any) -> tuple[str, str]:
    """Old and new."""
    parts = (row.source, row.store, row.register_id, row.receipt, TYPES[row.kind])
    return "/".join(parts), joined(*parts)


def event_of(event_id: str, row: Any) -> str:
    """Return the current identity of an event of this document's receipt."""
    if not event_id.startswith(f"{row.source}:"):
        return event_id
    name = event_id[len(row.source) + 1 :]
    before, behind = name.rpartition("/")[::2]
    old, new = reference_of(row)
    if before == old[len(row.source) + 1 :] and behind.isdecimal():
        name = f"{new[len(escaped(row.source)) + 1 :]}/{behind}"
    return f"{escaped_source(row.source)}:{name}"


def pages(query: Any, key: Any) -> Iterator[Sequence[Any]]:
    """The rows in the order of `key`, some at a time, so that they may be changed meanwhile."""
    connection, last = op.get_bind(), ""
    while rows := connection.execute(query.where(key > last).order_by(key).limit(PAGE)).all():
        last = getattr(rows[-1], key.name)
        yield rows


def held_under(refs: Sequence[str]) -> dict[str, Any]:
    query = sa.select(*documents.c).where(documents.c.external_ref.in_(refs))
    return {row.external_ref: row for row in op.get_bind().execute(query)}


def upgrade() -> None:
    rewrite_deliveries()
    rewrite_conflicts()
    rewrite_originals()
    rewrite_documents()


def rewrite_deliveries() -> None:
    ref = deliveries.c.external_ref
    query = sa.select(*deliveries.c).where((slashes(ref) > 4) | odd_source(ref) | ref.contains("%2F", autoescape=True))
    statement = (
        sa.update(deliveries)
        .where(deliveries.c.event_id == sa.bindparam("old"))
        .values(event_id=sa.bindparam("new"), external_ref=sa.bindparam("ref"))
    )
    for rows in pages(query, deliveries.c.event_id):
        held = held_under([row.external_ref for row in rows])
        changes = [rewritten(row, held[row.external_ref]) for row in rows if row.external_ref in held]
        rewrite(statement, [one for one in changes if one is not None])


def rewritten(delivery: Any, held: Any) -> dict[str, str] | None:
    new = event_of(delivery.event_id, held)
    derived = new.partition(":")[2] != delivery.event_id[len(held.source) + 1 :]
    known = derived or delivery.event_id == held.event_id or delivery.content == held.content
    old_ref, new_ref = reference_of(held)
    ref = new_ref if known and delivery.external_ref == old_ref else delivery.external_ref
    if (new, ref) == (delivery.event_id, delivery.external_ref):
        return None
    return {"old": delivery.event_id, "new": new, "ref": ref}


def rewrite_conflicts() -> None:
    """A conflict names no receipt: its event's id does, if it has none of its own, or else its source."""
    connection = op.get_bind()
    sources = sa.select(documents.c.source).where(odd_source(documents.c.source)).distinct()
    longest_first = sorted(connection.execute(sources).scalars(), key=len, reverse=True)
    for event_id, content in connection.execute(sa.select(*conflicts.c)).all():
        new = renamed_conflict(event_id, longest_first)
        this = (conflicts.c.event_id == event_id) & (conflicts.c.content == content)
        there = (conflicts.c.event_id == new) & (conflicts.c.content == content)
        if new != event_id and not connection.execute(sa.select(conflicts.c.event_id).where(there)).first():
            connection.execute(sa.update(conflicts).where(this).values(event_id=new))


def renamed_conflict(event_id: str, sources: Sequence[str]) -> str:
    before = event_id.rpartition("/")[0]
    colons = [place for place, character in enumerate(before) if character == ":"]
    refs = [f"{before[:place]}/{before[place + 1 :]}" for place in colons]
    query = sa.select(*documents.c).where(documents.c.external_ref.in_(refs), CHANGED)
    for row in op.get_bind().execute(query) if refs else ():
        if event_of(event_id, row) != event_id:
            return event_of(event_id, row)
    source = next((source for source in sources if event_id.startswith(f"{source}:")), None)
    return event_id if source is None else f"{escaped_source(source)}:{event_id[len(source) + 1 :]}"


def rewrite_originals() -> None:
    """A refund names its sale: by the sale's own parts where it is held, else by the refund's own store and register."""
    original = documents.c.original_ref
    escapes = original.contains("%2F", autoescape=True) | original.contains("%25", autoescape=True)
    query = sa.select(*documents.c).where((slashes(original) > 4) | escapes)
    statement = (
        sa.update(documents)
        .where(documents.c.external_ref == sa.bindparam("ref"))
        .values(original_ref=sa.bindparam("new"))
    )
    for rows in pages(query, documents.c.external_ref):
        held = held_under([row.original_ref for row in rows])
        found = [(row.external_ref, original_of(row, held.get(row.original_ref))) for row in rows]
        changes = [{"ref": ref, "new": new} for ref, new in found if new is not None]
        if changes:
            op.get_bind().execute(statement, changes)


def original_of(row: Any, sale: Any) -> str | None:
    if sale is not None:
        return reference_of(sale)[1]
    own = "/".join((row.source, row.store, row.register_id, ""))
    if not row.original_ref.startswith(own):
        return None
    number, _, kind = row.original_ref[len(own) :].rpartition("/")
    return joined(row.source, row.store, row.register_id, number, kind)


def rewrite_documents() -> None:
    events = (
        sa.update(documents)
        .where(documents.c.external_ref == sa.bindparam("ref"))
        .values(event_id=sa.bindparam("new"))
    )
    later: list[dict[str, str]] = []
    for rows in pages(sa.select(*documents.c).where(CHANGED), documents.c.external_ref):
        named = [{"ref": row.external_ref, "new": event_of(row.event_id, row)} for row in rows]
        op.get_bind().execute(events, named)
        refs = [(row.external_ref, *reference_of(row)) for row in rows]
        later += move_documents([{"old": old, "new": new} for ref, old, new in refs if ref == old != new])
    while later:
        later = move_documents(later)


def move_documents(changes: list[dict[str, str]]) -> list[dict[str, str]]:
    """Gives documents and their parts their new references. Returns those whose new one another document still has."""
    connection = op.get_bind()
    query = sa.select(documents.c.external_ref).where(documents.c.external_ref.in_([one["new"] for one in changes]))
    taken = set(connection.execute(query).scalars()) if changes else set()
    free = [one for one in changes if one["new"] not in taken]
    for name in KEYED if free else ():
        table = sa.table(name, sa.column("external_ref"))
        this = table.c.external_ref == sa.bindparam("old")
        connection.execute(sa.update(table).where(this).values(external_ref=sa.bindparam("new")), free)
    return [one for one in changes if one["new"] in taken]


def rewrite(statement: Any, changes: list[dict[str, str]]) -> None:
    """Updates deliveries, but for the id of one whose new id another has: that one is the same event, delivered since."""
    connection, key = op.get_bind(), deliveries.c.event_id
    moved = [one["new"] for one in changes if one["new"] != one["old"]]
    taken = set(connection.execute(sa.select(key).where(key.in_(moved))).scalars()) if moved else set()
    if changes:
        connection.execute(statement, [one | {"new": one["old"]} if one["new"] in taken else one for one in changes])
