"""The last records of a topic, read without a consumer group: nothing is committed, nobody is disturbed."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import uuid4

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streams.settings import Settings
from streams.topics import BrokerUnreachable, TopicsUnusable, client_config, partitions_of_topics

_PATIENCE = 15.0
_ANSWER = 10.0


class TopicRecord(NamedTuple):
    """One record; a `streams.batch.Record`."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def last_records(settings: Settings, topic: str, count: int, progress: Callable[[int], None]) -> list[TopicRecord]:
    """The last `count` records of the topic, shared out evenly over its partitions. Raises as `ensure_topics`."""
    there = partitions_of_topics(settings)
    if topic not in there:
        raise TopicsUnusable(f"{topic}: no file, and no topic at {settings.broker}")
    consumer = Consumer(
        client_config(settings.broker, settings.kafka)
        | {"group.id": f"tillstream-look-{uuid4()}", "enable.auto.commit": False, "enable.partition.eof": False}
    )
    try:
        return _read(consumer, topic, there[topic], count, progress)
    except KafkaException as error:
        raise BrokerUnreachable(f"reading {topic} at {settings.broker}: {error.args[0].str()}") from None
    finally:
        consumer.close()


def _read(consumer: Any, topic: str, partitions: int, count: int, progress: Callable[[int], None]) -> list[TopicRecord]:
    limits = {n: consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=_ANSWER) for n in range(partitions)}
    each = shares({number: high - low for number, (low, high) in limits.items()}, count)
    starts = {number: high - each[number] for number, (_, high) in limits.items() if each[number]}
    ends = {number: limits[number][1] for number in starts}
    consumer.assign([TopicPartition(topic, number, start) for number, start in starts.items()])
    kept: deque[TopicRecord] = deque(maxlen=count)
    deadline = time.monotonic() + _PATIENCE
    while starts and time.monotonic() < deadline:
        for message in consumer.consume(1000, timeout=0.5):
            if message.error():
                raise KafkaException(message.error())
            kept.append(_record(message))
            deadline = time.monotonic() + _PATIENCE
        # Positions, not records: compacted and aborted ones leave gaps.
        for place in consumer.position([TopicPartition(topic, number) for number in starts]):
            if place.offset >= ends[place.partition]:
                del starts[place.partition]
        progress(len(kept))
    return sorted(kept, key=lambda record: (record.partition, record.offset))


def shares(there: dict[int, int], count: int) -> dict[int, int]:
    """How many records to take of each partition: as even as they have them, `count` in all."""
    taken = dict.fromkeys(there, 0)
    left = min(count, sum(there.values()))
    while left:
        open_ones = [number for number in there if taken[number] < there[number]]
        part = max(1, left // len(open_ones))
        for number in open_ones:
            more = min(part, there[number] - taken[number], left)
            taken[number] += more
            left -= more
    return taken


def _record(message: Any) -> TopicRecord:
    headers = [(name, value or b"") for name, value in message.headers() or []]
    key, value = message.key(), message.value()
    return TopicRecord(message.partition(), message.offset(), message.timestamp()[1], key, value, headers)
