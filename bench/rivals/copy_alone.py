"""An upper bound, and no rival: what PostgreSQL takes when everything is made ready before the first row is written.

The job is read and validated and its rows are put together beforehand, batch by batch; then each batch is copied and
inserted as the handwritten loop does it, and nothing else happens meanwhile. The offsets are committed at the end.
"""

import signal
from collections.abc import Iterator

import psycopg
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from bench.rivals import tables
from bench.rivals.batches import connect
from bench.rivals.handwritten_loop import BATCH, INSERT, bury, copy, document_row, line_rows, payment_rows, sort_out
from bench.rivals.receipt import Task

PARTITIONS = 4

Rows = tuple[str, str, str]


def main() -> None:
    """Does it, and waits for SIGTERM."""
    task = Task.read()
    tables.create(task.database)
    settings = {"enable.partition.eof": True, "enable.auto.commit": False}  # it would commit unwritten records
    consumer = Consumer({"bootstrap.servers": task.broker, "group.id": task.group, **settings})
    batches: list[Rows] = []
    ends: dict[int, TopicPartition] = {}
    for messages in whole_topic(consumer, task.topic, ends):
        bookings, bad = sort_out(messages)
        bury(Producer({"bootstrap.servers": task.broker}), task.dead_letter_topic, bad)
        batches.append(
            (
                "".join(map(document_row, bookings)),
                "".join(row for booking in bookings for row in line_rows(*booking)),
                "".join(row for receipt, _ in bookings for row in payment_rows(receipt)),
            )
        )
    with connect(task.database) as connection:
        for rows in batches:
            store(connection, rows)
    consumer.commit(offsets=list(ends.values()), asynchronous=False)
    signal.pause()


def whole_topic(consumer: Consumer, topic: str, ends: dict[int, TopicPartition]) -> Iterator[list[Message]]:
    """All there is, in batches; afterwards `ends` says where each partition ended (of which Kafka may tell twice)."""
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    while len(ends) < PARTITIONS:
        messages = []
        for message in consumer.consume(BATCH, 1.0):
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                ends[message.partition()] = TopicPartition(topic, message.partition(), message.offset())
            else:
                messages.append(message)
        if messages:
            yield messages


def store(connection: psycopg.Connection[object], rows: Rows) -> None:
    """One transaction."""
    with connection.transaction(), connection.cursor() as cursor:
        for table, text in zip(("staged_documents", "staged_lines", "staged_payments"), rows, strict=True):
            copy(cursor, table, [text])
        cursor.execute(INSERT)


if __name__ == "__main__":
    main()
