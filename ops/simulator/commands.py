"""`tillstream tills`: simulated tills that sell into a real topic until stopped."""

import signal
import threading
import time
from datetime import UTC, datetime

import click

from ops.simulator.tills import ConfirmedTally, sell, till_producer, traffic
from streams.kafka.topics import client_config, create_source_topic
from streams.settings import Settings


def sell_until_stopped(settings: Settings, *, rate: float, stores: int, seconds: float | None, seed: int) -> None:
    """Sell until SIGTERM, Ctrl-C or `seconds`, then print a summary. Create the topic if it is missing."""
    create_source_topic(settings.kafka_access, settings.topic_plan, settings.partitions)
    stop, tally = threading.Event(), ConfirmedTally()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if seconds is not None:
        timer = threading.Timer(seconds, stop.set)
        timer.daemon = True
        timer.start()
    click.echo(f"selling into {settings.topic} at {settings.broker}: {rate:g} events/s from {stores} stores", err=True)
    producer = till_producer(settings.broker, client_config(settings.kafka_access))
    sold = traffic(seed, lambda: datetime.now(UTC), stores=stores, first_receipt=time.time_ns() // 1_000_000)
    sell(producer, settings.topic, sold, rate, stop, tally)
    gross = sum(tally.gross.values())
    click.echo(
        f"sent {tally.sent} records: {tally.fresh} events worth {gross:,.2f}, {tally.resent} of them again, "
        f"{tally.broken.total()} broken; {tally.failed.total()} not confirmed",
        err=True,
    )
