"""The Faust app: one agent that takes slices of the source topic through the line and acknowledges them."""

import asyncio
import ssl
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast

import faust
import structlog
from aiokafka.errors import KafkaConnectionError
from faust.types import TP, AgentT, EventT, StreamT

from schemas.dead_letter import Reason
from sinks.base import Sink
from streams.batch import BatchOutcome
from streams.dead_letters.backlog import BacklogMonitor
from streams.dead_letters.budget import NO_LIMIT, BudgetExceeded, BudgetGuard
from streams.dead_letters.record import DeadLetterRecord
from streams.dead_letters.reprocess import RequeueOrPark, for_reprocessing
from streams.dead_letters.retry import DeadLetterRetrier, RetrySchedule
from streams.dead_letters.writer import DeadLetterWriter
from streams.kafka.topics import BrokerUnreachable, TopicMonitor
from streams.logs import report_suppressed
from streams.mapping.master_data import MasterData
from streams.metrics import WorkerMetrics
from streams.pipeline import CANONICAL, Services, process
from streams.settings import KafkaSecurity, Settings
from streams.sink_retry import RetryingSink
from streams.sources.source import Source
from streams.tracing.base import NoTracing, Tracing
from streams.worker import memory
from streams.worker.broker_clock import ClockWatch
from streams.worker.broker_watch import BrokerWatch
from streams.worker.dedupe_table import windowed_seen
from streams.worker.open_stores import open_now
from streams.worker.publisher import DeadLetterPublisher
from streams.worker.receipt_gaps import ReceiptGapTracker
from streams.worker.state import EVERYONE, WorkerState
from streams.worker.suspects import SuspectMarks, SuspectNotebook, SuspectPipeline, Through
from streams.worker.transport import (
    EagerTables,
    LineApp,
    PassThrough,
    Slice,
    SliceConsumer,
    SliceTransport,
    forget_stopped,
)

#: A rebalance waits so long for slices in flight; what is not done by then is done by the next owner, again.
REBALANCE_PATIENCE = 5.0
COMMIT_PATIENCE = 10.0
#: The first pause of a refund that waits for its sale: most sales are late by moments.
REFUND_FIRST = timedelta(seconds=15)
#: Seconds between two looks at the topic from outside the consumer.
LOOK_EVERY = 3.0
#: Seconds between two looks at which stores are open; hours are in minutes.
OPEN_EVERY = 10.0
#: Seconds between two reports of what libraries were kept from logging.
REPORT_EVERY = 60.0


def create_app(
    settings: Settings,
    sink: Sink,
    metrics: WorkerMetrics,
    state: WorkerState,
    partitions: int,
    source: Source | None = None,
    master_data: MasterData | None = None,
    *,
    accept_budget: bool = False,
    tracing: Tracing | None = None,
    marks: SuspectMarks | None = None,
) -> LineApp:
    """The worker for `settings`; `partitions` is the number of the source topic's, `source` reads its records.

    With `accept_budget` the dead-letter budget counts only when the worker has caught up.
    """
    app = LineApp(settings.group, **cast(dict[str, Any], faust_settings(settings)))
    app.transport = SliceTransport(
        app,
        settings.topic,
        settings.slice_records,
        lambda: _settle(state, REBALANCE_PATIENCE),
        ClockWatch(lambda: time.time(), state.warn),
    )
    suspects = SuspectPipeline(SuspectNotebook(settings).write, marks)
    seen = windowed_seen(
        app, settings.window, settings.topic, partitions, settings.window_hours, time.time, metrics, suspects
    )
    receipts = ReceiptGapTracker()
    patient = RetryingSink(sink, metrics)
    publisher = DeadLetterPublisher(app, settings.dead_letter_topic, metrics)
    state.recovered = lambda: app.rebalancing_count > 0 and not app.rebalancing
    around = [each for each in (patient, source, publisher) if each is not None]
    state.troubles = lambda: [trouble for each in around if (trouble := each.trouble) is not None]
    # What the source waits for (its registry), every partition waits for.
    state.waiting = lambda: [
        *patient.waiting,
        *publisher.waiting,
        *([EVERYONE] if source is not None and source.trouble is not None else []),
    ]
    services = Services(
        seen=seen,
        sink=patient,
        dead_letters=DeadLetterWriter(publisher, utc_now),
        budget=BudgetGuard(1, NO_LIMIT) if accept_budget else budget_of(settings),
        stores=settings.find_stores(),
        now=utc_now,
        source=source,
        tracing=tracing or NoTracing(),
    )
    if master_data is not None:
        services.master = master_data.current
        keep_current(app, services, master_data, metrics, state)
    tell_versions(services, metrics)
    topic = app.topic(settings.topic, schema=PassThrough())

    @app.on_partitions_assigned.connect
    async def moved(*_: Any, **__: Any) -> None:
        receipts.begin_anew()

    @app.agent(topic, name="sales", isolated_partitions=True)
    async def sales(stream: StreamT[Any]) -> None:
        async for event in cast(faust.Stream[Any], stream).noack().events():
            await handle(event, services, metrics, state, receipts, suspects.through)

    accepting = accept_budget

    @app.timer(1.0)  # type: ignore[untyped-decorator]  # Faust does not type it
    async def observe() -> None:
        nonlocal accepting
        consumer = cast(SliceConsumer, app.consumer)
        lags = consumer.lag()
        if state.recovered() and not any(lags.values()):
            state.progress = state.clock()
        if accepting and state.recovered() and consumer.ends and not any(lags.values()):
            services.budget, accepting = budget_of(settings), False
        await patient.look_after_idle_sink()
        metrics.partitions.set(len(lags))
        metrics.note_lags(lags)
        metrics.skipped.inc(consumer.take_skipped())
        oldest = consumer.oldest_unsettled()
        metrics.lag_seconds.set(max(0.0, time.time() - oldest / 1000) if oldest is not None else 0.0)
        metrics.window_records.set(len(seen))
        metrics.late.inc(seen.take_late())
        metrics.budget_used.set(services.budget.used)
        metrics.held.set(state.held is not None)
        metrics.note_troubles(state.warnings)

    @app.timer(OPEN_EVERY)  # type: ignore[untyped-decorator]  # Faust does not type it
    async def look_who_is_open() -> None:
        metrics.note_open(open_now(metrics.stores_heard_of(), services.stores, services.master(), utc_now()))

    tidy_up(app, sales, state)
    take_up_again(app, settings, services, publisher, metrics, state)
    watch_letters(app, settings, metrics, state)

    lookout = TopicMonitor(settings, partitions)
    broker = BrokerWatch(lookout.ends, settings.topic, state, metrics, lambda: publisher.trouble is not None)

    @app.timer(LOOK_EVERY)  # type: ignore[untyped-decorator]  # Faust does not type it
    async def look_out() -> None:
        await broker.look(cast(SliceConsumer, app.consumer))

    return app


def budget_of(settings: Settings) -> BudgetGuard:
    """The dead-letter budget, with nothing counted yet."""
    budget = settings.dead_letter_budget
    return BudgetGuard(budget.ratio, budget.sample, budget.in_a_row)


def tell_versions(services: Services, metrics: WorkerMetrics) -> None:
    """Shows what records are read by now, as dead letters say it."""
    source, master = services.source, services.master()
    metrics.read_by.info(
        {
            "contract": source.contract.label if source is not None else CANONICAL,
            "mapping": master.label if master is not None else "",
        }
    )


def keep_current(
    app: LineApp, services: Services, master_data: MasterData, metrics: WorkerMetrics, state: WorkerState
) -> None:
    """Looks after the master data as long as the app runs, and counts what their rules find.

    What the dead-letter budget holds is judged again by new ones.
    """

    @app.timer(float(master_data.mapping.reload_seconds))  # type: ignore[untyped-decorator]  # Faust does not type it
    async def look() -> None:
        before = master_data.current()
        await asyncio.to_thread(master_data.look, metrics)
        tell_versions(services, metrics)
        if master_data.current() is not before and state.go_on(passing=False):
            structlog.get_logger("tillstream.mapping").warning("new master data: what was held is judged again")

    @app.timer(1.0)  # type: ignore[untyped-decorator]  # Faust does not type it
    async def count_dirt() -> None:
        for (rule, policy), times in master_data.take_found().items():
            metrics.cleaning.labels(rule, policy).inc(times)


def tidy_up(app: LineApp, agent: AgentT[Any], state: WorkerState) -> None:
    """Gives memory back after each rebalance, and reports messages of libraries that were suppressed."""
    tidy = True

    @app.on_partitions_assigned.connect
    async def moved(*_: Any, **__: Any) -> None:
        nonlocal tidy
        tidy = False

    @app.timer(1.0)  # type: ignore[untyped-decorator]  # Faust does not type it
    async def tidy_after_rebalance() -> None:
        nonlocal tidy
        if not tidy and state.recovered():
            tidy = True
            forget_stopped(agent)
            memory.collect()
            await asyncio.to_thread(memory.trim)

    @app.timer(REPORT_EVERY)  # type: ignore[untyped-decorator]  # Faust does not type it
    async def report() -> None:
        report_suppressed()


def take_up_again(
    app: LineApp,
    settings: Settings,
    services: Services,
    publisher: DeadLetterPublisher,
    metrics: WorkerMetrics,
    state: WorkerState,
) -> None:
    """Tries dead letters again that heal with time, where the mapping or the settings say so."""
    publishers = {
        settings.dead_letter_topic: publisher,
        settings.parked_topic: DeadLetterPublisher(app, settings.parked_topic, metrics),
    }

    async def publish(topic: str, letters: Sequence[DeadLetterRecord]) -> None:
        await publishers[topic](letters)

    def patience_of(reason: str) -> RetrySchedule | None:
        master = services.master()
        refunds = master.rules.refunds if master is not None else None
        retry = next((how for name, how in settings.retries.items() if name == reason), None)
        if reason == Reason.HELD_REFUND and refunds is not None:
            first = retry.patience[0] if retry is not None else REFUND_FIRST
            return RetrySchedule(
                first, timedelta(minutes=refunds.wait_minutes), last=True
            )  # then it is booked, or held
        return RetrySchedule(*retry.patience) if retry is not None else None

    @app.task  # type: ignore[untyped-decorator]  # Faust does not type it
    async def retries() -> None:
        while not settings.retries and patience_of(Reason.HELD_REFUND) is None:
            await asyncio.sleep(LOOK_EVERY)  # a mapping that is read again may bring the rule
        back = RequeueOrPark(
            publish, settings.dead_letter_topic, settings.parked_topic, settings.most_attempts, utc_now
        )
        try:
            to = for_reprocessing(services, back)
            warn = partial(state.warn, "retry")
            await DeadLetterRetrier(settings, to, back, patience_of, metrics, utc_now, state.waits_for, warn).run()
        except Exception as error:
            state.fail(error)
            structlog.get_logger("tillstream.retries").exception("trying dead letters again failed")


def watch_letters(app: LineApp, settings: Settings, metrics: WorkerMetrics, state: WorkerState) -> None:
    """Tells how many dead letters are open, and how old the oldest is; the worker that has partition 0 does."""

    def mine() -> bool:
        return state.recovered() and TP(settings.topic, 0) in app.consumer.assignment()

    @app.task  # type: ignore[untyped-decorator]  # Faust does not type it
    async def watch() -> None:
        try:
            await BacklogMonitor(settings, metrics, utc_now, mine, partial(state.warn, "watch")).run()
        except Exception as error:
            state.fail(error)
            structlog.get_logger("tillstream.letters").exception("counting open dead letters failed")


async def handle(
    event: EventT[Any],
    services: Services,
    metrics: WorkerMetrics,
    state: WorkerState,
    receipts: ReceiptGapTracker,
    through: Through = process,
) -> None:
    """Takes one slice through the line and acknowledges it; holds it when it must not be acknowledged.

    What the dead-letter budget holds, at most one slice of each partition, passes whole when the worker is told to go
    on; then counting begins anew. What failed is held for ever. An exception never reaches Faust: Faust would
    acknowledge the slice and restart the agent on the next one.
    """
    batch = cast(Slice, event.value)
    to = services
    log = structlog.get_logger("tillstream.line").bind(
        topic=batch.topic,
        partition=batch.partition,
        first_offset=batch.records[0].offset,
        last_offset=batch.records[-1].offset,
    )
    while state.failed is None:
        if state.held is not None:
            passing = await state.wait_told()
            if passing:
                services.budget.reset()
            # Somebody has looked, and what was held passes; or the mapping is another one, and it is judged again.
            to = replace(services, budget=BudgetGuard(1, NO_LIMIT)) if passing else services
            continue
        try:
            with state.at_work(), to.tracing.batch(batch) as note:
                settled = await through(batch, to)
                note(settled)
                batch.settled = True
                event.ack()
                state.progress = state.clock()
            count(settled, metrics)
            metrics.note_missing_receipts(receipts.note(settled))
        except BudgetExceeded as reason:
            state.hold(str(reason))
            log.error("dead-letter budget exceeded, not consuming any more", reason=str(reason))
        except Exception as error:
            state.fail(error)
            log.exception("the line failed, nothing of this batch is acknowledged")
        else:
            for rejection in settled.rejected:
                log.warning(
                    "dead letter",
                    offset=rejection.record.offset,
                    reason=rejection.reason.value,
                    detail=rejection.detail,
                    store=rejection.event.store if rejection.event else None,
                )
            log.debug("batch done", delivered=len(settled.delivered), rejected=len(settled.rejected))
            return
    await asyncio.Event().wait()


def count(settled: BatchOutcome, metrics: WorkerMetrics) -> None:
    """Counts what became of a batch: once per batch, whatever its size."""
    now = time.time()
    held = settled.delivered + settled.seen_in_sink
    everything = len(held) + len(settled.seen_in_window) + len(settled.rejected) + len(settled.noted)
    metrics.delivered.inc(len(settled.delivered))
    metrics.duplicates.labels("window").inc(len(settled.seen_in_window))
    metrics.duplicates.labels("sink").inc(len(settled.seen_in_sink))
    for noted in settled.noted:
        metrics.noted.labels(noted.why).inc()
    for rejection in settled.rejected:
        metrics.rejected.labels(rejection.reason.value).inc()
    metrics.latency.observe_all(now - arrival.record.timestamp / 1000 for arrival in settled.delivered)
    newest: dict[str, datetime] = {}
    for arrival in settled.delivered:
        event = arrival.event
        if event.store not in newest or event.occurred_at > newest[event.store]:
            newest[event.store] = event.occurred_at
    for store, moment in newest.items():
        metrics.note_store(store, moment.timestamp())
    metrics.batch_records.observe(everything)
    metrics.last_progress.set(now)


def in_our_words(error: BaseException, settings: Settings) -> BaseException:
    """A broker that went away while the worker was starting is an outage, and no fault; other errors as they are."""
    if isinstance(error, KafkaConnectionError):
        return BrokerUnreachable(f"no Kafka broker answers at {settings.broker} any more ({error})")
    return error


async def drain(app: faust.App, state: WorkerState, seconds: float) -> bool:
    """Takes no new slices, waits for those in flight, commits. False when something was left undone."""
    state.stopping = True
    app.consumer.stop_flow()
    app.flow_control.suspend()
    app.flow_control.clear()
    idle = await state.wait_idle(seconds)
    try:
        # Without a broker a commit tries for ever; what is not committed is read again and recognised.
        await asyncio.wait_for(app.consumer.commit(), COMMIT_PATIENCE)
    except TimeoutError:
        return False
    return idle


async def _settle(state: WorkerState, seconds: float) -> None:
    await state.wait_idle(seconds)


def utc_now() -> datetime:
    """The clock of the worker."""
    return datetime.now(UTC)


def faust_settings(settings: Settings) -> dict[str, object]:
    """Faust's settings, each that differs from its default with its reason."""
    return {
        "broker": [f"kafka://{address.strip()}" for address in settings.broker.split(",")],
        "broker_credentials": credentials(settings.kafka),
        "store": "memory://",
        "TableManager": EagerTables,
        "processing_guarantee": "at_least_once",  # exactly-once is unreliable in Faust; the sink is idempotent
        "consumer_auto_offset_reset": "earliest",
        "topic_allow_declare": False,  # bootstrap declares topics, with the right number of partitions
        "topic_disable_leader": True,
        "web_enabled": False,
        "table_standby_replicas": 0,  # windows load in a second; to read others' as well would double them
        "stream_wait_empty": False,  # waits without end when the sink is down; the transport waits for a moment instead
        "stream_buffer_maxsize": 64,  # slices; more than a poll makes, as the transport polls no more than that ahead
        "stream_recovery_delay": 0.0,
        "broker_session_timeout": settings.session_seconds,  # Faust's 60 s leave partitions of the dead alone too long
        "broker_rebalance_timeout": 20.0,
        "broker_max_poll_interval": 86_400.0,  # nothing is polled while a sink is away; the watchdog sees who stalls
        "broker_heartbeat_interval": settings.session_seconds / 4,
        "broker_request_timeout": max(40.0, settings.session_seconds),
        "broker_commit_interval": 1.0,  # what a crash repeats: at most one second, or 50 slices
        "broker_commit_every": 50,
        "consumer_max_fetch_size": 2**22,  # bounds a poll, and with it memory, to 4 MiB per partition
        "producer_acks": -1,
        "producer_max_request_size": settings.max_record_bytes + 2**16,  # a dead letter is its record and its headers
        "producer_request_timeout": 30.0,
    }


def credentials(security: KafkaSecurity) -> faust.SASLCredentials | faust.SSLCredentials | None:
    """Faust's credentials for these settings; None for plain text."""
    if security.protocol == "PLAINTEXT":
        return None
    context = None
    if security.protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=str(security.ca_file) if security.ca_file else None)
        if security.certificate_file:
            context.load_cert_chain(security.certificate_file, security.key_file)
    if security.protocol == "SSL":
        return faust.SSLCredentials(context)
    return faust.SASLCredentials(
        username=security.username,
        password=security.secret(),
        mechanism=security.mechanism,
        ssl_context=context,
    )
