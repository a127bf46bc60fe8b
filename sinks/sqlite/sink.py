"""SQLite: one file, no server. The default for a single machine.

A commit waits until the write-ahead log is on the disk (synchronous=FULL): a batch costs one fsync, and neither
`kill -9` nor a power cut undoes anything acknowledged to Kafka. NORMAL would survive `kill -9` as well, but a power
cut could take back the last commits, while the broker, on another machine, considers them delivered.
"""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import InvalidOperation
from threading import Lock

from sqlalchemy import URL, Connection, create_engine, event, select

from schemas.document import ErpDocument
from sinks.base import DocumentsRefused, PreflightFinding, SinkMisconfigured
from sinks.digests import DigestSum
from sinks.sql.errors import of_sqlite
from sinks.sql.sink import Clock, SqlSink, utc_now
from sinks.sql.tables import deliveries
from sinks.sql.tables import documents as held
from sinks.sqlite import bulk_insert
from sinks.sqlite.unreadable_values import illegible
from sinks.storable import require_storable_text

#: Seconds to wait for another process to finish its transaction, before saying that the file is locked.
BUSY_TIMEOUT = 10.0

_PRAGMAS = (
    "PRAGMA journal_mode = WAL",  # readers (the console, reports) and the writer don't wait for each other
    "PRAGMA synchronous = FULL",
)


class SqliteSink(SqlSink):
    """An SQLite file. Writers of this process queue up for it; those of other processes wait up to `busy_timeout`."""

    driver_errors = (sqlite3.Error, OverflowError)  # the latter for integers of more than 64 bits
    snapshot = "BEGIN"

    def __init__(self, url: URL, clock: Clock = utc_now, busy_timeout: float = BUSY_TIMEOUT) -> None:
        engine = create_engine(
            url,
            # isolation_level: transactions begin where `_writing` says so, not where the module thinks they should
            connect_args={"timeout": busy_timeout, "isolation_level": None},
            hide_parameters=True,  # an error must not show what customers bought
        )
        event.listen(engine, "connect", _configure)
        super().__init__(engine, clock)
        self._one_writer = Lock()

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """As in the base; a value that somebody has written into a column of another type is named."""
        with super()._connection() as connection:
            try:
                yield connection
            except (ValueError, InvalidOperation):
                place = illegible(connection)
                if place is None:
                    raise
                advice = "somebody has changed it there: correct it by hand, and start again"
                raise SinkMisconfigured(f"the value in {place} is no number, or no date: {advice}") from None

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        # The lock, because SQLite's own waiting is polling: threads of one process would sleep through their turns.
        with self._one_writer, self._connection() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # a lock taken later could not be waited for
            yield connection
            connection.commit()

    # There is one writer at a time, so these lookups stay true until the commit.

    def _claim(self, connection: Connection, documents: Sequence[ErpDocument], now: datetime) -> set[str]:
        require_storable_text(documents)  # PostgreSQL refuses the same by itself
        event_ids = [d.event_id for d in documents]
        query = select(deliveries.c.event_id).where(deliveries.c.event_id.in_(event_ids))
        claimed = set(event_ids).difference(connection.execute(query).scalars())
        bulk_insert.DELIVERIES.insert(connection, [(now, d) for d in documents if d.event_id in claimed])
        return claimed

    def _take(self, connection: Connection, claimed: Sequence[ErpDocument], now: datetime) -> dict[str, bool]:
        query = select(held.c.external_ref, held.c.revision)
        query = query.where(held.c.external_ref.in_([d.external_ref for d in claimed]))
        revisions = {row.external_ref: row.revision for row in connection.execute(query)}
        taken = [d for d in claimed if d.revision > revisions.get(d.external_ref, -1)]
        bulk_insert.DOCUMENTS.insert(connection, [(now, d) for d in taken])
        return {d.external_ref: d.external_ref in revisions for d in taken}

    def _append_parts(self, connection: Connection, documents: Sequence[ErpDocument]) -> None:
        for table, part in ((bulk_insert.LINES, "lines"), (bulk_insert.PAYMENTS, "payments")):
            table.insert(
                connection,
                [(d.external_ref, place, one) for d in documents for place, one in enumerate(getattr(d, part), 1)],
            )

    def _lock_schema(self, connection: Connection) -> None:
        pass  # BEGIN IMMEDIATE has locked the whole file

    def _server_findings(self, connection: Connection) -> list[PreflightFinding]:
        journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        advice = "Put the file on a local file system: the log needs shared memory."
        return [
            PreflightFinding("server", True, f"SQLite {sqlite3.sqlite_version}"),
            PreflightFinding("journal", journal == "wal", f"journal_mode={journal}", advice),
        ]

    def _classified(self, error: BaseException) -> BaseException:
        if isinstance(error, OverflowError):
            return DocumentsRefused("integer_overflow")
        return of_sqlite(error) if isinstance(error, sqlite3.Error) else error


def _configure(connection: sqlite3.Connection, _: object) -> None:
    connection.create_aggregate("tillstream_print", -1, DigestSum)  # type: ignore[arg-type]  # it knows one value alone
    for pragma in _PRAGMAS:
        _patiently(connection, pragma)


def _patiently(connection: sqlite3.Connection, pragma: str) -> None:
    """SQLite does not wait for another process that makes the same new file a WAL at the same moment."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute(pragma).close()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
