"""Quix Streams with a sink of its own kind: its PostgreSQL sink knows one table, so this is a `BatchingSink`.

Bad values go to the dead-letter topic by `to_topic`; a checkpoint flushes the sink, then the producer, then commits.
https://quix.io/docs/quix-streams/connectors/sinks/custom-sinks.html
"""

from typing import Any

from quixstreams import Application
from quixstreams.sinks.base import BatchingSink, SinkBatch

from bench.rivals import tables
from bench.rivals.batches import book, connect, once
from bench.rivals.handwritten_loop import BATCH, Booking, store
from bench.rivals.receipt import Task

PARTITIONS = 4


class Documents(BatchingSink):
    """COPY and insert as in the handwritten loop, one transaction per partition."""

    def __init__(self, database: str) -> None:
        super().__init__()
        self._database = database

    def setup(self) -> None:
        """Connects."""
        self._connection = connect(self._database)

    def write(self, batch: SinkBatch) -> None:
        """Called for each partition before its offsets are committed."""
        store(self._connection, once(item.value for item in batch))


def booking_or_value(value: bytes) -> Booking | bytes:
    """Return the receipt, or the value if it is not valid."""
    try:
        return book(value)
    except ValueError:
        return value


def is_bad(value: Any) -> bool:
    """Return whether the value is not a receipt."""
    return isinstance(value, bytes)


def main() -> None:
    """Runs until SIGTERM."""
    task = Task.read()
    tables.create(task.database)
    app = Application(
        broker_address=task.broker,
        consumer_group=task.group,
        auto_offset_reset="earliest",
        commit_every=PARTITIONS * BATCH,
        commit_interval=0.5,
        loglevel="WARNING",
    )
    source = app.topic(task.topic, value_deserializer="bytes")
    dead_letters = app.topic(task.dead_letter_topic, value_serializer="bytes")
    sales = app.dataframe(source).apply(booking_or_value)
    sales.filter(is_bad).to_topic(dead_letters)
    sales.filter(lambda value: not is_bad(value)).sink(Documents(task.database))
    app.run()


if __name__ == "__main__":
    main()
