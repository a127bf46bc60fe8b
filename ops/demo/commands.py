"""`tillstream demo`: tills, a broker, a worker and an ERP database on one screen, ended by a reconciliation."""

import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from ops.demo.balance import Balance, balance, dead_letter_reasons
from ops.demo.embedded_broker import NOT_FOR, EmbeddedBroker
from ops.demo.embedded_broker import PRODUCER as EMBEDDED_PRODUCER
from ops.demo.screen import DemoMoment, DemoScreen, print_balance
from ops.simulator.data_sets import EASTERN, as_record, completejourney
from ops.simulator.tills import ConfirmedTally, SimulatedRecord, sell, till_producer, traffic
from ops.worker.process import WorkerProcess, WorkerReadings
from schemas.dead_letter import Reason
from sinks.base import Sink, StoreDay
from sinks.registry import open_sink
from streams.kafka.topics import client_config, create_source_topic, delete_topics
from streams.settings import Settings, SettingsError, load_settings

UNATTENDED_SECONDS = 12.0
DRAIN_SECONDS = 60.0
#: The embedded broker keeps 5 MB per partition: at a higher rate, records may be deleted before a stopped worker has
#: read them.
EMBEDDED_RATE = 2000.0


@dataclass(frozen=True)
class DemoOptions:
    """The demo's options; see `tillstream demo --help`."""

    seconds: float | None
    rate: float
    stores: int
    broker: str | None
    sink_url: str | None
    data: str | None
    day: str
    speed_up: float
    seed: int
    as_json: bool


@dataclass
class DemoStage:
    """All that is running, and since when."""

    settings: Settings
    worker: WorkerProcess
    sink: Sink
    producer: dict[str, Any]
    failure: Exception | None = None
    tally: ConfirmedTally = field(default_factory=ConfirmedTally)
    stop: threading.Event = field(default_factory=threading.Event)
    before: dict[Any, StoreDay] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def held(self) -> list[StoreDay]:
        """Return the ERP's gain since the start, per store and day."""
        return [gained(day, self.before.get(key_of(day))) for day in self.sink.totals()]


def run_demo(options: DemoOptions) -> int:
    """Run the demo; 0 when every record is accounted for and the money agrees, 1 otherwise."""
    if options.broker is None and options.rate > EMBEDDED_RATE:
        raise SettingsError(f"the embedded broker takes at most --rate {EMBEDDED_RATE:.0f}; use --broker for more")
    if options.data is not None and options.day != "all" and not is_day(options.day):
        raise SettingsError(f"--day {options.day}: give a day as 2017-12-24, or all")
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: the worker must not be left behind
        signal.signal(number, signal.default_int_handler)
    with ExitStack() as stack:
        stage = set_up(options, stack)
        screen = DemoScreen(live=sys.stdout.isatty() and not options.as_json, silent=options.as_json)
        screen.say(NOT_FOR if options.broker is None else f"Broker {options.broker}, topic {stage.settings.topic}.")
        rate = options.rate if options.data is None else None
        seller = threading.Thread(target=sell_all, args=(stage, records(options, stage.stop), rate), name="tills")
        seller.start()
        try:
            with screen:
                watch(stage, seller, screen, seconds_to_sell(options))
                drained = drain(stage, seller, screen)
            held = stage.worker.held()
        finally:
            stage.stop.set()
            seller.join()
            code = stage.worker.stop()
        if stage.failure is not None:
            raise stage.failure
        result = reconcile(stage, drained)
        if held is not None:
            result.differences.append(f"the worker {held}")
        if code != 0:
            result.differences.append(f"the worker ended with exit code {code}")
        report(result, stage, drained, options)
    return 0 if result.accounted else 1


def is_day(text: str) -> bool:
    """Whether `text` is a date, YYYY-MM-DD."""
    try:
        return len(text) == 10 and bool(date.fromisoformat(text))
    except ValueError:
        return False


def set_up(options: DemoOptions, stack: ExitStack) -> DemoStage:
    """Broker, topics, database and worker, ready to sell."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tillstream-demo-")))
    name = f"tillstream.demo.{time.time_ns() // 1_000_000}"
    embedded = EmbeddedBroker() if options.broker is None else None
    zone: dict[str, Any] = {"default_store": {"timezone": EASTERN.key}} if options.data is not None else {}
    settings = load_settings(
        broker=options.broker or (embedded.address if embedded else ""),
        topic=name,
        dead_letter_topic=f"{name}.dlq",
        group=name,
        sink_url=options.sink_url or f"sqlite:///{folder / 'erp.sqlite'}",
        apply_migrations=True,
        max_record_bytes=2**20 - 2**17,
        **zone,
    )
    if embedded is not None:
        stack.callback(embedded.close)
        embedded.create_topics([name, settings.dead_letter_topic, settings.topic_plan.names.changelog])
    else:
        create_source_topic(settings.kafka_access, settings.topic_plan, partitions=4)
        stack.callback(delete_topics, settings.kafka_access, settings.topic_plan.names)
    worker = WorkerProcess(worker_settings(settings), folder)
    stack.callback(worker.stop)
    worker.wait_ready()
    sink = open_sink(settings.sink_url, password=settings.password())
    stack.callback(sink.close)
    producer = EMBEDDED_PRODUCER if embedded is not None else {}
    return DemoStage(settings, worker, sink, producer, before={key_of(day): day for day in sink.totals()})


def worker_settings(settings: Settings) -> dict[str, Any]:
    """Write the worker's settings file. Secrets go through the environment."""
    names = {"broker", "topic", "dead_letter_topic", "group", "sink_url", "apply_migrations", "max_record_bytes"}
    zone = {"default_store": {"timezone": settings.default_store.timezone}} if settings.default_store else {}
    return settings.model_dump(include=names, mode="json") | zone


def records(options: DemoOptions, stop: threading.Event) -> Iterator[SimulatedRecord]:
    """Yield the tills' records: simulated traffic, or real baskets at their original pace, sped up."""
    if options.data is None:
        # Receipt numbers start at the time, so that a second run into the same database is new to it.
        first = time.time_ns() // 1_000_000
        return traffic(options.seed, lambda: datetime.now(UTC), stores=options.stores, first_receipt=first)
    return played(completejourney(None if options.day == "all" else options.day), options.speed_up, stop)


def played(events: Iterator[dict[str, Any]], speed_up: float, stop: threading.Event) -> Iterator[SimulatedRecord]:
    """Events at the pace of their own times, `speed_up` times faster, until `stop`."""
    first: datetime | None = None
    started = time.monotonic()
    for event in events:
        moment = datetime.fromisoformat(event["occurred_at"])
        first = first or moment
        due = (moment - first).total_seconds() / speed_up
        if stop.wait(max(0.0, due - (time.monotonic() - started))):
            return
        key, value = as_record(event)
        # The data set contradicts itself: a value without a quantity.
        odd = any(Decimal(line["quantity"]) == 0 and Decimal(line["amount"]) != 0 for line in event["lines"])
        reason = Reason.LINE_MISMATCH if odd else None
        gross = Decimal(event["totals"]["gross"])
        yield SimulatedRecord(key, value, "broken" if odd else "fresh", reason, gross, event["store"], "sale")


def seconds_to_sell(options: DemoOptions) -> float | None:
    """None: until Ctrl-C, or until the data set is played."""
    if options.seconds is None and options.data is None and (options.as_json or not sys.stdout.isatty()):
        return UNATTENDED_SECONDS
    return options.seconds


def sell_all(stage: DemoStage, sold: Iterator[SimulatedRecord], rate: float | None) -> None:
    """Sell in the tills' thread; keep an error that ends it early for the main thread."""
    try:
        sell_to_the_end(stage, sold, rate)
    except Exception as error:
        stage.failure = error


def sell_to_the_end(stage: DemoStage, sold: Iterator[SimulatedRecord], rate: float | None) -> None:
    """Sells all that there is to sell, until stopped."""
    config = client_config(stage.settings.kafka_access) | stage.producer
    sell(till_producer(stage.settings.broker, config), stage.settings.topic, sold, rate, stage.stop, stage.tally)


def watch(stage: DemoStage, seller: threading.Thread, screen: DemoScreen, seconds: float | None) -> None:
    """Refresh the screen until the time is up, the data set ends or someone presses Ctrl-C."""
    try:
        while seller.is_alive() and (seconds is None or time.monotonic() - stage.started < seconds):
            if stage.worker.held() is not None:
                break
            screen.show(moment(stage, "selling"))
            stage.stop.wait(0.5)
    except KeyboardInterrupt:
        screen.say("Closing the tills …")


def drain(stage: DemoStage, seller: threading.Thread, screen: DemoScreen) -> WorkerReadings:
    """Close the tills and wait until every record sent has its outcome, or a minute."""
    stage.stop.set()
    seller.join()
    deadline = time.monotonic() + DRAIN_SECONDS
    readings = stage.worker.readings()
    while readings.settled < stage.tally.sent and time.monotonic() < deadline and stage.worker.held() is None:
        screen.show(moment(stage, "draining", readings))
        time.sleep(0.2)
        readings = stage.worker.readings()
    screen.show(moment(stage, "drained", readings))
    return readings


def moment(stage: DemoStage, phase: str, readings: WorkerReadings | None = None) -> DemoMoment:
    """Everything the screen shows, as of now."""
    now = time.monotonic() - stage.started
    return DemoMoment(phase, now, stage.tally, readings or stage.worker.readings(), stage.held())


def reconcile(stage: DemoStage, readings: WorkerReadings) -> Balance:
    """Return the balance of the whole run, from the tables and the dead-letter topic."""
    config = client_config(stage.settings.kafka_access)
    dead = dead_letter_reasons(config, stage.settings.dead_letter_topic)
    return balance(stage.tally, stage.held(), dead, readings)


def report(result: Balance, stage: DemoStage, readings: WorkerReadings, options: DemoOptions) -> None:
    """Print the reconciliation: a table, or one JSON object."""
    if not options.as_json:
        print_balance(result, simulated=options.data is None)
        return
    latency = {name: readings.latency_at(share) for name, share in (("p50", 0.5), ("p99", 0.99))}
    more = {"stores": len(stage.tally.gross), "latency_seconds": latency, "embedded_broker": options.broker is None}
    click.echo(json.dumps(result.as_json() | more))


def key_of(day: StoreDay) -> tuple[Any, ...]:
    """Return the store, day and currency of a row of totals."""
    return day.store, day.business_date, day.currency


def gained(now: StoreDay, before: StoreDay | None) -> StoreDay:
    """Return the growth of a store's day since `before`."""
    if before is None:
        return now
    return StoreDay(
        now.store,
        now.business_date,
        now.currency,
        now.documents - before.documents,
        now.lines - before.lines,
        now.net - before.net,
        now.tax - before.tax,
        now.gross - before.gross,
        now.quantity - before.quantity,
        {kind: amount - before.tenders.get(kind, Decimal(0)) for kind, amount in now.tenders.items()},
    )
