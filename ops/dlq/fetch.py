"""The letters that somebody has chosen by their heads, read again with all that they hold."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

from confluent_kafka import KafkaException, TopicPartition

from streams.dead_letters.header import DeadLetterHeader
from streams.kafka.reader import PIECE, TopicRecord, read_spans, reading_consumer
from streams.kafka.topics import BrokerUnreachable
from streams.settings import Settings

#: Letters with their records.
Part = Sequence[tuple[DeadLetterHeader, TopicRecord]]


@contextmanager
def _reading(settings: Settings, group: str | None = None) -> Iterator[Any]:
    """A consumer of the dead-letter topic. Raises BrokerUnreachable for what it raises."""
    consumer = reading_consumer(settings, **({"group.id": group} if group is not None else {}))
    try:
        yield consumer
    except KafkaException as error:
        where = f"{settings.dead_letter_topic} at {settings.broker}"
        raise BrokerUnreachable(f"reading {where}: {error.args[0].str()}") from None
    finally:
        consumer.close()


@asynccontextmanager
async def fetch_selected(
    settings: Settings, chosen: Sequence[DeadLetterHeader], size: int = PIECE, group: str | None = None
) -> AsyncGenerator[tuple[Any, AsyncGenerator[Part]]]:
    """The consumer, and the chosen letters with their records, at most `size` at a time.

    What the group has committed is passed over. Raises BrokerUnreachable for what the consumer raises.
    """
    with _reading(settings, group) as consumer:
        places = {} if group is None else await asyncio.to_thread(_committed, consumer, settings, chosen)
        async with aclosing(_chosen_records(consumer, settings, chosen, places, size)) as parts:
            yield consumer, parts


async def _chosen_records(
    consumer: Any, settings: Settings, chosen: Sequence[DeadLetterHeader], places: dict[int, int], size: int
) -> AsyncGenerator[Part]:
    heads = {(head.partition, head.offset): head for head in chosen}
    spans: dict[int, tuple[int, int]] = {}
    for partition, offset in sorted(heads):
        first, _ = spans.get(partition, (max(offset, places.get(partition, 0)), 0))
        if offset >= first:
            spans[partition] = (first, offset + 1)
    records_of = read_spans(consumer, settings.dead_letter_topic, spans, lambda _: None)
    upcoming = asyncio.ensure_future(asyncio.to_thread(next, records_of, None))
    try:
        while (records := await upcoming) is not None:
            upcoming = asyncio.ensure_future(asyncio.to_thread(next, records_of, None))  # while these are worked on
            found = [(head, r) for r in records if (head := heads.get((r.partition, r.offset))) is not None]
            for start in range(0, len(found), size):
                yield found[start : start + size]
    finally:
        await asyncio.wait({upcoming})  # it reads by the consumer, which is closed next


def _committed(consumer: Any, settings: Settings, chosen: Sequence[DeadLetterHeader]) -> dict[int, int]:
    topic = settings.dead_letter_topic
    asked = [TopicPartition(topic, number) for number in {head.partition for head in chosen}]
    return {place.partition: place.offset for place in consumer.committed(asked, timeout=30) if place.offset > 0}


def commit(consumer: Any, settings: Settings, part: Part) -> None:
    """The letters count as read by the consumer's group. Raises KafkaException."""
    places = {record.partition: record.offset + 1 for _, record in part}
    topic = settings.dead_letter_topic
    consumer.commit(offsets=[TopicPartition(topic, n, offset) for n, offset in places.items()], asynchronous=False)
