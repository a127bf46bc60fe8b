"""Reads and changes topics and consumer groups in tests, through confluent-kafka."""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined] # not in its __all__
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

from tests.support.wait import wait_until

T = TypeVar("T")
Headers = list[tuple[str, bytes | None]]

#: The mock broker's number, and so the default everywhere: the same tests run on both kinds of broker.
PARTITIONS = 4
_TIMEOUT = 30.0
_ATTEMPT = 5.0

_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # has no types
_EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # has no types
_MOMENTARY = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
)


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a topic. `timestamp` is in milliseconds since 1970."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int
    offset: int
    timestamp: int


class Topics:
    """The Kafka at `bootstrap`, for tests. All calls block until done, and raise KafkaException."""

    def __init__(self, bootstrap: str, *, creates_topics: bool = True) -> None:
        self.bootstrap = bootstrap
        self.admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})
        self._creates_topics = creates_topics
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "linger.ms": 0, "message.max.bytes": 16 * 2**20, "log_level": 2}
        )

    def create_topic(self, name: str, partitions: int = PARTITIONS, config: Mapping[str, str] | None = None) -> None:
        """Create a topic and return when it can be used. Skips the test on a broker that can't do it."""
        if self._creates_topics:
            topic = NewTopic(name, partitions, 1, config=dict(config or {}))
            self.admin.create_topics([topic])[name].result(_TIMEOUT)
        elif partitions != PARTITIONS:
            pytest.skip(f"the mock broker's topics have {PARTITIONS} partitions, this test needs {partitions}")
        _retry(lambda: self._offsets(name, _LATEST), KafkaError.UNKNOWN_TOPIC_OR_PART)

    def delete_topic(self, name: str) -> None:
        """Delete a topic and return when it is gone."""
        self.admin.delete_topics([name])[name].result(_TIMEOUT)
        wait_until(lambda: name not in self.admin.list_topics(timeout=_TIMEOUT).topics, _TIMEOUT, f"{name} to be gone")

    def set_config(self, topic: str, **settings: str) -> None:
        """Change settings of a topic; write underscores for dots."""
        entries = [
            ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            for name, value in settings.items()
        ]
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
        self.admin.incremental_alter_configs([resource])[resource].result(_TIMEOUT)

    def add_partitions(self, topic: str, partitions: int) -> None:
        """Raise a topic's number of partitions to `partitions` and return when they can be used."""
        self.admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(_TIMEOUT)
        wait_until(lambda: len(self._partitions(topic)) == partitions, _TIMEOUT, f"{partitions} partitions")
        _retry(lambda: self._offsets(topic, _LATEST), KafkaError.UNKNOWN_TOPIC_OR_PART)

    def produce(
        self,
        topic: str,
        records: Iterable[tuple[bytes | None, bytes | None, Headers]],
        *,
        partition: int = -1,
        timestamp: int = 0,
    ) -> list[tuple[int, int]]:
        """Write `(key, value, headers)` records; return their (partition, offset)s when all are confirmed.

        Without `partition` the key decides, as it does for every librdkafka producer. `timestamp` is in milliseconds:
        0 means now.
        """
        places: list[tuple[int, int]] = []

        def confirmed(error: KafkaError | None, message: Message) -> None:
            if error:
                raise KafkaException(error)
            places.append(_place(message))

        for key, value, headers in records:
            self._producer.produce(topic, value, key, partition, confirmed, timestamp=timestamp, headers=list(headers))
            self._producer.poll(0)
        missing = self._producer.flush(_TIMEOUT)
        assert not missing, f"{missing} records for {topic} are not confirmed after {_TIMEOUT} s"
        return places

    def records(self, topic: str) -> list[Record]:
        """Return all records up to the current ends, by partition and offset."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "tests-only-look",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 10,
                "log_level": 2,
            }
        )
        try:
            # The consumer itself asks: one that doesn't know the leaders when it is assigned partitions waits half a
            # second before it asks for them.
            partitions = self._partitions(topic, consumer)
            consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
            return sorted(_read_to_end(consumer, set(partitions)), key=lambda r: (r.partition, r.offset))
        finally:
            consumer.close()

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Return the group's committed offset of each partition that has one: the next record it would read."""
        places = [TopicPartition(topic, number) for number in self._partitions(topic)]
        with self._of(group) as consumer:
            found = _retry(lambda: consumer.committed(places, timeout=_ATTEMPT))
        return {place.partition: place.offset for place in found if place.offset >= 0}

    @contextmanager
    def _of(self, group: str) -> Iterator[Consumer]:
        """A consumer of the group that never joins it.

        The admin client crashes on a coordinator that has just moved, or is new:
        https://github.com/confluentinc/confluent-kafka-javascript/issues/374
        """
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group, "log_level": 2})
        try:
            yield consumer
        finally:
            consumer.close()

    def lag(self, group: str, topic: str) -> int:
        """Return how many records of the topic, over all partitions, the group has not committed yet."""
        ends = _retry(lambda: self._offsets(topic, _LATEST))
        starts = _retry(lambda: self._offsets(topic, _EARLIEST)) | self.committed(group, topic)
        return sum(end - starts[number] for number, end in ends.items())

    def skip(self, group: str, topic: str, ends: Mapping[int, int]) -> None:
        """Set the group to these offsets; it must have no members."""
        places = [TopicPartition(topic, number, offset) for number, offset in ends.items()]
        with self._of(group) as consumer:
            _retry(lambda: consumer.commit(offsets=places, asynchronous=False))

    def is_stable(self, topic: str) -> bool:
        """Return whether no transaction is open in the topic."""
        committed = _retry(lambda: self._offsets(topic, _LATEST, isolation_level=IsolationLevel.READ_COMMITTED))
        return committed == _retry(lambda: self._offsets(topic, _LATEST))

    def reset(self, group: str, topic: str) -> None:
        """Set the group back to the beginning; it must have no members."""
        places = [TopicPartition(topic, number, 0) for number in self._partitions(topic)]
        asked = self.admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, places)])
        asked[group].result(_TIMEOUT)

    def compressing_producer(self, codec: str) -> Producer:
        """Return a producer that compresses its batches."""
        return Producer(
            {"bootstrap.servers": self.bootstrap, "compression.type": codec, "linger.ms": 100, "log_level": 2}
        )

    def transactional_producer(self) -> Producer:
        """Return a producer whose transactions leave markers in the log."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "transactional.id": uuid.uuid4().hex, "log_level": 3})
        producer.init_transactions(_TIMEOUT)
        return producer

    def _offsets(self, topic: str, where: OffsetSpec, **options: Any) -> dict[int, int]:
        wanted = {TopicPartition(topic, number): where for number in self._partitions(topic)}
        answers = self.admin.list_offsets(wanted, **options)
        return {place.partition: answer.result(_ATTEMPT).offset for place, answer in answers.items()}

    def _partitions(self, topic: str, asking: AdminClient | Consumer | None = None) -> list[int]:
        found: Any = (asking or self.admin).list_topics(topic, timeout=_TIMEOUT).topics[topic]
        if found.error:
            raise KafkaException(found.error)
        return list(found.partitions)


def _retry(call: Callable[[], T], *also_momentary: int) -> T:
    """Call `call` until it stops failing as it may after a topic's creation or a broker's restart."""
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            return call()
        except TimeoutError:  # on a connection to a broker that is gone
            if time.monotonic() > deadline:
                raise
        except KafkaException as error:
            if error.args[0].code() not in {*_MOMENTARY, *also_momentary} or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _read_to_end(consumer: Consumer, unfinished: set[int]) -> Iterable[Record]:
    while unfinished:
        message = consumer.poll(_TIMEOUT)
        assert message is not None, f"partitions {unfinished} give nothing"
        error = message.error()
        if error is None:
            yield _record(message)
        elif error.code() == KafkaError._PARTITION_EOF:
            unfinished.discard(_place(message)[0])
        else:
            raise KafkaException(error)


def _record(message: Message) -> Record:
    partition, offset = _place(message)
    headers: Any = message.headers()
    key: Any = message.key()
    value: Any = message.value()
    return Record(key, value, list(headers or []), partition, offset, message.timestamp()[1])


def _place(message: Message) -> tuple[int, int]:
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    return partition, offset
