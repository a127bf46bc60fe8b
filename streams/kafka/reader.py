"""Reads a topic from one end to the other, without disturbing any consumer group: nothing is committed by itself."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from operator import methodcaller
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from streams.batch import Headers
from streams.dead_letters.record import UNREADABLE
from streams.kafka.errors import code_of, kafka_errors
from streams.kafka.topics import client_config
from streams.settings import KafkaAccess

#: Records read at once.
BATCH_RECORDS = 10_000
#: The offset of a partition's first record, whichever that is.
BEGINNING: int = OFFSET_BEGINNING
#: Called with the number of records read so far.
Progress = Callable[[int], None]
_REQUEST_TIMEOUT = 10.0
#: Seconds that a poll waits for more records. It waits as long even when all partitions have ended.
_POLL = 0.05
_PATIENCE = 30.0
#: Seconds between two attempts of a request that fails for a moment.
_RETRY_PAUSE = 0.1
#: Answers of brokers about a topic that is new, or whose leader moves.
_LEADER_MOVES = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_LEADER_EPOCH,
)
#: Answers of brokers while a group's coordinator is created, moves or loads: on a new broker, to the first request.
_COORDINATOR_MOVES = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)
#: Answers to a commit when the partitions belong to another member of the group now.
_PARTITIONS_MOVED = (KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS)
#: `message.headers()`, in a form in which Python checks at every call whether the client has set an exception besides
#: its answer, as it does for a name that is not UTF-8: Python 3.11 does not check optimised calls.
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
    """The headers of a message, converted when they are used: a dead letter has twenty of them."""

    __slots__ = ("_message", "_unreadable")

    def __init__(self, message: Any) -> None:
        self._message = message
        self._unreadable = False

    def _read(self) -> list[tuple[str, bytes]]:
        if not self._unreadable:
            try:
                return _headers(self._message) or []
            except SystemError:  # Python's error for an answer that comes with an exception
                self._unreadable = True  # don't call it again: it would return tuples that crash Python
        return [(UNREADABLE, b"a name is not UTF-8")]

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __getitem__(self, index: Any) -> Any:
        return self._read()[index]


class _Closable(Protocol):
    def close(self) -> None: ...


def create_consumer(access: KafkaAccess, **config: Any) -> Any:
    """Return a consumer that commits nothing by itself and reports the ends of partitions. The caller closes it."""
    defaults = {
        "group.id": f"tillstream-look-{uuid4()}",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "fetch.message.max.bytes": 2**22,
        "queued.max.messages.kbytes": 2**15,  # per partition: records read ahead are held in memory
    }
    return Consumer(client_config(access) | defaults | config)


@contextmanager
def open_consumer(access: KafkaAccess, topic: str, **config: Any) -> Iterator[Any]:
    """Open a consumer as `create_consumer`, and close it at the end.

    Raises BrokerUnreachable, with `topic` in the message, for Kafka errors inside the block.
    """
    consumer = create_consumer(access, **config)
    try:
        with kafka_errors(f"reading {topic} at {access.servers}"):
            yield consumer
    finally:
        consumer.close()


def close_quietly(*consumers: _Closable | None) -> None:
    """Close the consumers, ignoring Kafka errors."""
    for consumer in consumers:
        if consumer is not None:
            with suppress(KafkaException):
                consumer.close()


def assign(consumer: Any, topic: str, partitions: Iterable[int], offset: int = BEGINNING) -> None:
    """Let the consumer read these partitions, from `offset` on."""
    consumer.assign([TopicPartition(topic, number, offset) for number in partitions])


def fetch_leaders(consumer: Any, topic: str) -> None:
    """Ask which brokers have the topic's partitions. Without it a consumer asks a second after it is assigned some.

    Raises KafkaException.
    """
    consumer.list_topics(topic, timeout=_REQUEST_TIMEOUT)


def read_next(consumer: Any, max_records: int, timeout: float = 1.0) -> list[TopicRecord]:
    """Return the next records, without waiting for all `max_records`. Raises KafkaException."""
    return split_messages(consumer.consume(max_records, timeout=timeout))[0]


def split_messages(messages: Iterable[Any]) -> tuple[list[TopicRecord], set[int]]:
    """Return the messages' records, and the partitions that have ended. Raises KafkaException for other messages."""
    records: list[TopicRecord] = []
    ended: set[int] = set()
    for message in messages:
        error = message.error()
        if error is None:
            records.append(as_record(message))
        elif error.code() == KafkaError._PARTITION_EOF:
            ended.add(message.partition())
        else:
            raise KafkaException(error)
    return records, ended


def offset_ranges(consumer: Any, topic: str, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
    """Return each partition's first offset and the one behind its last. Raises KafkaException."""
    ranges = {}
    for number in partitions:
        request = partial(consumer.get_watermark_offsets, TopicPartition(topic, number), timeout=_REQUEST_TIMEOUT)
        ranges[number] = _retrying(request, _LEADER_MOVES)
    return ranges


def offsets_at(consumer: Any, topic: str, ranges: Mapping[int, tuple[int, int]], timestamp: int) -> dict[int, int]:
    """Return each partition's first offset at or after `timestamp` (ms), or its end. Raises KafkaException."""
    requests = [TopicPartition(topic, number, timestamp) for number in ranges]
    answers = consumer.offsets_for_times(requests, timeout=_REQUEST_TIMEOUT)
    return {
        answer.partition: answer.offset if answer.offset >= 0 else ranges[answer.partition][1] for answer in answers
    }


def committed_offsets(consumer: Any, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """Return where the consumer's group reads next in each partition; 0 where it has committed nothing.

    Raises KafkaException.
    """
    requests = [TopicPartition(topic, number) for number in partitions]

    def request() -> list[TopicPartition]:
        answers: list[TopicPartition] = consumer.committed(requests, timeout=_REQUEST_TIMEOUT)
        errors = [answer.error for answer in answers if answer.error is not None]
        if errors:
            raise KafkaException(errors[0])
        return answers

    return {answer.partition: max(0, answer.offset) for answer in _retrying(request, _COORDINATOR_MOVES)}


def group_offsets(access: KafkaAccess, group: str, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """Return where a group reads next in each partition; 0 where it has read nothing. Raises BrokerUnreachable."""
    # By a consumer that never joins: librdkafka's admin client crashes on a coordinator that has just moved
    # (https://github.com/confluentinc/confluent-kafka-javascript/issues/374).
    consumer = create_consumer(access, **{"group.id": group})
    try:
        with kafka_errors(f"offsets of {group} at {access.servers}"):
            return committed_offsets(consumer, topic, partitions)
    finally:
        consumer.close()


def commit_offsets(consumer: Any, topic: str, offsets: Mapping[int, int], *, ignore_moved: bool = False) -> None:
    """Commit the next offset of each partition for the consumer's group. Raises KafkaException.

    With `ignore_moved` it is no error that a rebalance has moved the partitions: their new owner commits them.
    """
    if not offsets:
        return
    try:
        commits = [TopicPartition(topic, number, offset) for number, offset in offsets.items()]
        consumer.commit(offsets=commits, asynchronous=False)
    except KafkaException as error:
        if not ignore_moved or code_of(error) not in _PARTITIONS_MOVED:
            raise


def pause_partitions(consumer: Any, topic: str, paused: Collection[int], full: Collection[int]) -> set[int]:
    """Pause the partitions in `full` and resume those of `paused` that aren't. Return the paused ones."""
    assigned = {place.partition for place in consumer.assignment()}
    pause, resume = (set(full) - set(paused)) & assigned, (set(paused) - set(full)) & assigned
    if pause:
        consumer.pause([TopicPartition(topic, number) for number in pause])
    if resume:
        consumer.resume([TopicPartition(topic, number) for number in resume])
    return set(full) & assigned


def _retrying(request: Callable[[], Any], momentary: Collection[int]) -> Any:
    deadline = time.monotonic() + _REQUEST_TIMEOUT
    while True:
        try:
            return request()
        except KafkaException as error:
            if code_of(error) not in momentary or time.monotonic() > deadline:
                raise
        time.sleep(_RETRY_PAUSE)


def read_partitions(
    access: KafkaAccess, topic: str, partitions: Iterable[int], progress: Progress = lambda _: None
) -> Iterator[list[TopicRecord]]:
    """Yield all records that the partitions have now, in order within each, some thousands at a time.

    Raises BrokerUnreachable.
    """
    with open_consumer(access, topic) as consumer:
        ranges = offset_ranges(consumer, topic, partitions)
        spans = {number: (low, high) for number, (low, high) in ranges.items() if low < high}
        yield from read_spans(consumer, topic, spans, progress)


def record_at(access: KafkaAccess, topic: str, partition: int, offset: int) -> TopicRecord | None:
    """Return the record at this offset, if the topic still has it. Raises BrokerUnreachable."""
    with open_consumer(access, topic) as consumer:
        low, high = offset_ranges(consumer, topic, [partition])[partition]
        if not low <= offset < high:
            return None
        for records in read_spans(consumer, topic, {partition: (offset, offset + 1)}, lambda _: None, max_records=1):
            return next((record for record in records if record.offset == offset), None)
        return None


def read_spans(
    consumer: Any,
    topic: str,
    spans: Mapping[int, tuple[int, int]],
    progress: Progress,
    max_records: int = BATCH_RECORDS,
) -> Iterator[list[TopicRecord]]:
    """Yield each partition's records from the first offset of its span up to, not including, the second.

    At most `max_records` at a time. Raises KafkaException, also when no record comes for half a minute.
    """
    fetch_leaders(consumer, topic)
    consumer.assign([TopicPartition(topic, number, low) for number, (low, _) in spans.items()])
    count, last_arrival = 0, time.monotonic()
    unfinished = set(spans)
    while unfinished:
        read, ended = split_messages(consumer.consume(max_records, timeout=_POLL))
        records = []
        for record in read:
            number, offset = record.partition, record.offset
            if number not in unfinished:
                continue
            end = spans[number][1]
            if offset < end:
                records.append(record)
            if offset >= end - 1:
                unfinished.discard(number)
        unfinished -= ended
        if records:
            last_arrival = time.monotonic()
            count += len(records)
            progress(count)
            yield records
        elif unfinished and time.monotonic() - last_arrival > _PATIENCE:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


def as_record(message: Any) -> TopicRecord:
    """Return the client's message as a record."""
    return TopicRecord(
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        _LazyHeaders(message),
    )
