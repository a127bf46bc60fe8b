"""Write a batch to an SQL database: the algorithm that `sinks.postgres.sink` and `sinks.sqlite.sink` share.

One transaction per batch:
1. Claim the event ids in `deliveries`. An id that is there already was delivered before: a duplicate if the content
   is the same, else a conflict.
2. Take the claimed documents: insert them, or replace those held at a lower revision.
3. Settle the claimed ones that were not taken, because the same or a newer revision is held: superseded, a duplicate,
   or a conflict, whose claim is given up again and which is recorded in `conflicts`. Events recorded there are refused
   again whenever they come, so that the outcome does not depend on how often a record is read, or on later records.
4. Delete the parts of the replaced documents, append the parts of all taken ones.
5. Record every effect other than `written` with its claim, and commit.

Where two workers write the same event at once (a rebalance), the second waits in step 1 for the first to commit, and
then finds a duplicate. When the answer to a commit is lost, the call raises SinkUnavailable, and the next call with
the same documents finds duplicates.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from typing import ClassVar

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from schemas.document import ErpDocument
from sinks import migrations
from sinks.base import (
    Accepted,
    DeliveryRecord,
    DocumentDigest,
    OrphanedParts,
    PreflightFinding,
    ReferenceSnapshot,
    Restored,
    Result,
    SinkUnavailable,
    StoreDay,
    write_bisecting,
)
from sinks.sql import reads, snapshots, steps
from sinks.sql.tables import deliveries, metadata
from sinks.sql.tables import documents as held

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the clock outside tests."""
    return datetime.now(UTC)


class _NotKept(Exception):
    """Ends a transaction without a commit."""


class SqlSink(ABC):
    """A sink in an SQL database. A subclass says how each step is done best there, and what its errors mean."""

    #: The driver's exceptions.
    driver_errors: ClassVar[tuple[type[Exception], ...]]
    #: Documents per transaction at most: drivers bound the number of parameters of one statement.
    max_batch: ClassVar[int] = 10_000
    #: The first statement of a transaction that reads one snapshot.
    snapshot: ClassVar[str]
    #: As in `Comparable`.
    compared: str = "the rows of its tables, summed and digested by the database; and that each document is remembered"

    def __init__(self, engine: Engine, clock: Clock = utc_now) -> None:
        self._engine = engine
        self._clock = clock

    def write(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """As in the protocol, in transactions of `max_batch` documents."""
        results: list[Result] = []
        for start in range(0, len(documents), self.max_batch):
            results += write_bisecting(documents[start : start + self.max_batch], self._write_all)
        return results

    def _write_all(self, documents: Sequence[ErpDocument]) -> list[Result]:
        assert len({d.event_id for d in documents}) == len({d.external_ref for d in documents}) == len(documents)
        with self._writing() as connection:
            return self._deliver(connection, documents, self._clock())

    def rehearse(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """As in the protocol: the transactions of `write`, rolled back. Until then their claims are locked."""
        results: list[Result] = []
        for start in range(0, len(documents), self.max_batch):
            results += write_bisecting(documents[start : start + self.max_batch], self._rehearse_all)
        return results

    def _rehearse_all(self, documents: Sequence[ErpDocument]) -> list[Result]:
        results: list[Result] = []
        with suppress(_NotKept), self._writing() as connection:
            results = self._deliver(connection, documents, self._clock())
            raise _NotKept
        return results

    def _deliver(self, connection: Connection, documents: Sequence[ErpDocument], now: datetime) -> list[Result]:
        claimed = self._claim(connection, documents, now)  # 1
        known = steps.recognise(connection, [d for d in documents if d.event_id not in claimed])

        fresh = [d for d in documents if d.event_id in claimed]
        replaces = self._take(connection, fresh, now)  # 2
        results: dict[str, Result] = {
            d.event_id: Accepted(d.event_id, "replaced" if replaces[d.external_ref] else "written")
            for d in fresh
            if d.external_ref in replaces
        }
        results |= steps.settle(connection, [d for d in fresh if d.external_ref not in replaces])  # 3

        steps.delete_parts(connection, [ref for ref, replaced in replaces.items() if replaced])  # 4
        self._append_parts(connection, [d for d in fresh if d.external_ref in replaces])

        steps.note_effects(connection, results)  # 5
        results |= known
        return [results[d.event_id] for d in documents]

    @abstractmethod
    def _claim(self, connection: Connection, documents: Sequence[ErpDocument], now: datetime) -> set[str]:
        """Insert the missing deliveries, as `written`. Return their event ids."""

    @abstractmethod
    def _take(self, connection: Connection, claimed: Sequence[ErpDocument], now: datetime) -> dict[str, bool]:
        """Insert each document, or replace the one held at a lower revision.

        Returns the external_ref of each document taken, and whether it replaced another.
        """

    @abstractmethod
    def _append_parts(self, connection: Connection, documents: Sequence[ErpDocument]) -> None:
        """Insert the lines and payments of `documents`."""

    def ping(self) -> None:
        """As in the protocol: begins a transaction that may write and looks at the tables."""
        with self._writing() as connection:
            connection.execute(select(deliveries.c.event_id).limit(1))

    def check(self, *, apply: bool = False) -> list[PreflightFinding]:
        """As in the protocol."""
        if apply:
            with self._writing() as connection:
                self._lock_schema(connection)
                migrations.upgrade(connection, metadata)
        with self._connection() as connection:
            return [*self._server_findings(connection), migrations.schema_finding(connection)]

    @abstractmethod
    def _lock_schema(self, connection: Connection) -> None:
        """Make other processes that want to migrate wait until this transaction ends."""

    @abstractmethod
    def _server_findings(self, connection: Connection) -> list[PreflightFinding]:
        """Return the preflight's findings about the database itself."""

    def totals(self, store: str | None = None, day: date | None = None, *, deep: bool = False) -> list[StoreDay]:
        """As in the protocol."""
        with self._snapshot() as connection:
            return reads.totals(connection, store, day, deep=deep)

    def prints(self, store: str, day: date) -> list[DocumentDigest]:
        """As in the protocol."""
        with self._snapshot() as connection:
            return reads.prints(connection, store, day)

    def read(self, external_refs: Sequence[str]) -> list[ErpDocument]:
        """As in the protocol."""
        refs = sorted(set(external_refs))
        with self._connection() as connection:
            parts = [refs[start : start + self.max_batch] for start in range(0, len(refs), self.max_batch)]
            return [document for part in parts for document in reads.documents(connection, part)]

    def holds(self, external_refs: Sequence[str]) -> set[str]:
        """As in the protocol."""
        refs = list(external_refs)
        found: set[str] = set()
        with self._connection() as connection:
            for start in range(0, len(refs), self.max_batch):
                part = refs[start : start + self.max_batch]
                query = select(held.c.external_ref).where(held.c.external_ref.in_(part))
                found.update(connection.execute(query).scalars())
        return found

    def deliveries(self, event_ids: Sequence[str]) -> list[DeliveryRecord]:
        """As in `Remembering`."""
        ids = sorted(set(event_ids))
        found: list[DeliveryRecord] = []
        columns = [deliveries.c[name] for name in ("event_id", "external_ref", "revision", "effect", "delivered_at")]
        with self._connection() as connection:
            for start in range(0, len(ids), self.max_batch):
                query = select(*columns).where(deliveries.c.event_id.in_(ids[start : start + self.max_batch]))
                found += [DeliveryRecord(*row) for row in connection.execute(query)]
        return sorted(found, key=lambda delivery: (delivery.at, delivery.event_id))

    def fragments(self, external_refs: Sequence[str] | None = None) -> list[OrphanedParts]:
        """As in `Fragmentary`."""
        with self._snapshot() as connection:
            return snapshots.fragments(connection, external_refs)

    def keep(self, external_refs: Sequence[str]) -> list[ReferenceSnapshot]:
        """As in `Forgetful`."""
        with self._snapshot() as connection:
            return snapshots.keep(connection, external_refs)

    def forget(self, kept: Sequence[ReferenceSnapshot]) -> list[str]:
        """As in `Forgetful`."""
        with self._writing() as connection:
            snapshots.lock(connection, [each.external_ref for each in kept])
            return snapshots.forget(connection, kept)

    def restore(self, kept: Sequence[ReferenceSnapshot], *, rehearse: bool = False) -> dict[str, Restored]:
        """As in `Forgetful`."""
        with self._writing() as connection:
            snapshots.lock(connection, [each.external_ref for each in kept])
            try:
                return snapshots.restore(connection, kept, rehearse=rehearse)
            except IntegrityError:
                raise SinkUnavailable("lock", "something was written under one of these references meanwhile") from None

    def close(self) -> None:
        """As in the protocol."""
        self._engine.dispose()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Provide a transaction that is going to write; it commits at the end, or rolls back on any exception."""
        with self._connection() as connection:
            yield connection
            connection.commit()

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        """Provide a transaction whose statements all see the same moment, however long they take; it writes nothing."""
        with self._connection() as connection:
            connection.exec_driver_sql(self.snapshot)
            yield connection

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """Provide a connection whose errors come out as a sink's.

        The driver's exception is cut off from ours: its text may quote rows, and so may a traceback that shows it.
        """
        try:
            with self._engine.connect() as connection:
                yield connection
        except PoolTimeoutError:
            raise SinkUnavailable("connection", "All connections of this process are in use.") from None
        except StatementError as error:  # SQLAlchemy's wrapper of errors of the driver, or of a column's type
            raise self._classified(error.orig or error) from None
        except self.driver_errors as error:
            raise self._classified(error) from None

    @abstractmethod
    def _classified(self, error: BaseException) -> BaseException:
        """One of `driver_errors` as DocumentsRefused or SinkUnavailable; a bug, or any other error, as it is."""
