"""The book of what the tills sent: a row per event, in a scratch file of SQLite that is deleted afterwards.

In a file, because what must be known of each receipt (its newest revision, whether the event came before) does not fit
into memory for tens of millions of them. A row takes about 400 bytes on the disk, and about 20 µs to write and judge.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from schemas.reference import join_identity, source_prefix, unescaped_reference
from sinks.prints import added, in_digits
from sinks.values import AMOUNT_PLACES, FINE_PLACES, from_scaled

#: Where a record stands that can't be read: no store and no day are known of it.
NOWHERE = ""
#: Receipt numbers further apart are no gap, but another range (as in `streams.receipts`).
REACH = 100


class Sent(NamedTuple):
    """An event of the topic, or a record that is none. Amounts and quantities are scaled as `sinks.values` does.

    `place` counts the events of one record. `digest` is that of the record, as a dead letter's origin has it.
    `reason` is why the line of today would not take it; then `gross` is what the event states, and the other
    amounts are 0. `print` and `personal` are those of the document it makes.
    """

    partition: int
    offset: int
    place: int
    digest: str
    arrived: int
    noted: str = ""
    reason: str = ""
    event_id: str = ""
    ref: str = ""
    revision: int = 0
    content: str = ""
    source: str = ""
    store: str = NOWHERE
    register: str = ""
    receipt: str = ""
    day: str = NOWHERE
    occurred: int = 0
    currency: str = ""
    lines: int = 0
    quantity: int = 0
    net: int = 0
    tax: int = 0
    gross: int = 0
    tenders: str = "{}"
    print: int = 0
    personal: int = 0


class Close(NamedTuple):
    """A register's own total of what it sold since the one before."""

    event_id: str
    source: str
    store: str
    register: str
    day: str
    occurred: int
    currency: str
    gross: int
    receipt: str = ""
    revision: int = 0


class Letter(NamedTuple):
    """A dead letter of the topic; `end` is what was done about it last, if anything."""

    partition: int
    offset: int
    digest: str
    reason: str
    place: str
    end: str


class Lettered(NamedTuple):
    """An event with a dead letter; `row` is its place in the book, the rest as in `Sent`."""

    row: int
    ref: str
    event_id: str
    revision: int
    content: str
    reason: str
    currency: str
    gross: Decimal
    print: str
    personal: str


class Fact(NamedTuple):
    """A row of the book about a receipt, with what became of it."""

    ref: str
    event_id: str
    revision: int
    content: str
    store: str
    day: str
    currency: str
    gross: Decimal
    fate: str
    reason: str
    letter: str
    partition: int
    offset: int
    digest: str
    arrived: int
    occurred: int
    lines: int
    quantity: Decimal
    net: Decimal
    tax: Decimal
    tenders: dict[str, Decimal]
    print: str
    personal: str


@dataclass
class Figures:
    """Sums over receipts; `digest`, `personal` and `unremembered` as in `sinks.base.StoreDay`."""

    receipts: int = 0
    lines: int = 0
    quantity: Decimal = Decimal(0)
    net: Decimal = Decimal(0)
    tax: Decimal = Decimal(0)
    gross: Decimal = Decimal(0)
    tenders: dict[str, Decimal] = field(default_factory=dict)
    digest: str | None = None
    personal: str | None = None
    unremembered: int = 0


Key = tuple[str, str, str]
_TEXTS = {"digest", "noted", "reason", "event_id", "ref", "content", "source", "store", "register", "receipt", "day",
          "currency", "tenders"}  # fmt: skip
_HALF = 0xFFFFFFFF

_SCHEMA = f"""
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE sent (
    {", ".join(f'"{name}" {"TEXT" if name in _TEXTS else "INTEGER"} NOT NULL' for name in Sent._fields)},
    fate TEXT NOT NULL DEFAULT '', letter TEXT NOT NULL DEFAULT ''
);
CREATE TABLE closes (
    event_id TEXT PRIMARY KEY, source TEXT, store TEXT, register TEXT, day TEXT, occurred INTEGER, currency TEXT,
    gross INTEGER, receipt TEXT, revision INTEGER
);
CREATE TABLE letters (
    "partition" INTEGER, "offset" INTEGER, digest TEXT, reason TEXT, place TEXT, "end" TEXT,
    PRIMARY KEY ("partition", "offset", digest)
);
CREATE INDEX closes_receipt ON closes (source, store, register, receipt, day, currency, revision);
"""

#: After all is in. What became of a row is its fate:
#: erp        the document that the ERP should hold of its receipt
#: duplicate  the same event, or the same receipt, once more
#: superseded an earlier revision of a receipt that came again with a higher one
#: dead, held a dead letter that did not come to the ERP (`held` by a cleaning rule)
#: noted      no document is to be made of it
#: waiting    the worker has not come to it yet
#: refused    as `erp`, but today's rules would refuse it: what the ERP should hold of it is not known
#: vanished   none of all that: it should be a dead letter, or in the ERP, and is neither
_JUDGE = """
CREATE INDEX sent_place ON sent ("partition", "offset", digest);
CREATE INDEX sent_ref ON sent (ref, revision, content);
UPDATE sent SET fate = 'noted' WHERE noted <> '';
UPDATE sent SET letter = l.place || ' ' || l.reason,
    fate = CASE
        WHEN l."end" IN ('delivered', 'superseded', 'duplicate') THEN ''
        WHEN l."end" = 'noted' THEN 'noted'
        WHEN l.reason LIKE 'held\\_%' ESCAPE '\\' THEN 'held' ELSE 'dead' END
    FROM letters l
    WHERE sent.noted = '' AND l."partition" = sent."partition" AND l."offset" = sent."offset"
    AND l.digest = sent.digest;
"""

_RANK = """
CREATE INDEX sent_fate ON sent (fate);
WITH ranked AS (
    SELECT rowid AS number,
        row_number() OVER (PARTITION BY ref, revision, content ORDER BY arrived, "partition", "offset", place) AS copy,
        max(revision) OVER (PARTITION BY ref) AS newest,
        first_value(content) OVER (PARTITION BY ref, revision ORDER BY arrived, "partition", "offset", place) AS first
    FROM sent WHERE fate = '' AND ref <> ''
)
UPDATE sent SET fate = CASE
    WHEN ranked.copy > 1 THEN 'duplicate'
    WHEN sent.content <> ranked.first THEN 'vanished'
    WHEN sent.revision < ranked.newest THEN 'superseded'
    ELSE 'erp' END
FROM ranked WHERE sent.rowid = ranked.number;
UPDATE sent SET fate = 'vanished' WHERE fate = '';
UPDATE sent SET fate = 'refused' WHERE fate = 'erp' AND reason <> '';
CREATE INDEX sent_day ON sent (store, day, currency, fate);
CREATE INDEX sent_register ON sent (source, store, register, occurred);
CREATE INDEX sent_content ON sent (content);
"""


class Book:
    """What was sent. Fill it, `judge` it, then ask."""

    def __init__(self, path: str = ":memory:") -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")
        marks = ", ".join("?" * len(Sent._fields))
        names = ", ".join(f'"{name}"' for name in Sent._fields)
        self._insert = f"INSERT INTO sent ({names}) VALUES ({marks})"  # noqa: S608 (constants)

    def add(self, rows: Iterable[Sent]) -> None:
        """Puts events in."""
        self._db.executemany(self._insert, ((*row[:-2], _signed(row.print), _signed(row.personal)) for row in rows))

    def add_closes(self, closes: Iterable[Close]) -> None:
        """Puts registers' totals in; one that was sent again counts once."""
        self._db.executemany(f"INSERT OR IGNORE INTO closes VALUES ({', '.join('?' * len(Close._fields))})", closes)  # noqa: S608 (constants)

    def add_letters(self, letters: Iterable[Letter]) -> None:
        """Puts dead letters in, the newest of each record."""
        self._db.executemany("INSERT OR REPLACE INTO letters VALUES (?, ?, ?, ?, ?, ?)", letters)

    def lettered(self) -> Iterator[Lettered]:
        """The events whose record has a dead letter that is not known to have come through.

        Looks letters up; to be asked once, before `judge`.
        """
        self._db.executescript(_JUDGE + "BEGIN;")  # which commits first
        query = (
            "SELECT rowid, ref, event_id, revision, content, reason, currency, gross, print, personal FROM sent "
            "WHERE letter <> '' AND fate IN ('dead', 'held') AND ref <> ''"
        )
        for *said, gross, number, personal in self._db.execute(query).fetchall():
            yield Lettered._make([*said, from_scaled(gross, AMOUNT_PLACES), in_digits(number), in_digits(personal)])

    def came_through(self, rows: Iterable[int]) -> None:
        """These have letters, and the ERP holds just what they say."""
        self._db.executemany("UPDATE sent SET fate = '' WHERE rowid = ?", ((row,) for row in rows))

    def judge(self, committed: dict[int, int]) -> None:
        """Gives every row its fate. `committed`: of each partition, where the worker reads next."""
        self._db.executescript(_RANK + "BEGIN;")
        for partition, offset in committed.items():
            self._db.execute(
                'UPDATE sent SET fate = \'waiting\' WHERE "partition" = ? AND "offset" >= ? '
                "AND fate IN ('erp', 'refused', 'vanished')",
                (partition, offset),
            )

    def counts(self) -> dict[Key, dict[str, tuple[int, Decimal]]]:
        """By store, day and currency: of each fate the number of events, and their gross."""
        found: dict[Key, dict[str, tuple[int, Decimal]]] = {}
        query = "SELECT store, day, currency, fate, count(*), sum(gross) FROM sent GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3"
        for store, day, currency, fate, count, gross in self._db.execute(query):
            found.setdefault((store, day, currency), {})[fate] = (count, from_scaled(gross, AMOUNT_PLACES))
        return found

    def figures(self) -> dict[Key, Figures]:
        """What the ERP should hold, by store, day and currency."""
        due = "fate = 'erp'"
        names = ("lines", "quantity", "net", "tax", "gross", *_halves("print"), *_halves("personal"))
        sums = ", ".join(f"sum({name})" for name in names)
        query = f"SELECT store, day, currency, count(*), {sums} FROM sent WHERE {due} GROUP BY 1, 2, 3"  # noqa: S608 (constants)
        found: dict[Key, Figures] = {}
        for store, day, currency, count, lines, quantity, net, tax, gross, *halves in self._db.execute(query):
            found[store, day, currency] = Figures(
                receipts=count,
                lines=lines,
                quantity=from_scaled(quantity, FINE_PLACES),
                net=from_scaled(net, AMOUNT_PLACES),
                tax=from_scaled(tax, AMOUNT_PLACES),
                gross=from_scaled(gross, AMOUNT_PLACES),
                digest=_of_halves(*halves[:2]),
                personal=_of_halves(*halves[2:]),
            )
        query = (
            "SELECT store, day, currency, t.key, sum(t.value) FROM sent, json_each(sent.tenders) t "  # noqa: S608 (constants)
            f"WHERE {due} GROUP BY 1, 2, 3, 4 ORDER BY 4"
        )
        for store, day, currency, kind, amount in self._db.execute(query):
            found[store, day, currency].tenders[kind] = from_scaled(amount, AMOUNT_PLACES)
        return found

    def due(self, store: str, day: str) -> Iterator[Fact]:
        """What the ERP should hold of a store's day, or will when the worker has come to it, and what vanished."""
        yield from self._facts(
            "store = ? AND day = ? AND fate IN ('erp', 'refused', 'waiting', 'vanished')", store, day
        )

    def about(self, ref: str) -> list[Fact]:
        """All about a receipt, the newest revision first."""
        return list(self._facts("ref = ? ORDER BY revision DESC, arrived", ref))

    def meant(self, target: str) -> list[str]:
        """The references of the receipts with this number, or with an event of this id (with its source or not).

        Of those too that had `target` as their reference before parts were escaped.
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

    def twins(self, fact: Fact) -> list[Fact]:
        """The events that said the same of the receipt again, under other ids."""
        condition = "ref = ? AND revision = ? AND content = ? AND event_id <> ? AND fate = 'duplicate'"
        return list(self._facts(condition, fact.ref, fact.revision, fact.content, fact.event_id))

    def sold_at(self, source: str, store: str, register: str, occurred: int) -> list[Fact]:
        """What the register sold at this moment and the ERP should hold."""
        condition = "source = ? AND store = ? AND register = ? AND occurred = ? AND fate = 'erp'"
        return list(self._facts(condition, source, store, register, occurred))

    def saying(self, content: str) -> list[Fact]:
        """The receipts whose events have this digest. Proves nothing of a document that has it in a column."""
        return list(self._facts("content = ? AND fate = 'erp'", content))

    def dead(self, store: str, day: str) -> Iterator[Fact]:
        """The dead letters of a store's day that did not come to the ERP."""
        yield from self._facts("store = ? AND day = ? AND fate IN ('dead', 'held')", store, day)

    def _facts(self, condition: str, *values: str | int) -> Iterator[Fact]:
        query = (
            'SELECT ref, event_id, revision, content, store, day, currency, gross, fate, reason, letter, "partition", '  # noqa: S608 (constants)
            f'"offset", digest, arrived, occurred, lines, quantity, net, tax, tenders, print, personal '
            f"FROM sent WHERE {condition}"
        )
        for *said, quantity, net, tax, tenders, number, personal in self._db.execute(query, values):
            said[7] = from_scaled(said[7], AMOUNT_PLACES)
            sums = (from_scaled(net, AMOUNT_PLACES), from_scaled(tax, AMOUNT_PLACES))
            paid = {kind: from_scaled(amount, AMOUNT_PLACES) for kind, amount in json.loads(tenders).items()}
            figures = (from_scaled(quantity, FINE_PLACES), *sums, paid)
            yield Fact._make([*said, *figures, in_digits(number), in_digits(personal)])

    def gaps(self) -> dict[tuple[str, str], list[str]]:
        """By store and day: the receipt numbers between others of their register that never came, in words.

        A number may be left out on purpose, and a record that can't be read may have had it.
        """
        query = """
        WITH numbers AS (
            SELECT DISTINCT source, store, register, CAST(receipt AS INTEGER) AS number, day FROM sent
            WHERE receipt <> '' AND receipt NOT GLOB '*[^0-9]*' AND length(receipt) < 18
        ), steps AS (
            SELECT store, register, day, number,
            lag(number) OVER (PARTITION BY source, store, register ORDER BY number) AS before FROM numbers
        )
        SELECT store, day, register, before + 1, number - 1 FROM steps WHERE number - before BETWEEN 2 AND ?"""
        found: dict[tuple[str, str], list[str]] = {}
        for store, day, register, first, last in self._db.execute(query, (REACH,)):
            words = f"register {register}: {first}" + (f" to {last}" if last > first else "")
            found.setdefault((store, day), []).append(words)
        return found

    def closes(self) -> list[Close]:
        """The registers' totals, each register's in order of time; of one that was revised the highest revision."""
        query = """
        SELECT * FROM closes c WHERE NOT EXISTS (
            SELECT 1 FROM closes r WHERE (r.source, r.store, r.register, r.receipt, r.day, r.currency)
            = (c.source, c.store, c.register, c.receipt, c.day, c.currency) AND r.revision > c.revision
        ) ORDER BY source, store, register, currency, occurred"""
        return [Close(*row) for row in self._db.execute(query)]

    def closes_without_the_one_before(self, store: str | None, first: date, last: date) -> bool:
        """Whether a register closed on one of these days, and its close before, from which it counts, is not here."""
        query = """
        SELECT EXISTS (
            SELECT 1 FROM (SELECT store, day, min(occurred) FROM closes GROUP BY source, store, register, currency)
            WHERE day BETWEEN ? AND ? AND store = coalesce(?, store)
        )"""
        (found,) = self._db.execute(query, (first.isoformat(), last.isoformat(), store)).fetchone()
        return bool(found)

    def sold(self, close: Close, since: int) -> tuple[int, str | None]:
        """What its register sold after `since` up to the close, scaled, dead letters included; the last one's day."""
        query = """
        SELECT coalesce(sum(gross), 0), max(day) FROM (
            SELECT gross, day, row_number() OVER (
                PARTITION BY ref ORDER BY fate IN ('erp', 'refused', 'waiting') DESC, revision DESC, arrived
            ) AS place FROM sent
            WHERE source = ? AND store = ? AND register = ? AND occurred > ? AND occurred <= ? AND currency = ?
            AND fate IN ('erp', 'refused', 'waiting', 'dead', 'held', 'vanished')
        ) WHERE place = 1"""
        where = (close.source, close.store, close.register, since, close.occurred, close.currency)
        gross, day = self._db.execute(query, where).fetchone()
        return int(gross), day

    def noted(self) -> dict[tuple[str, str], dict[str, int]]:
        """By store and day, of how many events no document is made, by why."""
        found: dict[tuple[str, str], dict[str, int]] = {}
        query = "SELECT store, day, noted, count(*) FROM sent WHERE fate = 'noted' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        for store, day, why, count in self._db.execute(query):
            found.setdefault((store, day), {})[why or "a dead letter, replayed"] = count
        return found

    def arrived_last(self) -> dict[tuple[str, str], int]:
        """By store and day, when its last event arrived, in milliseconds since 1970."""
        query = "SELECT store, day, max(arrived) FROM sent GROUP BY 1, 2"
        return {(store, day): arrived for store, day, arrived in self._db.execute(query)}

    def close(self) -> None:
        """Gives the file back."""
        self._db.close()


class Scratch:
    """A book in a folder of its own, deleted at the end."""

    def __enter__(self) -> Book:
        self._folder = TemporaryDirectory(prefix="tillstream-")
        self.book = Book(str(Path(self._folder.name) / "book.sqlite"))
        return self.book

    def __exit__(self, *_: Any) -> None:
        self.book.close()
        self._folder.cleanup()


def _signed(number: int) -> int:
    """A print as SQLite can hold it."""
    return number - 2**64 if number >= 2**63 else number


def _halves(name: str) -> tuple[str, str]:
    """What SQLite can add up of a print: its integers are of 64 bits and raise an error beyond."""
    return f"({name} >> 32) & {_HALF}", f"{name} & {_HALF}"


def _of_halves(upper: int, lower: int) -> str:
    return in_digits(added([upper << 32, lower]))


def tenders_text(tenders: dict[str, int]) -> str:
    """Tenders by kind as a row holds them."""
    return json.dumps(tenders, ensure_ascii=False)


def as_date(day: str) -> date:
    """A row's day."""
    return date.fromisoformat(day)


def milliseconds(moment: datetime) -> int:
    """A moment as rows hold it."""
    return int(moment.timestamp() * 1000)
