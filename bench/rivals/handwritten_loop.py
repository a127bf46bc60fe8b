"""A good engineer's handwritten loop for this one job: poll, validate, COPY, insert what is new, commit.

At least once, with inserts that leave out what is there. No back-off, no bisecting, no metrics, no revisions, no
reasons with the dead letters; a second receipt with a known number, or a database that is away, ends it.
"""

import signal
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from confluent_kafka import Consumer, KafkaException, Message, Producer

from bench.rivals import tables
from bench.rivals.receipt import Amounts, Receipt, Task, amounts

BATCH = 1000

STAGING = """
CREATE TEMPORARY TABLE staged_documents (LIKE documents) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE staged_lines (LIKE lines) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE staged_payments (LIKE payments) ON COMMIT DELETE ROWS
"""

INSERT = """
WITH fresh AS (
    INSERT INTO deliveries SELECT event_id, now() FROM staged_documents
    ON CONFLICT (event_id) DO NOTHING RETURNING event_id
), d AS (
    INSERT INTO documents SELECT s.* FROM staged_documents s JOIN fresh USING (event_id)
), l AS (
    INSERT INTO lines SELECT s.* FROM staged_lines s JOIN fresh USING (event_id)
), p AS (
    INSERT INTO payments SELECT s.* FROM staged_payments s JOIN fresh USING (event_id)
) SELECT count(*) FROM fresh"""

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})

Booking = tuple[Receipt, list[Amounts]]


def run(task: Task) -> None:
    """Until SIGTERM."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    producer = Producer({"bootstrap.servers": task.broker})
    consumer = Consumer(
        {
            "bootstrap.servers": task.broker,
            "group.id": task.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([task.topic])
    with psycopg.connect(task.database, autocommit=True) as connection:
        connection.execute(STAGING)
        while not stopped:
            messages = consumer.consume(BATCH, 0.2)
            if messages:
                bookings, bad = sort_out(messages)
                store(connection, bookings)
                bury(producer, task.dead_letter_topic, bad)
                consumer.commit(asynchronous=True)
    consumer.close()


def sort_out(messages: Sequence[Message]) -> tuple[list[Booking], list[Message]]:
    """Return the receipts, each once, and the invalid messages."""
    bookings: dict[str, Booking] = {}
    bad: list[Message] = []
    for message in messages:
        if message.error():
            raise KafkaException(message.error())
        try:
            receipt = Receipt.model_validate_json(message.value() or b"")
            bookings[receipt.event_id] = receipt, amounts(receipt)
        except ValueError:
            bad.append(message)
    return list(bookings.values()), bad


def store(connection: psycopg.Connection[Any], bookings: Sequence[Booking]) -> None:
    """Everything that is not there yet, in one transaction."""
    with connection.transaction(), connection.cursor() as cursor:
        for table, rows in (
            ("staged_documents", map(document_row, bookings)),
            ("staged_lines", (row for booking in bookings for row in line_rows(*booking))),
            ("staged_payments", (row for booking in bookings for row in payment_rows(booking[0]))),
        ):
            copy(cursor, table, rows)
        cursor.execute(INSERT)


def copy(cursor: psycopg.Cursor[Any], table: str, rows: Iterable[str]) -> None:
    """Rows in COPY's text format."""
    with cursor.copy(f"COPY {table} FROM STDIN") as into:
        into.write("".join(rows).encode())


def document_row(booking: Booking) -> str:
    """A row of `documents`."""
    r, lines = booking
    net = sum(line.net for line in lines)
    return (
        f"{text(r.event_id)}\t{text(r.external_ref)}\tinvoice\t{text(r.store)}\t{text(r.register_id)}\t{text(r.receipt)}\t"
        f"{r.occurred_at.date()}\t{r.occurred_at.isoformat()}\t{r.currency}\t"
        f"{text(r.cashier) if r.cashier is not None else chr(92) + 'N'}\t{net!s}\t{r.totals.gross - net!s}\t"
        f"{r.totals.gross!s}\n"
    )


def line_rows(r: Receipt, lines: Sequence[Amounts]) -> Iterable[str]:
    """The rows of `lines`."""
    event_id = text(r.event_id)
    for position, (line, (net, tax, gross)) in enumerate(zip(r.lines, lines, strict=True), 1):
        yield (
            f"{event_id}\t{position}\t{text(line.sku)}\t{text(line.description)}\t{line.quantity!s}\t"
            f"{text(line.unit)}\t{line.unit_price!s}\t{line.tax_rate!s}\t{net!s}\t{tax!s}\t{gross!s}\n"
        )


def payment_rows(r: Receipt) -> Iterable[str]:
    """The rows of `payments`."""
    for position, tender in enumerate(r.tenders, 1):
        yield f"{text(r.event_id)}\t{position}\t{text(tender.kind)}\t{tender.amount!s}\n"


def text(value: str) -> str:
    """As COPY reads it."""
    return value if value.isprintable() and "\\" not in value else value.translate(_ESCAPES)


def bury(producer: Producer, topic: str, bad: Sequence[Message]) -> None:
    """Returns when the broker has confirmed every one."""
    for message in bad:
        producer.produce(topic, message.value(), message.key())
    if bad and producer.flush(30):
        raise RuntimeError("dead letters not confirmed")


def main() -> None:
    """Runs until SIGTERM."""
    task = Task.read()
    tables.create(task.database)
    run(task)


if __name__ == "__main__":
    main()
