"""The state of each document in an ERP behind an API: a small SQL table next to the worker.

    new ──▶ created ──▶ confirmed ──▶ posted
     └──────────┴──────────▶ refused

`new`: about to be sent, or sent without an answer. `created`: the ERP holds it and does not count it yet. `confirmed`:
it is a sale there. `posted`: it is in the ERP's ledger. `refused`: the ERP will not take it as it is.

The ERP is the truth. This log can be read without querying it and rebuilt from it at any time; no decision to
send a document depends on it.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from threading import Lock
from typing import Any, Literal, cast

from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    make_url,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from sinks.base import SinkMisconfigured, SinkUnavailable
from sinks.sql.tables import UtcDateTime

State = Literal["new", "created", "confirmed", "posted", "refused"]

#: The ledger of a sink whose URL names none.
DEFAULT_URL = "sqlite:///tillstream-ledger.sqlite"
_CHUNK = 500

_metadata = MetaData()
_states = Table(
    "delivery_states",
    _metadata,
    Column("erp", Text, primary_key=True),
    Column("external_ref", Text, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("number", Text),
    Column("attempts", Integer, nullable=False),
    Column("last_error", Text),
    Column("changed_at", UtcDateTime, nullable=False),
)


@dataclass(frozen=True, slots=True)
class DeliveryEntry:
    """One document's state; `number` is the ERP's own, `last_error` no personal data."""

    external_ref: str
    revision: int
    state: State
    number: str | None = None
    attempts: int = 0
    last_error: str | None = None


def split_ledger(url: URL) -> tuple[URL, URL]:
    """Split a sink's URL into itself without the parameter `ledger`, and the ledger's URL. Raises SinkMisconfigured."""
    try:
        ledger = make_url(str(url.query.get("ledger", DEFAULT_URL)))
    except ArgumentError:
        raise SinkMisconfigured("The sink's parameter ledger is not a URL such as sqlite:///ledger.sqlite.") from None
    if ledger.get_backend_name() not in ("sqlite", "postgresql"):
        raise SinkMisconfigured("The ledger is an SQLite file or a PostgreSQL database: ledger=sqlite:///…")
    if ledger.password:
        raise SinkMisconfigured("The ledger's URL contains a password. Use PGPASSWORD or a .pgpass file.")
    if ledger.get_backend_name() == "postgresql":
        ledger = ledger.set(drivername="postgresql+psycopg")
    return url.difference_update_query(["ledger"]), ledger


class DeliveryLog:
    """The states of one ERP's documents; `erp` tells it from others in the same database.

    Every call is one transaction, from any thread and process. Raises SinkUnavailable of kind `ledger`.
    """

    def __init__(self, url: URL, erp: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._engine = _engine(url)
        self._erp = erp
        self._clock = clock
        self._ready = False
        self._preparing = Lock()

    def attempt(self, documents: Iterable[tuple[str, int]]) -> None:
        """Record that these (external_ref, revision) are about to be sent: `new`, unless they have a state already."""
        now = self._clock()
        rows = [
            {"external_ref": ref, "revision": revision, "state": "new", "attempts": 1, "changed_at": now}
            for ref, revision in documents
        ]
        self._upsert(rows, lambda new: {"attempts": _states.c.attempts + 1})

    def note(self, entries: Iterable[DeliveryEntry]) -> None:
        """Write down the state, number and error of each; the attempts count on as they were."""
        kept = ("revision", "state", "number", "last_error", "changed_at")
        self._upsert(self._rows(entries), lambda new: {name: new[name] for name in kept})

    def fail(self, external_refs: Sequence[str], error: str) -> None:
        """Write down why these could not be brought further; their state stays."""
        statement = update(_states).where(_states.c.erp == self._erp, _states.c.external_ref == bindparam("ref"))
        with self._transaction() as connection:
            if external_refs:
                connection.execute(statement.values(last_error=error), [{"ref": ref} for ref in external_refs])

    def find(self, external_refs: Sequence[str]) -> list[DeliveryEntry]:
        """Return the entries under these references, ordered by them."""
        refs = sorted(set(external_refs))
        with self._transaction() as connection:
            chunks = (refs[start : start + _CHUNK] for start in range(0, len(refs), _CHUNK))
            return [entry for part in chunks for entry in self._select(connection, _states.c.external_ref.in_(part))]

    def numbers(self, external_refs: Sequence[str]) -> dict[str, str]:
        """As in `base.SupportsErpNumbers`."""
        return {each.external_ref: f"{each.number}, {each.state}" for each in self.find(external_refs) if each.number}

    def in_state(self, state: State) -> list[DeliveryEntry]:
        """Return the entries in this state, ordered by reference."""
        with self._transaction() as connection:
            return self._select(connection, _states.c.state == state)

    def with_errors(self, state: State) -> list[DeliveryEntry]:
        """Return the entries in this state that have a last error, ordered by reference."""
        with self._transaction() as connection:
            return self._select(connection, (_states.c.state == state) & _states.c.last_error.is_not(None))

    def counts(self) -> dict[State, int]:
        """How many documents are in each state."""
        query = select(_states.c.state, func.count()).where(_states.c.erp == self._erp).group_by(_states.c.state)
        with self._transaction() as connection:
            return {cast(State, state): count for state, count in connection.execute(query)}

    def rebuild(self, entries: Iterable[DeliveryEntry]) -> None:
        """Replace the log's entries by those of the ERP, `entries`; refused ones stay, since no ERP holds them."""
        own = _states.c.erp == self._erp
        with self._transaction() as connection:
            connection.execute(delete(_states).where(own, _states.c.state != "refused"))
            rows = iter(self._rows(entries))
            while part := list(islice(rows, _CHUNK)):
                connection.execute(self._insert(lambda new: {c.name: c for c in new if c.name != "attempts"}), part)

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    def _rows(self, entries: Iterable[DeliveryEntry]) -> list[dict[str, Any]]:
        now = self._clock()
        return [
            {
                "erp": self._erp,
                "external_ref": entry.external_ref,
                "revision": entry.revision,
                "state": entry.state,
                "number": entry.number,
                "attempts": entry.attempts,
                "last_error": entry.last_error,
                "changed_at": now,
            }
            for entry in entries
        ]

    def _select(self, connection: Connection, where: Any) -> list[DeliveryEntry]:
        columns = [_states.c[name] for name in DeliveryEntry.__slots__]
        query = select(*columns).where(_states.c.erp == self._erp, where).order_by(_states.c.external_ref)
        return [DeliveryEntry(**row._asdict()) for row in connection.execute(query)]

    def _upsert(self, rows: list[dict[str, Any]], changed: Callable[[Any], dict[str, Any]]) -> None:
        with self._transaction() as connection:
            if rows:
                connection.execute(self._insert(changed), [row | {"erp": self._erp} for row in rows])

    def _insert(self, changed: Callable[[Any], dict[str, Any]]) -> Any:
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        insert = dialect.insert(_states)
        return insert.on_conflict_do_update(index_elements=["erp", "external_ref"], set_=changed(insert.excluded))

    def _create(self) -> None:
        """Other processes may do the same at the same moment."""
        with self._engine.begin() as connection:
            connection.execute(CreateTable(_states, if_not_exists=True))
            for index in _states.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._preparing:
                if not self._ready:
                    self._create()
                    self._ready = True
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise SinkUnavailable("ledger", f"the delivery ledger: {getattr(error, 'orig', None) or error}") from None


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, hide_parameters=True)
    engine = create_engine(url, connect_args={"timeout": 10.0}, hide_parameters=True)
    event.listen(engine, "connect", _configure)
    return engine


def _configure(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA journal_mode = WAL").close()
    connection.execute("PRAGMA synchronous = NORMAL").close()  # entries lost to a power cut can be rebuilt
