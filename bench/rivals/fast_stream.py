"""FastStream on confluent-kafka, with a batch subscriber; COPY and insert as the handwritten loop has them.

Offsets are committed after each batch (`NACK_ON_ERROR`). Bodies are left as they are: decoded by FastStream, one bad
message would fail the whole batch.
https://faststream.ag2.ai/latest/confluent/Subscriber/batch_subscriber/
"""

import asyncio
import logging
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker, KafkaMessage

from bench.rivals import tables
from bench.rivals.batches import connect
from bench.rivals.handwritten_loop import BATCH, sort_out, store
from bench.rivals.receipt import Task


async def undecoded(message: Any) -> Any:
    """Pass the message through as it is."""
    return message.body


def create_app(task: Task) -> FastStream:
    """The app with its subscriber."""
    broker = KafkaBroker(task.broker, log_level=logging.WARNING)
    connection = connect(task.database)

    @broker.subscriber(
        task.topic,
        group_id=task.group,
        auto_offset_reset="earliest",
        batch=True,
        max_records=BATCH,
        ack_policy=AckPolicy.NACK_ON_ERROR,
        decoder=undecoded,
    )
    async def sales(message: KafkaMessage) -> None:
        bookings, bad = sort_out(message.raw_message)
        await asyncio.to_thread(store, connection, bookings)
        for one in bad:
            await broker.publish(one.value(), topic=task.dead_letter_topic, key=one.key())

    return FastStream(broker)


def main() -> None:
    """Runs until SIGTERM."""
    task = Task.read()
    tables.create(task.database)
    asyncio.run(create_app(task).run())


if __name__ == "__main__":
    main()
