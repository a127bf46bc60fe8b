"""The Kafka sink's client: fencing transactions, reading to the end, and the translation of Kafka's errors."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not in its __all__
    AdminClient,
    ConfigResource,
    OffsetSpec,
)
from confluent_kafka.cimpl import NewTopic

from schemas.document import ErpDocument, to_json
from sinks.base import SCHEMA_ADVICE, DocumentsRefused, SinkUnavailable

TIMEOUT = 10.0
#: Seconds after which the broker ends a transaction whose writer has died. Readers of committed records wait that long.
TRANSACTION_SECONDS = 30
#: The topic's own limit decides; ours is beyond all that a broker takes.
_MOST_BYTES = 64 * 2**20

_TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)
_KINDS = {
    KafkaError._AUTHENTICATION: "auth",
    KafkaError.SASL_AUTHENTICATION_FAILED: "auth",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "privilege",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "privilege",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "privilege",
    KafkaError._FENCED: "lock",
    KafkaError.PRODUCER_FENCED: "lock",
    KafkaError.INVALID_PRODUCER_EPOCH: "lock",
    KafkaError.CONCURRENT_TRANSACTIONS: "lock",
    KafkaError._TIMED_OUT: "timeout",
    KafkaError._UNKNOWN_TOPIC: "schema",
    KafkaError._UNKNOWN_PARTITION: "schema",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "schema",
}


@contextmanager
def told() -> Iterator[None]:
    """Translate the client's errors into a sink's."""
    try:
        yield
    except KafkaException as error:
        raise of_kafka(error.args[0]) from None
    except SystemError as error:  # the client raises fatal errors, and then calls back all the same
        if not isinstance(error.__cause__, KafkaException):
            raise
        raise of_kafka(error.__cause__.args[0]) from None
    except TimeoutError:
        raise SinkUnavailable("timeout", "Kafka does not answer in time") from None


def of_kafka(error: KafkaError) -> Exception:
    """Return the exception to raise for an error of the client."""
    if error.code() in _TOO_LARGE:
        return DocumentsRefused("too_large_for_the_topic")
    kind = _KINDS.get(error.code(), "connection")
    advice = f"; {SCHEMA_ADVICE}" if kind == "schema" else ""
    if error.code() == KafkaError.INVALID_TIMESTAMP:
        advice = "; set the clock of this machine (NTP)"
    return SinkUnavailable(kind, f"Kafka: {error.str()} ({error.name()}){advice}")


class TransactionalWriter:
    """Writes to one partition in transactions, until another process takes the partition over.

    Its transactional id is the partition's, so that whoever came last is the only one who can commit.
    """

    def __init__(self, config: dict[str, Any], topic: str, partition: int) -> None:
        """Fence off earlier writers and decide their last transaction. Raises SinkUnavailable."""
        self._topic, self._partition = topic, partition
        own = {
            "transactional.id": f"{topic}-{partition}",
            "transaction.timeout.ms": TRANSACTION_SECONDS * 1000,
            "message.max.bytes": _MOST_BYTES,
            "compression.type": "lz4",
            "linger.ms": 0,
        }
        with told():
            self._producer = Producer(config | own)
            self._producer.init_transactions(TIMEOUT)

    def commit(self, documents: Sequence[tuple[ErpDocument, str]]) -> int:
        """Write all documents and their effects as records, or none. Return the offset of the last one.

        Raises DocumentsRefused if nothing was written, and SinkUnavailable if the transaction's outcome is unknown.
        After either, this writer can't be used any more.
        """
        offsets: list[int] = []
        refused: list[KafkaError] = []

        def confirmed(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                refused.append(error)
            else:
                offsets.append(message.offset() or 0)

        failed: list[KafkaError] = []
        with told():
            self._producer.begin_transaction()
            for document, effect in documents:
                headers = {"event_id": document.event_id, "revision": str(document.revision), "effect": effect}
                try:
                    self._producer.produce(
                        self._topic,
                        to_json(document),
                        document.external_ref.encode(),
                        self._partition,
                        confirmed,
                        headers=[(f"tillstream.{name}", value.encode()) for name, value in headers.items()],
                    )
                except KafkaException as error:  # an earlier record broke the transaction; its error is the cause
                    failed.append(error.args[0])
                    break
                self._producer.poll(0)
            if self._producer.flush(TIMEOUT):
                raise SinkUnavailable("timeout", "Kafka does not confirm documents in time")
            if reasons := refused + failed:  # one that is too large takes others with it, which say something else
                raise of_kafka(next((e for e in reasons if e.code() in _TOO_LARGE), reasons[0]))
            self._producer.commit_transaction(TIMEOUT)
        return max(offsets)

    def close(self) -> None:
        """Abort the open transaction. If that fails, the broker ends it after its timeout."""
        with suppress(SinkUnavailable, DocumentsRefused), told():
            self._producer.abort_transaction(1)
        with suppress(SinkUnavailable, DocumentsRefused), told():  # a fatal error may still be waiting to be raised
            self._producer.purge()
            self._producer.flush(0)


class CommittedReader:
    """Reads committed records from any offset to the end. Not thread-safe."""

    def __init__(self, config: dict[str, Any], topic: str) -> None:
        self._topic = topic
        own = {
            "group.id": f"{topic}-index",  # the client wants one; nothing is committed
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",  # where retention has taken the beginning away
            "fetch.wait.max.ms": 10,
        }
        self._consumer = Consumer(config | own)

    def to_end(self, positions: dict[int, int]) -> Iterator[list[Message]]:
        """Everything from `positions` on (partition: offset) to where the partitions end after the call, in pieces.

        Each partition's end is the last message of its last piece, as an error of the code _PARTITION_EOF.
        """
        unfinished = set(positions)
        with told():
            self._consumer.assign([TopicPartition(self._topic, number, place) for number, place in positions.items()])
            try:
                while unfinished:
                    messages = self._consumer.consume(5000, 0.02)
                    if not messages:
                        messages = self._consumer.consume(1, TIMEOUT)
                    if not messages:
                        raise SinkUnavailable("timeout", f"Kafka gives nothing of {self._topic}")
                    for message in messages:
                        error = message.error()
                        if error is None:
                            continue
                        if error.code() != KafkaError._PARTITION_EOF:
                            raise KafkaException(error)
                        unfinished.discard(message.partition() or 0)
                    yield messages
            finally:
                self._consumer.unassign()

    def close(self) -> None:
        """Give the connections back."""
        self._consumer.close()


class TopicDescription:
    """The broker's description of the topic."""

    def __init__(self, config: dict[str, Any], name: str) -> None:
        self.name = name
        self._admin = AdminClient(config)

    def partitions(self) -> int:
        """How many there are; 0 when the topic is missing. Raises SinkUnavailable."""
        with told():
            found = self._admin.list_topics(timeout=TIMEOUT).topics.get(self.name)
        return len(found.partitions) if found is not None else 0

    def identity(self) -> str:
        """Return the topic's id, which changes when the topic is deleted and created again. Raises SinkUnavailable."""
        with told():
            described = self._admin.describe_topics(TopicCollection([self.name]), request_timeout=TIMEOUT)
            return str(described[self.name].result(TIMEOUT).topic_id)

    def ends(self, partitions: int) -> dict[int, int]:
        """Where the committed records end. Raises SinkUnavailable."""
        end = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # the library ships types, but not for this one
        places = {TopicPartition(self.name, number): end for number in range(partitions)}
        with told():
            found = self._admin.list_offsets(places, isolation_level=IsolationLevel.READ_COMMITTED)
            return {place.partition: answer.result(TIMEOUT).offset for place, answer in found.items()}

    def settings(self) -> dict[str, str]:
        """Return the topic's settings. Raises SinkUnavailable."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, self.name)
        with told():
            found = self._admin.describe_configs([resource], request_timeout=TIMEOUT)[resource].result(TIMEOUT)
        return {name: entry.value for name, entry in found.items()}

    def create(self, partitions: int, replication: int) -> None:
        """Create the topic with unlimited retention and wait until all brokers know it. Raises SinkUnavailable."""
        wanted = NewTopic(
            self.name,
            num_partitions=partitions,
            replication_factor=replication,
            config={"retention.ms": "-1", "cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"},
        )
        with told():
            self._admin.create_topics([wanted], operation_timeout=TIMEOUT)[self.name].result(TIMEOUT)
        deadline = time.monotonic() + TIMEOUT
        while self.partitions() < partitions and time.monotonic() < deadline:
            time.sleep(0.05)
