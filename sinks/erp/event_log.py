"""Outcomes of events that have no document of their own in an ERP: superseded ones, repetitions, conflicts.

Two tables of the SQL sinks, in the database of the ledger. An ERP has no place for them, and its documents don't
depend on them: if they are lost, an old revision that is sent again with other content is superseded again
instead of being reported as a conflict.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Lock

from sqlalchemy import Connection, Engine, insert, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.schema import CreateTable

from schemas.document import ErpDocument
from sinks.base import Accepted, Result, SinkUnavailable
from sinks.sql.tables import conflicts, deliveries

_CHUNK = 500


class EventLog:
    """The events of one database. Raises SinkUnavailable of kind `ledger`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ready = False
        self._preparing = Lock()

    def delivered(self, event_ids: Sequence[str]) -> dict[str, str]:
        """Return the content that each known event was delivered with."""
        with self._transaction() as connection:
            query = select(deliveries.c.event_id, deliveries.c.content)
            return {
                row.event_id: row.content
                for start in range(0, len(event_ids), _CHUNK)
                for row in connection.execute(query.where(deliveries.c.event_id.in_(event_ids[start : start + _CHUNK])))
            }

    def refused(self, event_ids: Sequence[str]) -> set[tuple[str, str]]:
        """(event, content) that was refused for its receipt before."""
        with self._transaction() as connection:
            query = select(conflicts.c.event_id, conflicts.c.content)
            return {
                (row.event_id, row.content)
                for start in range(0, len(event_ids), _CHUNK)
                for row in connection.execute(query.where(conflicts.c.event_id.in_(event_ids[start : start + _CHUNK])))
            }

    def note(self, documents: Sequence[ErpDocument], results: Sequence[Result]) -> None:
        """Remembers the receipts, and the refusals for a receipt, as they are now."""
        now = datetime.now(UTC)
        pairs = list(zip(documents, results, strict=True))
        with self._transaction() as connection:
            for document, result in pairs:
                names: dict[str, object] = {"event_id": document.event_id, "content": document.content}
                if not isinstance(result, Accepted):
                    _insert(connection, conflicts, names)
                else:
                    names |= {"external_ref": document.external_ref, "revision": document.revision}
                    _insert(connection, deliveries, names | {"effect": result.effect, "delivered_at": now})

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._preparing:
                if not self._ready:
                    with self._engine.begin() as connection:
                        for table in (deliveries, conflicts):
                            connection.execute(CreateTable(table, if_not_exists=True))
                    self._ready = True
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise SinkUnavailable("ledger", f"the delivery ledger: {getattr(error, 'orig', None) or error}") from None


def _insert(connection: Connection, table: object, row: dict[str, object]) -> None:
    try:
        with connection.begin_nested():
            connection.execute(insert(table), [row])  # type: ignore[arg-type]  # a Table
    except IntegrityError:
        return  # known already
