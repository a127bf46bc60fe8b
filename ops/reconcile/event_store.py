"""The events that the tills sent, one row each, in a scratch SQLite file that is deleted afterwards.

It is a file because the state of each receipt (its newest revision, earlier copies of an event) does not fit into
memory for tens of millions of receipts. A row takes about 400 bytes on disk, and about 20 µs to write and classify.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ops.reconcile.queries import (
    APPLY_DEAD_LETTERS,
    CLASSIFY,
    CLOSES,
    DEAD_LETTER_STATUSES,
    GAPS,
    HAS_CLOSE_WITHOUT_PREDECESSOR,
    SCHEMA,
    SOLD,
    UNBOOKED,
    halves,
)
from ops.reconcile.rows import (
    CloseRow,
    DeadEventRow,
    DeadLetterRow,
    EventRow,
    Key,
    ReceiptFigures,
    SentRow,
    UnbookedSum,
)
from schemas.reference import join_identity, source_prefix, unescaped_reference
from sinks.digests import added, in_digits
from sinks.storable import AMOUNT_PLACES, FINE_PLACES, from_scaled

#: Receipt numbers further apart are not a gap, but another range (as in `streams.worker.receipt_gaps`).
REACH = 100


_EVENT_COLUMNS = (
    'ref, event_id, revision, content, store, day, currency, gross, status, reason, dead_letter, "partition", '
    '"offset", digest, arrived, occurred, lines, quantity, net, tax, tenders, print, personal, has_gross, '
    "closed_by, closed_why"
)


class EventStore:
    """The events that were sent. Add rows, call `classify`, then query."""

    def __init__(self, path: str = ":memory:") -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(SCHEMA)
        self._db.execute("BEGIN")
        marks = ", ".join("?" * len(SentRow._fields))
        names = ", ".join(f'"{name}"' for name in SentRow._fields)
        self._insert = f"INSERT INTO sent ({names}) VALUES ({marks})"  # noqa: S608 (constants)

    def add(self, rows: Iterable[SentRow]) -> None:
        """Add events."""
        self._db.executemany(self._insert, ((*row[:-2], _signed(row.print), _signed(row.personal)) for row in rows))

    def add_closes(self, closes: Iterable[CloseRow]) -> None:
        """Add the registers' totals. One that was sent again counts once."""
        self._db.executemany(f"INSERT OR IGNORE INTO closes VALUES ({', '.join('?' * len(CloseRow._fields))})", closes)  # noqa: S608 (constants)

    def add_dead_letters(self, letters: Iterable[DeadLetterRow]) -> None:
        """Add dead letters. The last one of each record counts."""
        self._db.executemany("INSERT OR REPLACE INTO dead_letters VALUES (?, ?, ?, ?, ?, ?, ?, ?)", letters)

    def dead_letters_without_record(self) -> list[tuple[int, int, str]]:
        """Return the records (partition, offset, digest) that have a dead letter but no row."""
        self._db.execute('CREATE INDEX IF NOT EXISTS sent_place ON sent ("partition", "offset", digest)')
        query = """
        SELECT "partition", "offset", digest FROM dead_letters l
        WHERE "end" NOT IN ('delivered', 'superseded', 'duplicate', 'noted') AND NOT EXISTS (
            SELECT 1 FROM sent s WHERE s."partition" = l."partition" AND s."offset" = l."offset" AND s.digest = l.digest
        )"""
        return self._db.execute(query).fetchall()

    def dead_events(self) -> Iterator[DeadEventRow]:
        """Yield the events whose record has a dead letter that is not known to have been delivered.

        Applies the dead letters to the rows. Call it once, before `classify`.
        """
        self._db.executescript(APPLY_DEAD_LETTERS + "BEGIN;")  # which commits first
        query = (
            "SELECT rowid, ref, event_id, revision, content, reason, currency, gross, print, personal FROM sent "  # noqa: S608 (constants)
            f"WHERE dead_letter <> '' AND status IN {DEAD_LETTER_STATUSES} AND ref <> ''"
        )
        for *said, gross, number, personal in self._db.execute(query).fetchall():
            yield DeadEventRow._make([*said, from_scaled(gross, AMOUNT_PLACES), in_digits(number), in_digits(personal)])

    def mark_delivered(self, rows: Iterable[int]) -> None:
        """Mark rows with a dead letter as delivered: the ERP holds exactly their content."""
        self._db.executemany("UPDATE sent SET status = '' WHERE rowid = ?", ((row,) for row in rows))

    def classify(self, committed: dict[int, int]) -> None:
        """Give every row its status. `committed` has the offset that the worker reads next, by partition."""
        self._db.executescript(CLASSIFY + "BEGIN;")
        for partition, offset in committed.items():
            self._db.execute(
                'UPDATE sent SET status = \'waiting\' WHERE "partition" = ? AND "offset" >= ? '
                "AND status IN ('erp', 'refused', 'vanished')",
                (partition, offset),
            )

    def counts_by_status(self) -> dict[Key, dict[str, tuple[int, Decimal]]]:
        """Return the number of events and their gross, by store, day and currency, and then by status."""
        found: dict[Key, dict[str, tuple[int, Decimal]]] = {}
        query = (
            "SELECT store, day, currency, status, count(*), sum(gross) FROM sent GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3"
        )
        for store, day, currency, status, count, gross in self._db.execute(query):
            found.setdefault((store, day, currency), {})[status] = (count, from_scaled(gross, AMOUNT_PLACES))
        return found

    def due_figures(self) -> dict[Key, ReceiptFigures]:
        """Return the sums of the documents due in the ERP, by store, day and currency."""
        due = "status = 'erp'"
        names = ("lines", "quantity", "net", "tax", "gross", *halves("print"), *halves("personal"))
        sums = ", ".join(f"sum({name})" for name in names)
        query = f"SELECT store, day, currency, count(*), {sums} FROM sent WHERE {due} GROUP BY 1, 2, 3"  # noqa: S608 (constants)
        found: dict[Key, ReceiptFigures] = {}
        for store, day, currency, count, lines, quantity, net, tax, gross, *parts in self._db.execute(query):
            found[store, day, currency] = ReceiptFigures(
                receipts=count,
                lines=lines,
                quantity=from_scaled(quantity, FINE_PLACES),
                net=from_scaled(net, AMOUNT_PLACES),
                tax=from_scaled(tax, AMOUNT_PLACES),
                gross=from_scaled(gross, AMOUNT_PLACES),
                digest=_of_halves(*parts[:2]),
                personal=_of_halves(*parts[2:]),
            )
        query = (
            "SELECT store, day, currency, t.key, sum(t.value) FROM sent, json_each(sent.tenders) t "  # noqa: S608 (constants)
            f"WHERE {due} GROUP BY 1, 2, 3, 4 ORDER BY 4"
        )
        for store, day, currency, kind, amount in self._db.execute(query):
            found[store, day, currency].tenders[kind] = from_scaled(amount, AMOUNT_PLACES)
        return found

    def due(self, store: str, day: str) -> Iterator[EventRow]:
        """Yield the events of a store's day that are due in the ERP, now or once the worker reads them, or vanished."""
        yield from self._events(
            "store = ? AND day = ? AND status IN ('erp', 'refused', 'waiting', 'vanished')", store, day
        )

    def events_of(self, ref: str) -> list[EventRow]:
        """Return all events of a receipt, the newest revision first."""
        return list(self._events("ref = ? ORDER BY revision DESC, arrived", ref))

    def find_references(self, target: str) -> list[str]:
        """Return the references of the receipts with this number, or an event of this id (with or without its source).

        Includes receipts that had `target` as their reference before its parts were escaped.
        """
        sources = [source for (source,) in self._db.execute("SELECT DISTINCT source FROM sent WHERE ref <> ''")]
        ids = [target]
        for source in sources:
            ids += [join_identity(source, target), source_prefix(source) + target]
        query = (
            "SELECT DISTINCT ref FROM sent WHERE ref <> '' AND "
            "(ref = ?1 OR receipt = ?1 OR event_id IN (SELECT value FROM json_each(?2)))"
        )
        found = {ref for (ref,) in self._db.execute(query, (target, json.dumps(ids)))}
        if target.count("/") > 4:
            escaped = "SELECT DISTINCT ref FROM sent WHERE instr(ref, '%2F') OR instr(ref, '%25')"
            found.update(ref for (ref,) in self._db.execute(escaped) if unescaped_reference(ref) == target)
        return sorted(found)

    def same_content_events(self, event: EventRow) -> list[EventRow]:
        """Return the events with the same content of the same receipt under other ids."""
        condition = "ref = ? AND revision = ? AND content = ? AND event_id <> ? AND status = 'duplicate'"
        return list(self._events(condition, event.ref, event.revision, event.content, event.event_id))

    def sold_at(self, source: str, store: str, register: str, occurred: int) -> list[EventRow]:
        """Return the receipts of the register at this moment that are due in the ERP."""
        condition = "source = ? AND store = ? AND register = ? AND occurred = ? AND status = 'erp'"
        return list(self._events(condition, source, store, register, occurred))

    def receipts_with_content(self, content: str) -> list[EventRow]:
        """Return the receipts with this content hash. A document with the hash in a column may have copied it."""
        return list(self._events("content = ? AND status = 'erp'", content))

    def dead_letters(self, store: str, day: str) -> Iterator[EventRow]:
        """Yield the dead letters of a store's day that are not in the ERP."""
        yield from self._events(f"store = ? AND day = ? AND status IN {DEAD_LETTER_STATUSES}", store, day)

    def unbooked(
        self,
        arrived: tuple[int, int] = (-(2**62), 2**62),
        first: date = date.min,
        last: date = date.max,
    ) -> dict[tuple[str, str], list[UnbookedSum]]:
        """Return sums of the waiting receipts and dead letters by store and day; `arrived` is in milliseconds.

        A receipt counts once in a currency, as its latest revision. An implausible day counts as no day unless it is
        between `first` and `last`.
        """
        given = {"since": arrived[0], "until": arrived[1], "first": first.isoformat(), "last": last.isoformat()}
        found: dict[tuple[str, str], list[UnbookedSum]] = {}
        for *said, gross, returned, unknown, booked_otherwise in self._db.execute(UNBOOKED, given):
            amounts = from_scaled(gross, AMOUNT_PLACES), from_scaled(returned, AMOUNT_PLACES)
            one = UnbookedSum._make([*said, *amounts, unknown, booked_otherwise])
            found.setdefault((one.store, one.day), []).append(one)
        return found

    def _events(self, condition: str, *values: str | int) -> Iterator[EventRow]:
        query = f"SELECT {_EVENT_COLUMNS} FROM sent WHERE {condition}"  # noqa: S608 (constants)
        for *said, quantity, net, tax, tenders, number, personal, known, by, why in self._db.execute(query, values):
            said[7] = from_scaled(said[7], AMOUNT_PLACES)
            sums = (from_scaled(net, AMOUNT_PLACES), from_scaled(tax, AMOUNT_PLACES))
            paid = {kind: from_scaled(amount, AMOUNT_PLACES) for kind, amount in json.loads(tenders).items()}
            figures = (from_scaled(quantity, FINE_PLACES), *sums, paid)
            yield EventRow._make([*said, *figures, in_digits(number), in_digits(personal), bool(known), by, why])

    def gaps(self) -> dict[tuple[str, str], list[str]]:
        """Return, by store and day, the missing receipt numbers between others of a register, as text.

        A till may skip a number on purpose, and an unreadable record may have it.
        """
        found: dict[tuple[str, str], list[str]] = {}
        for store, day, register, first, last in self._db.execute(GAPS, (REACH,)):
            words = f"register {register}: {first}" + (f" to {last}" if last > first else "")
            found.setdefault((store, day), []).append(words)
        return found

    def register_closes(self) -> list[CloseRow]:
        """Return the registers' totals in order of time by register. Only the highest revision counts."""
        return [CloseRow(*row) for row in self._db.execute(CLOSES)]

    def has_close_without_predecessor(self, store: str | None, first: date, last: date) -> bool:
        """Return whether a register closed on one of these days and its close before that is unknown."""
        between = first.isoformat(), last.isoformat(), store
        (found,) = self._db.execute(HAS_CLOSE_WITHOUT_PREDECESSOR, between).fetchone()
        return bool(found)

    def gross_sold(self, close: CloseRow, since: int) -> tuple[int, str | None]:
        """Return the scaled gross sold from `since` to the close, dead letters included, and the last day."""
        where = (close.source, close.store, close.register, since, close.occurred, close.currency)
        gross, day = self._db.execute(SOLD, where).fetchone()
        return int(gross), day

    def skipped(self) -> dict[tuple[str, str], dict[str, int]]:
        """Return the number of events without a document, by store and day, and then by reason."""
        found: dict[tuple[str, str], dict[str, int]] = {}
        query = (
            "SELECT store, day, skipped, count(*) FROM sent WHERE status = 'noted' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )
        for store, day, why, count in self._db.execute(query):
            found.setdefault((store, day), {})[why or "a dead letter, replayed"] = count
        return found

    def last_arrivals(self) -> dict[tuple[str, str], int]:
        """Return the arrival of the last event in milliseconds since 1970, by store and day."""
        query = "SELECT store, day, max(arrived) FROM sent GROUP BY 1, 2"
        return {(store, day): arrived for store, day, arrived in self._db.execute(query)}

    def close(self) -> None:
        """Close the database."""
        self._db.close()


class ScratchEventStore:
    """An event store in a temporary folder that is deleted at the end."""

    def __enter__(self) -> EventStore:
        self._folder = TemporaryDirectory(prefix="tillstream-")
        self.event_store = EventStore(str(Path(self._folder.name) / "events.sqlite"))
        return self.event_store

    def __exit__(self, *_: Any) -> None:
        self.event_store.close()
        self._folder.cleanup()


def _signed(number: int) -> int:
    """Return a digest as the signed integer that SQLite can store."""
    return number - 2**64 if number >= 2**63 else number


def _of_halves(upper: int, lower: int) -> str:
    return in_digits(added([upper << 32, lower]))
