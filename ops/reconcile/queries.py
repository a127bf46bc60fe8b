"""The SQL of the event store: its tables, the classification of rows, and sums over them."""

from ops.reconcile.rows import SentRow
from schemas.dead_letter import Reason

_TEXTS = {"digest", "skipped", "reason", "event_id", "ref", "content", "source", "store", "register", "receipt", "day",
          "currency", "tenders"}  # fmt: skip
_HALF = 0xFFFFFFFF

SCHEMA = f"""
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE sent (
    {", ".join(f'"{name}" {"TEXT" if name in _TEXTS else "INTEGER"} NOT NULL' for name in SentRow._fields)},
    status TEXT NOT NULL DEFAULT '', dead_letter TEXT NOT NULL DEFAULT '', closed_by TEXT NOT NULL DEFAULT '',
    closed_why TEXT NOT NULL DEFAULT ''
);
CREATE TABLE closes (
    event_id TEXT PRIMARY KEY, source TEXT, store TEXT, register TEXT, day TEXT, occurred INTEGER, currency TEXT,
    gross INTEGER, receipt TEXT, revision INTEGER
);
CREATE TABLE dead_letters (
    "partition" INTEGER, "offset" INTEGER, digest TEXT, reason TEXT, place TEXT, "end" TEXT, by TEXT, why TEXT,
    PRIMARY KEY ("partition", "offset", digest)
);
CREATE INDEX closes_receipt ON closes (source, store, register, receipt, day, currency, revision);
"""

#: Run after all rows are in. The statuses of a row:
#: erp        the document that the ERP should hold of its receipt
#: duplicate  the same event, or the same receipt, once more
#: superseded an earlier revision of a receipt that came again with a higher one
#: dead, held a dead letter that did not come to the ERP (`held` by a cleaning rule)
#: parked     a dead letter that was put aside: not booked either
#: resolved   a dead letter that a person has decided not to book
#: noted      no document is due
#: waiting    the worker has not come to it yet
#: refused    as `erp`, but today's rules would refuse it: the document due is unknown
#: vanished   it should be a dead letter or in the ERP, and is neither
APPLY_DEAD_LETTERS = """
CREATE INDEX IF NOT EXISTS sent_place ON sent ("partition", "offset", digest);
CREATE INDEX sent_ref ON sent (ref, revision, content);
UPDATE sent SET status = 'noted' WHERE skipped <> '';
UPDATE sent SET dead_letter = l.place || ' ' || l.reason, closed_by = l.by, closed_why = l.why,
    status = CASE
        WHEN l."end" IN ('delivered', 'superseded', 'duplicate') THEN ''
        WHEN l."end" IN ('noted', 'parked', 'resolved') THEN l."end"
        WHEN l.reason LIKE 'held\\_%' ESCAPE '\\' THEN 'held' ELSE 'dead' END
    FROM dead_letters l
    WHERE sent.skipped = '' AND l."partition" = sent."partition" AND l."offset" = sent."offset"
    AND l.digest = sent.digest;
"""

CLASSIFY = """
CREATE INDEX sent_status ON sent (status);
WITH ranked AS (
    SELECT rowid AS number,
        row_number() OVER (PARTITION BY ref, revision, content ORDER BY arrived, "partition", "offset", place) AS copy,
        max(revision) OVER (PARTITION BY ref) AS newest,
        first_value(content) OVER (PARTITION BY ref, revision ORDER BY arrived, "partition", "offset", place) AS first
    FROM sent WHERE status = '' AND ref <> ''
)
UPDATE sent SET status = CASE
    WHEN ranked.copy > 1 THEN 'duplicate'
    WHEN sent.content <> ranked.first THEN 'vanished'
    WHEN sent.revision < ranked.newest THEN 'superseded'
    ELSE 'erp' END
FROM ranked WHERE sent.rowid = ranked.number;
UPDATE sent SET status = 'vanished' WHERE status = '';
UPDATE sent SET status = 'refused' WHERE status = 'erp' AND reason <> '';
CREATE INDEX sent_day ON sent (store, day, currency, status);
CREATE INDEX sent_register ON sent (source, store, register, occurred);
CREATE INDEX sent_content ON sent (content);
"""

#: Statuses of dead letters that are not in the ERP.
DEAD_LETTER_STATUSES = ("dead", "held", "parked", "resolved")

#: Why a record's own time, and so its day, is not believed.
DOUBTED_TIMES = (Reason.IMPLAUSIBLE_TIME.value, Reason.HELD_TIME.value)

#: The latest revision of each receipt, among those that are not in the ERP.
UNBOOKED = f"""
WITH latest AS (
    SELECT store, CASE WHEN reason IN {DOUBTED_TIMES} AND day NOT BETWEEN :first AND :last THEN '' ELSE day END AS day,
        currency, status, gross, has_gross AND currency <> '' AS known,
        status <> 'waiting' AND ref <> '' AND EXISTS (
            SELECT 1 FROM sent b WHERE b.ref = s.ref AND b.currency = s.currency AND b.status IN ('erp', 'refused')
        ) AS booked_otherwise,
        row_number() OVER (
            PARTITION BY CASE ref WHEN '' THEN "partition" || ':' || "offset" || ':' || place ELSE ref END, currency
            ORDER BY status = 'resolved', revision DESC, arrived DESC, "partition", "offset" DESC
        ) AS number
    FROM sent s WHERE status IN {(*DEAD_LETTER_STATUSES, "waiting")} AND arrived BETWEEN :since AND :until
)
SELECT store, day, currency, status,
    sum(known AND NOT booked_otherwise), sum(gross * (known AND NOT booked_otherwise)),
    sum(min(gross, 0) * (known AND NOT booked_otherwise)), sum(NOT known AND NOT booked_otherwise),
    sum(booked_otherwise)
FROM latest WHERE number = 1 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""  # noqa: S608 (constants)

#: With how far apart numbers may be.
GAPS = """
WITH numbers AS (
    SELECT DISTINCT source, store, register, CAST(receipt AS INTEGER) AS number, day FROM sent
    WHERE receipt <> '' AND receipt NOT GLOB '*[^0-9]*' AND length(receipt) < 18
), steps AS (
    SELECT store, register, day, number,
    lag(number) OVER (PARTITION BY source, store, register ORDER BY number) AS before FROM numbers
)
SELECT store, day, register, before + 1, number - 1 FROM steps WHERE number - before BETWEEN 2 AND ?"""

#: The registers' totals, of one that was revised the highest revision.
CLOSES = """
SELECT * FROM closes c WHERE NOT EXISTS (
    SELECT 1 FROM closes r WHERE (r.source, r.store, r.register, r.receipt, r.day, r.currency)
    = (c.source, c.store, c.register, c.receipt, c.day, c.currency) AND r.revision > c.revision
) ORDER BY source, store, register, currency, occurred"""

#: Between two days, of all stores or of one.
HAS_CLOSE_WITHOUT_PREDECESSOR = """
SELECT EXISTS (
    SELECT 1 FROM (SELECT store, day, min(occurred) FROM closes GROUP BY source, store, register, currency)
    WHERE day BETWEEN ? AND ? AND store = coalesce(?, store)
)"""

#: The sales of a register between two moments, each receipt once.
SOLD = """
SELECT coalesce(sum(gross), 0), max(day) FROM (
    SELECT gross, day, row_number() OVER (
        PARTITION BY ref ORDER BY status IN ('erp', 'refused', 'waiting') DESC, revision DESC, arrived
    ) AS place FROM sent
    WHERE source = ? AND store = ? AND register = ? AND occurred > ? AND occurred <= ? AND currency = ?
    AND status IN ('erp', 'refused', 'waiting', 'dead', 'held', 'parked', 'resolved', 'vanished')
) WHERE place = 1"""


def halves(name: str) -> tuple[str, str]:
    """Return SQL for the two halves of a digest. SQLite raises an error when a sum exceeds 64 bits."""
    return f"({name} >> 32) & {_HALF}", f"{name} & {_HALF}"
