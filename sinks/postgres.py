"""PostgreSQL: batches go in by COPY, into a temporary table and from there by one upsert, their parts directly.

A batch takes the server five COPYs and INSERTs whatever its size, and this process one f-string per row.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, create_engine

from schemas.document import ErpDocument
from sinks import copytext
from sinks.base import Finding, SinkUnavailable
from sinks.errors import of_postgres
from sinks.sql import Clock, SqlSink, utc_now
from sinks.tables import metadata

_SETTINGS = {
    "statement_timeout": "60s",  # a batch takes milliseconds; what takes a minute is stuck, and the retry is safe
    "lock_timeout": "10s",  # another worker with the same event is done in milliseconds
    "idle_in_transaction_session_timeout": "60s",  # a worker that stands still must not hold its locks for ever
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
AS SELECT {copytext.DOCUMENT_COLUMNS} FROM documents WITH NO DATA"""  # noqa: S608 (constants)

# Sorted, here and below, so that two workers with the same keys wait for each other instead of deadlocking. The keys
# come back as one array, which the driver reads at once, where rows would be objects one by one.
_CLAIM = """
WITH claimed AS (
    INSERT INTO deliveries (event_id, external_ref, revision, content, delivered_at)
    SELECT event_id, external_ref, revision, content, %s FROM tillstream_batch ORDER BY event_id
    ON CONFLICT (event_id) DO NOTHING RETURNING event_id
) SELECT coalesce(array_agg(event_id), '{}') FROM claimed"""

_DROP_KNOWN = "DELETE FROM tillstream_batch WHERE event_id = ANY(%s)"

# A row version that this very statement inserted has no xmax; one that it updated carries the lock it took first.
_TAKE = f"""
WITH taken AS (
    INSERT INTO documents ({copytext.DOCUMENT_COLUMNS}, written_at)
    SELECT {copytext.DOCUMENT_COLUMNS}, %s FROM tillstream_batch ORDER BY external_ref
    ON CONFLICT (external_ref) DO UPDATE SET
        {", ".join(f"{name} = excluded.{name}" for name in copytext.DOCUMENT_COLUMNS.split(", "))},
        written_at = excluded.written_at
    WHERE documents.revision < excluded.revision
    RETURNING external_ref, xmax <> 0 AS replaced
) SELECT coalesce(array_agg(external_ref), '{{}}'), coalesce(array_agg(replaced), '{{}}') FROM taken"""  # noqa: S608 (constants)

_MIGRATION_LOCK = 0x74696C6C  # any number that no other program uses

_FACTS = """
SELECT current_setting('server_version_num')::int >= 130000, current_setting('server_version'),
    current_setting('server_encoding'), current_setting('synchronous_commit'), current_setting('fsync'),
    current_setting('transaction_read_only'), has_database_privilege(current_database(), 'TEMPORARY')"""

# NULL, which `bool_and` ignores, for tables that do not exist yet.
_MAY_WRITE = """
SELECT coalesce(bool_and(has_table_privilege(to_regclass(name), action)), true)
FROM unnest(%s::text[]) AS tables(name), unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS actions(action)"""


class PostgresSink(SqlSink):
    """A PostgreSQL database, 13 or newer. `url` is a `postgresql+psycopg` one; its query overrides the defaults."""

    driver_errors = (psycopg.Error,)

    def __init__(self, url: URL, clock: Clock = utc_now) -> None:
        settings = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items())
        options = f"{settings} {url.query.get('options', '')}"  # the later one counts
        engine = create_engine(
            url,
            connect_args={**{k: v for k, v in _CONNECT.items() if k not in url.query}, "options": options},
            hide_parameters=True,  # an error must not show what customers bought
            isolation_level="READ COMMITTED",  # the algorithm counts on each statement seeing what was committed
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

    def _claim(self, connection: Connection, documents: Sequence[ErpDocument], now: datetime) -> set[str]:
        connection.exec_driver_sql(_BATCH)
        _copy(connection, "tillstream_batch", copytext.DOCUMENT_COLUMNS, copytext.documents_text(documents))
        claimed = set(connection.exec_driver_sql(_CLAIM, (now,)).scalar_one())
        if len(claimed) < len(documents):
            known = [d.event_id for d in documents if d.event_id not in claimed]
            connection.exec_driver_sql(_DROP_KNOWN, (known,))
        return claimed

    def _take(self, connection: Connection, claimed: Sequence[ErpDocument], now: datetime) -> dict[str, bool]:
        external_refs, replaced = connection.exec_driver_sql(_TAKE, (now,)).one()
        return dict(zip(external_refs, replaced, strict=True))

    def _append_parts(self, connection: Connection, documents: Sequence[ErpDocument]) -> None:
        _copy(connection, "document_lines", copytext.LINE_COLUMNS, copytext.lines_text(documents))
        _copy(connection, "document_payments", copytext.PAYMENT_COLUMNS, copytext.payments_text(documents))
        _copy(connection, "document_taxes", copytext.TAX_COLUMNS, copytext.taxes_text(documents))

    def _lock_schema(self, connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")  # a migration takes as long as it takes
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))

    def _server_findings(self, connection: Connection) -> list[Finding]:
        new, version, encoding, synchronous, fsync, read_only, may_temp = connection.exec_driver_sql(_FACTS).one()
        may_write = connection.exec_driver_sql(_MAY_WRITE, (list(metadata.tables),)).scalar_one()
        user = self._engine.url.username or "the user"
        return [
            Finding("server", new, f"PostgreSQL {version}", "Upgrade it to 13 or newer."),
            Finding("encoding", encoding == "UTF8", encoding, "Create the database with ENCODING 'UTF8'."),
            Finding(
                "durability",
                synchronous != "off",  # fsync=off is how some hosts, whose storage does it, are set up
                f"synchronous_commit={synchronous}, fsync={fsync}",
                "Switch synchronous_commit on: a crash would lose sales that were acknowledged.",
            ),
            Finding("writable", read_only == "off", f"read-only is {read_only}", "Connect to the primary server."),
            Finding(
                "privileges",
                may_temp and may_write,
                f"temporary tables: {_yes_or_no(may_temp)}, our tables: {_yes_or_no(may_write)}",
                f"GRANT {user} TEMPORARY on the database, and SELECT, INSERT, UPDATE, DELETE on the tables.",
            ),
        ]

    def _classified(self, error: BaseException) -> BaseException:
        return of_postgres(error) if isinstance(error, psycopg.Error) else error


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"


def _copy(connection: Connection, table: str, columns: str, rows: bytes) -> None:
    raw: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]  # psycopg's, as the URL says
    try:
        with raw.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
            copy.write(rows)
    except psycopg.Error:
        if raw.closed:  # past SQLAlchemy's back: tell it, or it hands the dead connection out again
            connection.invalidate()
        raise
