"""The last records of a topic, read without a consumer group: nothing is committed, nobody is disturbed."""

from collections.abc import Callable

from streams.kafka.errors import TopicsUnusable
from streams.kafka.reader import TopicRecord, offset_ranges, open_consumer, read_spans
from streams.kafka.topics import partitions_of_topics
from streams.settings import Settings


def last_records(settings: Settings, topic: str, count: int, progress: Callable[[int], None]) -> list[TopicRecord]:
    """The last `count` records of the topic, shared out evenly over its partitions. Raises as `ensure_topics`."""
    there = partitions_of_topics(settings.kafka_access)
    if topic not in there:
        raise TopicsUnusable(f"{topic}: no file, and no topic at {settings.broker}")
    with open_consumer(settings.kafka_access, topic) as consumer:
        ends = offset_ranges(consumer, topic, range(there[topic]))
        each = shares({number: high - low for number, (low, high) in ends.items()}, count)
        spans = {number: (high - each[number], high) for number, (_, high) in ends.items() if each[number]}
        found = [record for piece in read_spans(consumer, topic, spans, progress) for record in piece]
        return sorted(found, key=lambda record: (record.partition, record.offset))


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
