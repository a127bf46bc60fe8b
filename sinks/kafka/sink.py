"""A Kafka topic: one record per document and revision, whatever crashes, whoever else writes.

A store's documents are in one partition, in the order of their effects; a record's key is the external_ref, its value
the document as JSON. An *index*, an SQLite sink with the same content, answers whether a document is in the topic
already. Writing:

1. Own the partition: take its transactional id over, which fences every other writer off and decides its last
   transaction, and then read the partition to its end into the index. Whoever owns a partition knows all of it.
2. In one transaction of the index, decide which documents are new, as in any SQL sink (`sinks.sql.sink`).
3. Commit the new documents to Kafka, in one transaction. A writer that was fenced off meanwhile fails here.
4. Commit the index. A crash between 3 and 4 leaves an index that lacks the last documents: step 1 reads them.

If anything fails, the ownership is given up, so the next call begins with 1. The index is a cache: the topic is the
truth. Facts that the topic does not hold are lost with the index: which events were superseded or in conflict.
"""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from threading import RLock
from typing import Any
from zlib import crc32

from confluent_kafka import Message
from pydantic import ValidationError
from sqlalchemy import (
    URL,
    Column,
    Connection,
    Integer,
    MetaData,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from schemas.document import ErpDocument, from_json
from sinks.base import (
    SCHEMA_ADVICE,
    Accepted,
    DeliveryRecord,
    DocumentDigest,
    DocumentsRefused,
    OrphanedParts,
    PreflightFinding,
    Result,
    SinkMisconfigured,
    SinkUnavailable,
    StoreDay,
    write_bisecting,
)
from sinks.kafka.client import CommittedReader, TopicDescription, TransactionalWriter, told
from sinks.sql.sink import Clock, utc_now
from sinks.sql.tables import deliveries
from sinks.sqlite.sink import SqliteSink

#: Up to where the index has read each partition, and of which topic it is.
_positions = Table(
    "kafka_positions",
    MetaData(),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", Integer, nullable=False),
    Column("topic", Text, nullable=False),
)

#: A rebuilt index has to report the times at which the topic got its records, not those of reading them.
_DELIVERED_AT = (
    update(deliveries).where(deliveries.c.event_id == bindparam("event")).values(delivered_at=bindparam("at"))
)


class KafkaSink(SqliteSink):
    """The topic `topic`, created with the `wanted` partitions and replicas by `check --apply`.

    `index`: the file to keep the index in; without one the topic is read again at each start.
    """

    compared = "the index of the topic's records: that the topic still has them is not looked at"

    def __init__(
        self,
        config: dict[str, Any],
        topic: str,
        *,
        index: Path | None = None,
        wanted: tuple[int, int] = (4, 1),
        clock: Clock = utc_now,
    ) -> None:
        self._config = config | {"log_level": 0}
        self._wanted = wanted
        self._topic = TopicDescription(self._config, topic)
        self._folder = tempfile.TemporaryDirectory(prefix="tillstream-") if index is None else None
        file = Path(self._folder.name) / "index.sqlite" if self._folder is not None else index
        super().__init__(URL.create("sqlite", database=str(file)), clock)
        self._owned: dict[int, TransactionalWriter] = {}
        self._reader: CommittedReader | None = None
        self._partitions = 0
        self._one_at_a_time = RLock()

    def write(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """As in the protocol, in transactions of one partition."""
        return self._by_partition(documents, self._write_to)

    def rehearse(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """As in the protocol. Owns nothing: another process may write before `write` does."""
        with self._one_at_a_time:
            self._catch_up(range(self._open()))
            return super().rehearse(documents)

    def _by_partition(
        self, documents: Sequence[ErpDocument], write: Callable[[int, Sequence[ErpDocument]], list[Result]]
    ) -> list[Result]:
        with self._one_at_a_time:
            parts: dict[int, list[ErpDocument]] = defaultdict(list)
            partitions = self._open() if documents else 0
            for document in documents:
                parts[partition_of(document.store, partitions)].append(document)
            results = {r.event_id: r for partition, part in parts.items() for r in write(partition, part)}
            return [results[document.event_id] for document in documents]

    def _write_to(self, partition: int, documents: Sequence[ErpDocument]) -> list[Result]:
        try:
            parts = [documents[start : start + self.max_batch] for start in range(0, len(documents), self.max_batch)]
            return [r for part in parts for r in write_bisecting(part, lambda each: self._commit(partition, each))]
        except BaseException:  # the outcome of the last transaction is unknown: the topic has to be read
            self._disown(partition)
            raise

    def _commit(self, partition: int, documents: Sequence[ErpDocument]) -> list[Result]:
        self._own(partition)  # 1
        with self._writing() as connection:
            results = self._deliver(connection, documents, self._clock())  # 2
            effects = [(d, r.effect) for d, r in zip(documents, results, strict=True) if isinstance(r, Accepted)]
            new = [(d, effect) for d, effect in effects if effect in ("written", "replaced")]
            if new:
                try:
                    end = self._owned[partition].commit(new)  # 3
                except DocumentsRefused:
                    self._disown(partition)
                    raise
                self._move(connection, {partition: end + 1})
            return results  # 4

    def _own(self, partition: int) -> None:
        if partition not in self._owned:
            self._owned[partition] = TransactionalWriter(self._config, self._topic.name, partition)
            # All of them, since a store had another partition before the topic was given more.
            self._catch_up(range(self._partitions))

    def _disown(self, partition: int) -> None:
        owned = self._owned.pop(partition, None)
        if owned is not None:
            owned.close()

    # ---- the index

    def _open(self) -> int:
        """Return the number of partitions. Prepares the index and looks whether it is this topic's, the first time."""
        if not self._partitions:
            super().check(apply=True)
            partitions = self._topic.partitions()
            if not partitions:
                raise SinkUnavailable("schema", f"The topic {self._topic.name} is missing; {SCHEMA_ADVICE}")
            identity = self._topic.identity()
            with self._writing() as connection:
                _positions.create(connection, checkfirst=True)
                others = set(connection.execute(select(_positions.c.topic)).scalars()) - {identity}
            if others:
                raise SinkMisconfigured(
                    f"The index was made from another topic than {self._topic.name} is now (it was deleted and made "
                    "again?). Delete the index's file, or name another one."
                )
            self._identity, self._partitions = identity, partitions
        return self._partitions

    def _catch_up(self, partitions: Sequence[int]) -> None:
        """Read the records that others have written since the last call."""
        with self._connection() as connection:
            rows = connection.execute(select(_positions.c.partition, _positions.c.next_offset))
            known = {row.partition: row.next_offset for row in rows}
        if self._reader is None:
            with told():
                self._reader = CommittedReader(self._config, self._topic.name)
        for messages in self._reader.to_end({number: known.get(number, 0) for number in partitions}):
            for documents in _without_repetition(messages):
                super().write(documents)
            ends = {message.partition() or 0: message for message in messages}
            times = [
                {"event": _document(message).event_id, "at": _time(message)}
                for message in messages
                if message.error() is None
            ]
            with self._writing() as connection:
                if times:
                    connection.execute(_DELIVERED_AT, times)
                self._move(connection, {p: (m.offset() or 0) + (m.error() is None) for p, m in ends.items()})

    def _move(self, connection: Connection, positions: dict[int, int]) -> None:
        connection.execute(delete(_positions).where(_positions.c.partition.in_(positions)))
        rows = [{"partition": p, "next_offset": at, "topic": self._identity} for p, at in positions.items()]
        connection.execute(insert(_positions), rows)

    # ---- reading

    def read(self, external_refs: Sequence[str]) -> list[ErpDocument]:
        """As in the protocol."""
        self._refresh()
        return super().read(external_refs)

    def holds(self, external_refs: Sequence[str]) -> set[str]:
        """As in the protocol."""
        self._refresh()
        return super().holds(external_refs)

    def totals(self, store: str | None = None, day: date | None = None, *, deep: bool = False) -> list[StoreDay]:
        """As in the protocol."""
        self._refresh()
        return super().totals(store, day, deep=deep)

    def prints(self, store: str, day: date) -> list[DocumentDigest]:
        """As in the protocol."""
        self._refresh()
        return super().prints(store, day)

    def deliveries(self, event_ids: Sequence[str]) -> list[DeliveryRecord]:
        """As in `Remembering`."""
        self._refresh()
        return super().deliveries(event_ids)

    def fragments(self, external_refs: Sequence[str] | None = None) -> list[OrphanedParts]:
        """As in `Fragmentary`."""
        self._refresh()
        return super().fragments(external_refs)

    forget = None  # type: ignore[assignment]  # not `Forgetful`: the index could, and the topic can't

    def _refresh(self) -> None:
        with self._one_at_a_time:
            self._catch_up(range(self._open()))

    def ping(self) -> None:
        """As in the protocol: the broker answers and has the topic."""
        with self._one_at_a_time:
            self._open()
        self._topic.ends(self._partitions)

    def check(self, *, apply: bool = False) -> list[PreflightFinding]:
        """As in the protocol."""
        partitions, replication = self._wanted
        subject = f"topic {self._topic.name}"
        if apply and not self._topic.partitions():
            self._topic.create(partitions, replication)
        there = self._topic.partitions()
        if not there:
            return [PreflightFinding(subject, False, "missing", f"to create it, {SCHEMA_ADVICE}")]
        settings = self._topic.settings()
        kept = settings.get("cleanup.policy") == "delete" and settings.get("retention.ms") == "-1"
        found = f"{there} partitions, cleanup.policy={settings.get('cleanup.policy')}, "
        found += f"retention.ms={settings.get('retention.ms')}"
        advice = "set cleanup.policy=delete and retention.ms=-1: documents that it forgets can be written again"
        with self._one_at_a_time:
            self._open()
            TransactionalWriter(self._config, f"{self._topic.name}-:check", 0).close()  # no topic's: none has a colon
        return [
            PreflightFinding(subject, kept, found, advice),
            PreflightFinding("transactions", True, "allowed"),
            PreflightFinding("index", True, "in a temporary file, read anew at each start" if self._folder else "kept"),
        ]

    def close(self) -> None:
        """As in the protocol."""
        with self._one_at_a_time:
            for partition in list(self._owned):
                self._disown(partition)
            if self._reader is not None:
                self._reader.close()
                self._reader = None
            super().close()
            if self._folder is not None:
                self._folder.cleanup()


def partition_of(store: str, partitions: int) -> int:
    """Return the partition of a store's documents: the one that librdkafka's producers choose for that key."""
    return crc32(store.encode(errors="surrogatepass")) % partitions


def _without_repetition(messages: Sequence[Message]) -> Iterator[list[ErpDocument]]:
    """Cut the documents, in their order, so that no piece has two of one event or receipt."""
    piece: list[ErpDocument] = []
    taken: set[tuple[str, str]] = set()
    for message in messages:
        if message.error() is not None:
            continue
        document = _document(message)
        names = {("event", document.event_id), ("receipt", document.external_ref)}
        if names & taken:
            yield piece
            piece, taken = [], set()
        piece.append(document)
        taken |= names
    if piece:
        yield piece


def _time(message: Message) -> datetime:
    _, milliseconds = message.timestamp()
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _document(message: Message) -> ErpDocument:
    try:
        return from_json(message.value() or b"")
    except ValidationError:
        place = f"{message.topic()}, partition {message.partition()}, offset {message.offset()}"
        raise SinkUnavailable("corrupt", f"A record that is no document, of another writer: {place}") from None
