"""Faust as its guide shows it: one event at a time, a windowed table against duplicates, one transaction per event.

https://faust-streaming.github.io/faust/userguide/agents.html, …/tables.html
"""

import tempfile
from datetime import timedelta
from typing import Any

import faust
import psycopg

from bench.rivals import tables
from bench.rivals.receipt import Amounts, Receipt, Task, amounts

_DOCUMENT = """INSERT INTO documents VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""
_LINE = """INSERT INTO lines VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""
_PAYMENT = """INSERT INTO payments VALUES (%s, %s, %s, %s)"""
_DELIVERY = """INSERT INTO deliveries VALUES (%s, now())"""


async def book(connection: psycopg.AsyncConnection[Any], receipt: Receipt, lines: list[Amounts]) -> None:
    """One receipt, in one transaction."""
    r, net, tax = receipt, sum(line.net for line in lines), sum(line.tax for line in lines)
    document = (r.event_id, r.external_ref, "invoice", r.store, r.register_id, r.receipt, r.occurred_at.date())
    document_lines = [
        (r.event_id, position, a.sku, a.description, a.quantity, a.unit, a.unit_price, a.tax_rate, *computed)
        for position, (a, computed) in enumerate(zip(r.lines, lines, strict=True), 1)
    ]
    payments = [(r.event_id, position, tender.kind, tender.amount) for position, tender in enumerate(r.tenders, 1)]
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.execute(_DOCUMENT, (*document, r.occurred_at, r.currency, r.cashier, net, tax, r.totals.gross))
        await cursor.executemany(_LINE, document_lines)
        await cursor.executemany(_PAYMENT, payments)
        await cursor.execute(_DELIVERY, (r.event_id,))


def create_app(task: Task) -> faust.App:
    """The app with its agent."""
    app = faust.App(
        task.group,
        broker=f"kafka://{task.broker}",
        store="memory://",
        datadir=tempfile.mkdtemp(prefix="bench-faust-"),  # Faust makes folders even for tables in memory
        topic_partitions=4,
        topic_replication_factor=1,
        web_enabled=False,
        consumer_auto_offset_reset="earliest",
    )
    source = app.topic(task.topic, value_type=bytes, value_serializer="raw")
    dead_letters = app.topic(task.dead_letter_topic, value_type=bytes, value_serializer="raw")
    seen = app.Table("seen", default=int, partitions=4).tumbling(timedelta(days=1), expires=timedelta(days=2))

    @app.agent(source)
    async def sales(stream: Any) -> None:
        connection = await psycopg.AsyncConnection.connect(task.database, autocommit=True)
        async for value in stream:
            try:
                receipt = Receipt.model_validate_json(value)
                lines = amounts(receipt)
            except ValueError:
                await dead_letters.send(value=value)
                continue
            if seen[receipt.event_id].now():
                continue
            await book(connection, receipt, lines)
            seen[receipt.event_id] += 1

    return app


def main() -> None:
    """Runs until SIGTERM."""
    task = Task.read()
    tables.create(task.database)
    faust.Worker(create_app(task), loglevel="warning", redirect_stdouts=False).execute_from_commandline()


if __name__ == "__main__":
    main()
