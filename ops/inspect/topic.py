"""Read a topic's last records without a consumer group, so that nothing is committed and no consumer is affected."""

from collections.abc import Callable

from streams.kafka.errors import TopicsUnusable
from streams.kafka.reader import TopicRecord, offset_ranges, open_consumer, read_spans
from streams.kafka.topics import partitions_of_topics
from streams.settings import Settings


def last_records(settings: Settings, topic: str, count: int, progress: Callable[[int], None]) -> list[TopicRecord]:
    """Return the last `count` records of the topic, taken evenly from its partitions. Raises as `ensure_topics`."""
    partition_counts = partitions_of_topics(settings.kafka_access)
    if topic not in partition_counts:
        raise TopicsUnusable(f"{topic}: no file, and no topic at {settings.broker}")
    with open_consumer(settings.kafka_access, topic) as consumer:
        ends = offset_ranges(consumer, topic, range(partition_counts[topic]))
        counts = records_per_partition({number: high - low for number, (low, high) in ends.items()}, count)
        spans = {number: (high - counts[number], high) for number, (_, high) in ends.items() if counts[number]}
        records = [record for piece in read_spans(consumer, topic, spans, progress) for record in piece]
        return sorted(records, key=lambda record: (record.partition, record.offset))


def records_per_partition(partition_counts: dict[int, int], count: int) -> dict[int, int]:
    """Return how many records to take from each partition: `count` in total, as evenly as their sizes allow."""
    counts = dict.fromkeys(partition_counts, 0)
    remaining = min(count, sum(partition_counts.values()))
    while remaining:
        unfinished = [number for number in partition_counts if counts[number] < partition_counts[number]]
        share = max(1, remaining // len(unfinished))
        for number in unfinished:
            extra = min(share, partition_counts[number] - counts[number], remaining)
            counts[number] += extra
            remaining -= extra
    return counts
