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

from schemas.deadletter import Reason
from sinks.prints import in_digits, of_halves
from sinks.values import AMOUNT_PLACES, FINE_PLACES, from_scaled

#: Where a record stands that can't be read: no store and no day are known of it.
NOWHERE = ""
#: Receipt numbers further apart are no gap, but another range (as in `streams.receipts`).
REACH = 100


class Sent(NamedTuple):
    """An event of the topic, or a record that is none. Amounts and quantities are scaled as `sinks.values` does.

    `place` counts the events of one record. `digest` is that of the record, as a dead letter's origin has it.
    `reason` is why the line of today would not take it; then `gross` is what the event states, and the other
    amounts are 0; `has_gross` says whether an amount can be read at all. `print` is that of the document it makes.
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
    has_gross: int = 0
    print: int = 0


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
    """A dead letter of the topic; `end` is what was done about it last, if anything, `by` whom, and `why`."""

    partition: int
    offset: int
    digest: str
    reason: str
    place: str
    end: str
    by: str = ""
    why: str = ""


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
    has_gross: bool
    closed_by: str
    closed_why: str


class Unbooked(NamedTuple):
    """Receipts of one fate that are not in the ERP, of a store's day in one currency.

    `receipts` and `gross` count each receipt once, by its latest revision. `returned` is the part of `gross` below 0.
    `unknown` counts those whose amount can't be read, and `otherwise` the dead letters of receipts that are booked in
    another version: their amount is in neither.
    """

    store: str
    day: str
    currency: str
    fate: str
    receipts: int
    gross: Decimal
    returned: Decimal
    unknown: int
    otherwise: int


@dataclass
class Figures:
    """Sums over receipts."""

    receipts: int = 0
    lines: int = 0
    quantity: Decimal = Decimal(0)
    net: Decimal = Decimal(0)
    tax: Decimal = Decimal(0)
    gross: Decimal = Decimal(0)
    tenders: dict[str, Decimal] = field(default_factory=dict)
    digest: str | None = None


Key = tuple[str, str, str]
_TEXTS = {"digest", "noted", "reason", "event_id", "ref", "content", "source", "store", "register", "receipt", "day",
          "currency", "tenders"}  # fmt: skip
_NAMES = [name for name in Sent._fields if name != "print"]

_SCHEMA = f"""
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE sent (
    {", ".join(f'"{name}" {"TEXT" if name in _TEXTS else "INTEGER"} NOT NULL' for name in _NAMES)},
    upper INTEGER NOT NULL, lower INTEGER NOT NULL, fate TEXT NOT NULL DEFAULT '', letter TEXT NOT NULL DEFAULT '',
    closed_by TEXT NOT NULL DEFAULT '', closed_why TEXT NOT NULL DEFAULT ''
);
CREATE TABLE closes (
    event_id TEXT PRIMARY KEY, source TEXT, store TEXT, register TEXT, day TEXT, occurred INTEGER, currency TEXT,
    gross INTEGER, receipt TEXT, revision INTEGER
);
CREATE TABLE letters (
    "partition" INTEGER, "offset" INTEGER, digest TEXT, reason TEXT, place TEXT, "end" TEXT, by TEXT, why TEXT,
    PRIMARY KEY ("partition", "offset", digest)
);
CREATE INDEX closes_receipt ON closes (source, store, register, receipt, day, currency, revision);
"""

#: After all is in. What became of a row is its fate:
#: erp        the document that the ERP should hold of its receipt
#: duplicate  the same event, or the same receipt, once more
#: superseded an earlier revision of a receipt that came again with a higher one
#: dead, held a dead letter that did not come to the ERP (`held` by a cleaning rule)
#: parked     a dead letter that was put aside: not booked either
#: resolved   a dead letter of which a person has decided that it shall not be booked
#: noted      no document is to be made of it
#: waiting    the worker has not come to it yet
#: refused    as `erp`, but today's rules would refuse it: what the ERP should hold of it is not known
#: vanished   none of all that: it should be a dead letter, or in the ERP, and is neither
_JUDGE = """
CREATE INDEX IF NOT EXISTS sent_place ON sent ("partition", "offset", digest);
CREATE INDEX sent_ref ON sent (ref, revision, content);
UPDATE sent SET fate = 'noted' WHERE noted <> '';
UPDATE sent SET letter = l.place || ' ' || l.reason, closed_by = l.by, closed_why = l.why,
    fate = CASE
        WHEN l."end" IN ('delivered', 'superseded', 'duplicate') THEN ''
        WHEN l."end" IN ('noted', 'parked', 'resolved') THEN l."end"
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

#: Fates of dead letters that are not in the ERP.
LETTERS = ("dead", "held", "parked", "resolved")

#: Why a record's own time, and so its day, is not believed.
DOUBTED_TIMES = (Reason.IMPLAUSIBLE_TIME.value, Reason.HELD_TIME.value)

#: The latest revision of each receipt, among those that are not in the ERP.
_UNBOOKED = f"""
WITH latest AS (
    SELECT store, CASE WHEN reason IN {DOUBTED_TIMES} AND day NOT BETWEEN :first AND :last THEN '' ELSE day END AS day,
        currency, fate, gross, has_gross AND currency <> '' AS known,
        fate <> 'waiting' AND ref <> '' AND EXISTS (
            SELECT 1 FROM sent b WHERE b.ref = s.ref AND b.currency = s.currency AND b.fate IN ('erp', 'refused')
        ) AS otherwise,
        row_number() OVER (
            PARTITION BY CASE ref WHEN '' THEN "partition" || ':' || "offset" || ':' || place ELSE ref END, currency
            ORDER BY fate = 'resolved', revision DESC, arrived DESC, "partition", "offset" DESC
        ) AS number
    FROM sent s WHERE fate IN {(*LETTERS, "waiting")} AND arrived BETWEEN :since AND :until
)
SELECT store, day, currency, fate, sum(known AND NOT otherwise), sum(gross * (known AND NOT otherwise)),
    sum(min(gross, 0) * (known AND NOT otherwise)), sum(NOT known AND NOT otherwise), sum(otherwise)
FROM latest WHERE number = 1 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""  # noqa: S608 (constants)


class Book:
    """What was sent. Fill it, `judge` it, then ask."""

    def __init__(self, path: str = ":memory:") -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")
        marks = ", ".join("?" * (len(_NAMES) + 2))
        names = ", ".join(f'"{name}"' for name in _NAMES)
        self._insert = f"INSERT INTO sent ({names}, upper, lower) VALUES ({marks})"  # noqa: S608 (constants)

    def add(self, rows: Iterable[Sent]) -> None:
        """Puts events in."""
        self._db.executemany(self._insert, ((*row[:-1], row.print >> 32, row.print & 0xFFFFFFFF) for row in rows))

    def add_closes(self, closes: Iterable[Close]) -> None:
        """Puts registers' totals in; one that was sent again counts once."""
        self._db.executemany(f"INSERT OR IGNORE INTO closes VALUES ({', '.join('?' * len(Close._fields))})", closes)  # noqa: S608 (constants)

    def add_letters(self, letters: Iterable[Letter]) -> None:
        """Puts dead letters in, the newest of each record."""
        self._db.executemany("INSERT OR REPLACE INTO letters VALUES (?, ?, ?, ?, ?, ?, ?, ?)", letters)

    def letters_alone(self) -> list[tuple[int, int, str]]:
        """Where the records (partition, offset, digest) of those letters were that the book does not have."""
        self._db.execute('CREATE INDEX IF NOT EXISTS sent_place ON sent ("partition", "offset", digest)')
        query = """
        SELECT "partition", "offset", digest FROM letters l
        WHERE "end" NOT IN ('delivered', 'superseded', 'duplicate', 'noted') AND NOT EXISTS (
            SELECT 1 FROM sent s WHERE s."partition" = l."partition" AND s."offset" = l."offset" AND s.digest = l.digest
        )"""
        return self._db.execute(query).fetchall()

    def lettered(self) -> Iterator[tuple[int, str, str]]:
        """(row, ref, content) of the events whose record has a dead letter that is not known to have come through.

        Looks letters up; to be asked once, before `judge`.
        """
        self._db.executescript(_JUDGE + "BEGIN;")  # which commits first
        query = f"SELECT rowid, ref, content FROM sent WHERE letter <> '' AND fate IN {LETTERS} AND ref <> ''"  # noqa: S608 (constants)
        yield from self._db.execute(query).fetchall()

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
        sums = ", ".join(f"sum({name})" for name in ("lines", "quantity", "net", "tax", "gross", "upper", "lower"))
        query = f"SELECT store, day, currency, count(*), {sums} FROM sent WHERE {due} GROUP BY 1, 2, 3"  # noqa: S608 (constants)
        found: dict[Key, Figures] = {}
        for store, day, currency, count, lines, quantity, net, tax, gross, upper, lower in self._db.execute(query):
            found[store, day, currency] = Figures(
                receipts=count,
                lines=lines,
                quantity=from_scaled(quantity, FINE_PLACES),
                net=from_scaled(net, AMOUNT_PLACES),
                tax=from_scaled(tax, AMOUNT_PLACES),
                gross=from_scaled(gross, AMOUNT_PLACES),
                digest=in_digits(of_halves(upper, lower)),
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
        """The references of the receipts with this number, or with an event of this id (with its source or not)."""
        query = (
            "SELECT DISTINCT ref FROM sent WHERE ref <> '' AND (ref = ?1 OR receipt = ?1 OR event_id = ?1 "
            "OR event_id = source || ':' || ?1) ORDER BY ref"
        )
        return [ref for (ref,) in self._db.execute(query, (target,))]

    def saying(self, content: str) -> list[Fact]:
        """The receipts that say the same."""
        return list(self._facts("content = ? AND fate = 'erp'", content))

    def dead(self, store: str, day: str) -> Iterator[Fact]:
        """The dead letters of a store's day that did not come to the ERP."""
        yield from self._facts(f"store = ? AND day = ? AND fate IN {LETTERS}", store, day)

    def unbooked(
        self,
        arrived: tuple[int, int] = (-(2**62), 2**62),
        first: date = date.min,
        last: date = date.max,
    ) -> dict[tuple[str, str], list[Unbooked]]:
        """By store and day the receipts that wait, or are dead letters; `arrived` within these milliseconds.

        A receipt counts once in a currency, however often it was sent: as its latest revision. A day that is not
        believed counts as none unless it is between `first` and `last`.
        """
        given = {"since": arrived[0], "until": arrived[1], "first": first.isoformat(), "last": last.isoformat()}
        found: dict[tuple[str, str], list[Unbooked]] = {}
        for *said, gross, returned, unknown, otherwise in self._db.execute(_UNBOOKED, given):
            amounts = from_scaled(gross, AMOUNT_PLACES), from_scaled(returned, AMOUNT_PLACES)
            one = Unbooked._make([*said, *amounts, unknown, otherwise])
            found.setdefault((one.store, one.day), []).append(one)
        return found

    def _facts(self, condition: str, *values: str) -> Iterator[Fact]:
        query = (
            'SELECT ref, event_id, revision, content, store, day, currency, gross, fate, reason, letter, "partition", '  # noqa: S608 (constants)
            '"offset", digest, arrived, occurred, has_gross, closed_by, closed_why, lines, quantity, net, tax, '
            f"tenders, upper, lower FROM sent WHERE {condition}"
        )
        for *said, has_gross, by, why, lines, quantity, net, tax, tenders, upper, lower in self._db.execute(
            query, values
        ):
            said[7] = from_scaled(said[7], AMOUNT_PLACES)
            sums = (from_scaled(net, AMOUNT_PLACES), from_scaled(tax, AMOUNT_PLACES))
            paid = {kind: from_scaled(amount, AMOUNT_PLACES) for kind, amount in json.loads(tenders).items()}
            figures = (lines, from_scaled(quantity, FINE_PLACES), *sums, paid)
            yield Fact._make([*said, *figures, in_digits(of_halves(upper, lower)), bool(has_gross), by, why])

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
            AND fate IN ('erp', 'refused', 'waiting', 'dead', 'held', 'parked', 'resolved', 'vanished')
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


def tenders_text(tenders: dict[str, int]) -> str:
    """Tenders by kind as a row holds them."""
    return json.dumps(tenders, ensure_ascii=False)


def as_date(day: str) -> date:
    """A row's day."""
    return date.fromisoformat(day)


def milliseconds(moment: datetime) -> int:
    """A moment as rows hold it."""
    return int(moment.timestamp() * 1000)
