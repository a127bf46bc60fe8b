"""PostgreSQL: batches go in by COPY, which takes this process one f-string per row.

Nearly all batches hold nothing but new documents: four COPYs straight into the tables. Where one of them meets a key
that is held already, the batch is rolled back and goes the way of `sinks.sql.sink`: by COPY into a temporary table, and
from there by one INSERT of claims and one upsert, whatever its size. The short way takes both processes a fifth less
time than the long one; having tried it in vain costs a tenth more.
"""

from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, create_engine

from schemas.document import ErpDocument
from sinks.base import Accepted, DocumentsRefused, PreflightFinding, Result, SinkUnavailable
from sinks.postgres import copy_text
from sinks.postgres.checks import server_findings
from sinks.sql.errors import of_postgres
from sinks.sql.sink import Clock, SqlSink, utc_now

_SETTINGS = {
    "statement_timeout": "60s",  # a batch takes milliseconds; what takes a minute is stuck, and the retry is safe
    "lock_timeout": "10s",  # another worker with the same event is done in milliseconds
    "idle_in_transaction_session_timeout": "60s",  # a stuck worker must not hold its locks forever
    "client_min_messages": "warning",  # "relation already exists" is what IF NOT EXISTS is for
    "timezone": "UTC",
}

_CONNECT = {
    "application_name": "tillstream",
    "client_encoding": "utf8",
    "connect_timeout": 5,
    # Without these, a peer that vanishes (a pulled plug, a firewall's forgotten flow) is noticed after two hours.
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # ms; keepalives don't help while sent data waits for an answer
}

_BATCH = f"""
CREATE TEMPORARY TABLE IF NOT EXISTS tillstream_batch ON COMMIT DELETE ROWS
AS SELECT {copy_text.MAPPED.documents} FROM documents WITH NO DATA"""  # noqa: S608 (constants)

# Sorted, here and below, so that two workers with the same keys wait for each other instead of deadlocking. The keys
# come back as one array, which the driver reads at once, where rows would be objects one by one.
_CLAIM = f"""
WITH claimed AS (
    INSERT INTO deliveries ({copy_text.DELIVERY_COLUMNS})
    SELECT event_id, external_ref, revision, content, written_at FROM tillstream_batch ORDER BY event_id
    ON CONFLICT (event_id) DO NOTHING RETURNING event_id
) SELECT coalesce(array_agg(event_id), '{{}}') FROM claimed"""  # noqa: S608 (constants)

_DROP_KNOWN = "DELETE FROM tillstream_batch WHERE event_id = ANY(%s)"

# A row version that this very statement inserted has no xmax; one that it updated carries the lock it took first.
_TAKE = f"""
WITH taken AS (
    INSERT INTO documents ({copy_text.MAPPED.documents})
    SELECT {copy_text.MAPPED.documents} FROM tillstream_batch ORDER BY external_ref
    ON CONFLICT (external_ref) DO UPDATE SET
        {", ".join(f"{name} = excluded.{name}" for name in copy_text.MAPPED.documents.split(", "))}
    WHERE documents.revision < excluded.revision
    RETURNING external_ref, xmax <> 0 AS replaced
) SELECT coalesce(array_agg(external_ref), '{{}}'), coalesce(array_agg(replaced), '{{}}') FROM taken"""  # noqa: S608 (constants)

_MIGRATION_LOCK = 0x74696C6C  # any number that no other program uses


class PostgresSink(SqlSink):
    """A PostgreSQL database, 13 or newer. `url` is a `postgresql+psycopg` one; its query overrides the defaults."""

    driver_errors = (psycopg.Error,)
    snapshot = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"

    def __init__(self, url: URL, clock: Clock = utc_now) -> None:
        settings = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items())
        options = f"{settings} {url.query.get('options', '')}"  # the later one counts
        engine = create_engine(
            url,
            connect_args={**{k: v for k, v in _CONNECT.items() if k not in url.query}, "options": options},
            hide_parameters=True,  # an error must not show what customers bought
            isolation_level="READ COMMITTED",  # the algorithm relies on each statement seeing the latest commits
            pool_pre_ping=True,
            pool_timeout=10,
            use_native_hstore=False,  # or each new connection asks for a type we don't have
        )
        super().__init__(engine, clock)

    def ping(self) -> None:
        """As in the protocol; a standby answers, but does not take writes."""
        super().ping()
        with self._connection() as connection:
            if connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "on":
                raise SinkUnavailable("readonly", "PostgreSQL is read-only; is it a standby?")

    def _write_all(self, documents: Sequence[ErpDocument]) -> list[Result]:
        if all(d.revision == 0 for d in documents):  # what corrects another is not worth a try
            try:
                return self._insert_all(documents, self._clock())
            except DocumentsRefused:
                pass  # a document is held already, or can't be held: the long way finds out which
        return super()._write_all(documents)

    def _insert_all(self, documents: Sequence[ErpDocument], now: datetime) -> list[Result]:
        """Write documents none of which, nor its event, is held. Raises DocumentsRefused where one is."""
        by_event = sorted(documents, key=attrgetter("event_id"))  # both sorted as in _CLAIM and _TAKE
        by_receipt = sorted(documents, key=attrgetter("external_ref"))
        with self._writing() as connection:
            connection.begin()  # SQLAlchemy does not see what COPY begins, and would have nothing to commit
            _copy(connection, "deliveries", copy_text.DELIVERY_COLUMNS, copy_text.deliveries_text(by_event, now))
            columns = copy_text.columns_of(documents).documents
            _copy(connection, "documents", columns, copy_text.documents_text(by_receipt, now))
            self._append_parts(connection, documents)
        return [Accepted(d.event_id, "written") for d in documents]

    def _claim(self, connection: Connection, documents: Sequence[ErpDocument], now: datetime) -> set[str]:
        connection.exec_driver_sql(_BATCH)
        columns = copy_text.columns_of(documents).documents
        _copy(connection, "tillstream_batch", columns, copy_text.documents_text(documents, now))
        claimed = set(connection.exec_driver_sql(_CLAIM).scalar_one())
        if len(claimed) < len(documents):
            known = [d.event_id for d in documents if d.event_id not in claimed]
            connection.exec_driver_sql(_DROP_KNOWN, (known,))
        return claimed

    def _take(self, connection: Connection, claimed: Sequence[ErpDocument], now: datetime) -> dict[str, bool]:
        external_refs, replaced = connection.exec_driver_sql(_TAKE).one()
        return dict(zip(external_refs, replaced, strict=True))

    def _append_parts(self, connection: Connection, documents: Sequence[ErpDocument]) -> None:
        columns = copy_text.columns_of(documents)
        _copy(connection, "document_lines", columns.lines, copy_text.lines_text(documents))
        _copy(connection, "document_payments", columns.payments, copy_text.payments_text(documents))

    def _lock_schema(self, connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")  # a migration takes as long as it takes
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))

    def _server_findings(self, connection: Connection) -> list[PreflightFinding]:
        return server_findings(connection, self._engine.url.username or "the user")

    def _classified(self, error: BaseException) -> BaseException:
        return of_postgres(error) if isinstance(error, psycopg.Error) else error


def _copy(connection: Connection, table: str, columns: str, rows: bytes) -> None:
    raw: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]  # psycopg's, as the URL says
    try:
        with raw.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
            copy.write(rows)
    except psycopg.Error:
        if raw.closed:  # past SQLAlchemy's back: tell it, or it hands the dead connection out again
            connection.invalidate()
        raise
