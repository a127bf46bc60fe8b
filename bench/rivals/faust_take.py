"""Faust in batches, with `take`, as its guide shows for bulk writes; COPY and insert as the handwritten loop has them.

The database keeps duplicates out, so there is no table.
https://faust-streaming.github.io/faust/userguide/streams.html#take-buffer-values-in-the-stream
"""

import asyncio
import tempfile
from typing import Any

import faust

from bench.rivals import tables
from bench.rivals.batches import connect, sort_out
from bench.rivals.handwritten_loop import BATCH, store
from bench.rivals.receipt import Task


def create_app(task: Task) -> faust.App:
    """The app with its agent."""
    app = faust.App(
        task.group,
        broker=f"kafka://{task.broker}",
        store="memory://",
        datadir=tempfile.mkdtemp(prefix="bench-faust-"),
        topic_partitions=4,
        topic_replication_factor=1,
        web_enabled=False,
        consumer_auto_offset_reset="earliest",
    )
    source = app.topic(task.topic, value_type=bytes, value_serializer="raw")
    dead_letters = app.topic(task.dead_letter_topic, value_type=bytes, value_serializer="raw")

    @app.agent(source)
    async def sales(stream: Any) -> None:
        with connect(task.database) as connection:
            async for values in stream.take(BATCH, within=0.2):
                bookings, bad = sort_out(values)
                await asyncio.to_thread(store, connection, bookings)
                for value in bad:
                    await dead_letters.send(value=value)

    return app


def main() -> None:
    """Runs until SIGTERM."""
    task = Task.read()
    tables.create(task.database)
    faust.Worker(create_app(task), loglevel="warning", redirect_stdouts=False).execute_from_commandline()


if __name__ == "__main__":
    main()
