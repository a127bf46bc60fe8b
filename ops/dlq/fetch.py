"""Fetch the selected dead letters with their records."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from streams.dead_letters.header import DeadLetterHeader
from streams.kafka.reader import (
    BATCH_RECORDS,
    TopicRecord,
    commit_offsets,
    committed_offsets,
    open_consumer,
    read_spans,
)
from streams.settings import Settings

#: Letters with their records.
Part = Sequence[tuple[DeadLetterHeader, TopicRecord]]


@asynccontextmanager
async def fetch_selected(
    settings: Settings, chosen: Sequence[DeadLetterHeader], size: int = BATCH_RECORDS, group: str | None = None
) -> AsyncGenerator[tuple[Any, AsyncGenerator[Part]]]:
    """Provide the consumer and the selected dead letters with their records, at most `size` at a time.

    Offsets that the group has committed are left out. Raises BrokerUnreachable for the consumer's errors.
    """
    config = {"group.id": group} if group is not None else {}
    with open_consumer(settings.kafka_access, settings.dead_letter_topic, **config) as consumer:
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
    return committed_offsets(consumer, settings.dead_letter_topic, {head.partition for head in chosen})


def commit(consumer: Any, settings: Settings, part: Part) -> None:
    """Commit the dead letters as read by the consumer's group. Raises KafkaException."""
    places = {record.partition: record.offset + 1 for _, record in part}
    commit_offsets(consumer, settings.dead_letter_topic, places)
