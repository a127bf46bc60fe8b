"""A topic read from one end to the other, without a consumer group: nothing is committed, nobody is disturbed."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import methodcaller
from typing import Any, NamedTuple
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.batch import Headers
from streams.dead_letters.record import UNREADABLE
from streams.kafka.topics import BrokerUnreachable, client_config
from streams.settings import Settings

PIECE = 10_000
#: Told how many records have been read so far.
Progress = Callable[[int], None]
_ANSWER = 10.0
#: Seconds that a poll waits for more: it returns as late even when a partition has ended.
_POLL = 0.05
_PATIENCE = 30.0
#: `message.headers()`, for which Python sees at each call whether the client has set an exception beside its answer, as
#: it does for a name that is not UTF-8: Python 3.11 does not look where a call has been optimised.
_headers = methodcaller("headers")


class TopicRecord(NamedTuple):
    """One record; a `streams.batch.Record`."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class _LazyHeaders(Sequence[tuple[str, bytes]]):
    """The headers of a message, made into objects when somebody looks: a dead letter has twenty of them."""

    __slots__ = ("_message", "_unreadable")

    def __init__(self, message: Any) -> None:
        self._message = message
        self._unreadable = False

    def _read(self) -> list[tuple[str, bytes]]:
        if not self._unreadable:
            try:
                return _headers(self._message) or []
            except SystemError:  # what Python makes of an answer that comes with an exception
                self._unreadable = True  # never to be asked again: it would answer with tuples that crash Python
        return [(UNREADABLE, b"a name is not UTF-8")]

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __getitem__(self, index: Any) -> Any:
        return self._read()[index]


def reading_consumer(settings: Settings, **more: Any) -> Any:
    """A consumer that commits nothing by itself and tells where partitions end; the caller closes it."""
    plain = {
        "group.id": f"tillstream-look-{uuid4()}",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "fetch.message.max.bytes": 2**22,
        "queued.max.messages.kbytes": 2**15,  # of one partition: what is read ahead is held in memory
    }
    return Consumer(client_config(settings.broker, settings.kafka) | plain | more)


def know_leaders(consumer: Any, topic: str) -> None:
    """Asks who has the topic's partitions: a consumer that doesn't know when it is assigned some asks a second later.

    Raises KafkaException.
    """
    consumer.list_topics(topic, timeout=_ANSWER)


def take(consumer: Any, most: int, timeout: float = 1.0) -> list[TopicRecord]:
    """The next records that there are. Raises KafkaException."""
    messages = consumer.consume(most, timeout=timeout)
    for message in messages:
        if message.error() is not None:
            raise KafkaException(message.error())
    return [as_record(message) for message in messages]


def limits(consumer: Any, topic: str, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
    """Of each partition the first offset and the one behind the last. Raises KafkaException."""
    return {number: _limits(consumer, TopicPartition(topic, number)) for number in partitions}


def _limits(consumer: Any, place: TopicPartition) -> tuple[int, int]:
    deadline = time.monotonic() + _ANSWER
    while True:
        try:
            low, high = consumer.get_watermark_offsets(place, timeout=_ANSWER)
        except KafkaException as error:
            if error.args[0].code() not in _PASSING or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return low, high


#: What brokers say of a topic that is new, or whose leader moves.
_PASSING = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_LEADER_EPOCH,
)


def pieces(
    settings: Settings, topic: str, partitions: Iterable[int], progress: Progress = lambda _: None
) -> Iterator[list[TopicRecord]]:
    """All records that the partitions have now, in order within each, some thousands at a time.

    Raises BrokerUnreachable.
    """
    consumer = reading_consumer(settings)
    try:
        there = limits(consumer, topic, partitions)
        yield from read_spans(
            consumer, topic, {n: (low, high) for n, (low, high) in there.items() if low < high}, progress
        )
    except KafkaException as error:
        raise BrokerUnreachable(f"reading {topic} at {settings.broker}: {error.args[0].str()}") from None
    finally:
        consumer.close()


def record_at(settings: Settings, topic: str, partition: int, offset: int) -> TopicRecord | None:
    """The record at that place, if the topic still has it. Raises BrokerUnreachable."""
    consumer = reading_consumer(settings)
    try:
        low, high = limits(consumer, topic, [partition])[partition]
        if not low <= offset < high:
            return None
        for records in read_spans(consumer, topic, {partition: (offset, offset + 1)}, lambda _: None, most=1):
            return next((record for record in records if record.offset == offset), None)
        return None
    except KafkaException as error:
        raise BrokerUnreachable(f"reading {topic} at {settings.broker}: {error.args[0].str()}") from None
    finally:
        consumer.close()


def read_spans(
    consumer: Any, topic: str, spans: dict[int, tuple[int, int]], progress: Progress, most: int = PIECE
) -> Iterator[list[TopicRecord]]:
    """The records of each partition from the first offset of its span to before the second. Raises KafkaException."""
    know_leaders(consumer, topic)
    consumer.assign([TopicPartition(topic, number, low) for number, (low, _) in spans.items()])
    count, heard = 0, time.monotonic()
    open_ones = set(spans)
    while open_ones:
        records: list[TopicRecord] = []
        for message in consumer.consume(most, timeout=_POLL):
            error = message.error()
            if error is None:
                record = as_record(message)
                number, offset = record.partition, record.offset
                if number not in open_ones:
                    continue
                if offset < spans[number][1]:
                    records.append(record)
                if offset >= spans[number][1] - 1:
                    open_ones.discard(number)
            elif error.code() == KafkaError._PARTITION_EOF:
                open_ones.discard(message.partition())
            else:
                raise KafkaException(error)
        if records:
            heard = time.monotonic()
        elif open_ones and time.monotonic() - heard > _PATIENCE:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        if records:
            count += len(records)
            progress(count)
            yield records


def as_record(message: Any) -> TopicRecord:
    """A message of the client as a record."""
    return TopicRecord(
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        _LazyHeaders(message),
    )
