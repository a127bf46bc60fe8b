"""The Faust app: one agent that runs slices of the source topic through the line and acknowledges them."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

import faust
import structlog
from aiokafka.errors import KafkaConnectionError
from faust.types import AgentT, EventT, StreamT

from sinks.base import Sink
from streams.batch import BatchOutcome
from streams.dead_letters.budget import NO_LIMIT, BudgetExceeded, BudgetGuard
from streams.dead_letters.writer import DeadLetterWriter
from streams.kafka.errors import BrokerUnreachable
from streams.kafka.topics import TopicMonitor
from streams.mapping.master_data import MapperVersions, MasterData
from streams.metrics import WorkerMetrics
from streams.pipeline import Services, process
from streams.settings import RejectionBudget, Settings
from streams.sink_retry import RetryingSink
from streams.sources.canonical import RecordSource
from streams.tracing.base import NoTracing, Tracing
from streams.worker import background
from streams.worker.broker_clock import ClockWatch
from streams.worker.dedupe_table import create_dedupe_table
from streams.worker.faust_config import faust_settings
from streams.worker.publisher import DeadLetterPublisher
from streams.worker.receipt_gaps import ReceiptGapTracker
from streams.worker.state import EVERYONE, WorkerState
from streams.worker.suspects import ProcessBatch, SuspectMarks, SuspectNotebook, SuspectPipeline
from streams.worker.transport import LineApp, PassThrough, Slice, SliceTransport

#: Seconds that a rebalance waits for slices in flight. The next owner repeats those that aren't finished by then.
REBALANCE_PATIENCE = 5.0
COMMIT_PATIENCE = 10.0


def create_app(
    settings: Settings,
    sink: Sink,
    metrics: WorkerMetrics,
    state: WorkerState,
    partitions: int,
    source: RecordSource,
    master_data: MapperVersions,
    *,
    accept_budget: bool = False,
    tracing: Tracing | None = None,
    marks: SuspectMarks | None = None,
) -> LineApp:
    """Return the worker for `settings`; `partitions` is the source topic's number of partitions.

    `source` reads the topic's records. With `accept_budget` the dead-letter budget counts only once the worker has
    caught up.
    """
    app = create_faust_app(settings, state)
    suspects = SuspectPipeline(
        SuspectNotebook(settings.kafka_access, settings.topic_plan.names.changelog, settings.window_hours).write, marks
    )
    seen = create_dedupe_table(
        app, settings.window, settings.topic, partitions, settings.window_hours, time.time, metrics, suspects
    )
    retrying_sink = RetryingSink(sink, metrics)
    publisher = DeadLetterPublisher(app, settings.dead_letter_topic, metrics)
    watch_dependencies(app, state, retrying_sink, publisher, source)
    budget = new_budget(settings.dead_letter_budget)
    services = Services(
        seen=seen,
        sink=retrying_sink,
        dead_letters=DeadLetterWriter(publisher, utc_now),
        budget=BudgetGuard(1, NO_LIMIT) if accept_budget else budget,
        mapper=master_data.current,
        now=utc_now,
        source=source,
        tracing=tracing or NoTracing(),
        count_findings=partial(background.count_findings, metrics),
    )
    if isinstance(master_data, MasterData):
        background.start_mapping_reload(app, services, master_data, metrics, state)
    background.show_versions(services, metrics)
    agent = start_agent(app, settings.topic, services, metrics, state, suspects.process)
    background.start_metrics(app, services, retrying_sink, seen, metrics, state, budget if accept_budget else None)
    background.start_opening_hours(app, services, metrics)
    background.start_memory_cleanup(app, agent, state)
    background.start_log_report(app)
    background.start_retries(app, settings, services, publisher, metrics, state)
    background.start_backlog_count(app, settings, services, metrics, state)
    background.monitor_topic(
        app,
        settings.topic,
        TopicMonitor(settings.kafka_access, settings.topic, partitions).ends,
        publisher,
        metrics,
        state,
    )
    return app


def create_faust_app(settings: Settings, state: WorkerState) -> LineApp:
    """Return the app without agents and tables, with the transport that delivers slices."""
    app = LineApp(settings.group, **cast(dict[str, Any], faust_settings(settings)))

    async def wait_idle() -> None:
        await state.wait_idle(REBALANCE_PATIENCE)

    clock_watch = ClockWatch(lambda: time.time(), state.warn)
    app.transport = SliceTransport(app, settings.topic, settings.slice_records, wait_idle, clock_watch)
    return app


def watch_dependencies(
    app: LineApp, state: WorkerState, sink: RetryingSink, publisher: DeadLetterPublisher, source: RecordSource
) -> None:
    """Let `state` see which dependencies are in trouble, and which tasks wait for them."""
    dependencies = (sink, source, publisher)
    state.recovered = lambda: app.rebalancing_count > 0 and not app.rebalancing
    state.troubles = lambda: [trouble for dependency in dependencies if (trouble := dependency.trouble) is not None]
    # While the source waits for its registry, every partition waits.
    state.waiting = lambda: [
        *sink.waiting,
        *publisher.waiting,
        *([EVERYONE] if source.trouble is not None else []),
    ]


def start_agent(
    app: LineApp,
    topic: str,
    services: Services,
    metrics: WorkerMetrics,
    state: WorkerState,
    process_batch: ProcessBatch,
) -> AgentT[Any]:
    """Add the agent that handles the slices of the source topic."""
    receipts = ReceiptGapTracker()

    @app.on_partitions_assigned.connect
    async def partitions_moved(*_: Any, **__: Any) -> None:
        receipts.reset()

    @app.agent(app.topic(topic, schema=PassThrough()), name="sales", isolated_partitions=True)
    async def sales(stream: StreamT[Any]) -> None:
        async for event in cast(faust.Stream[Any], stream).noack().events():
            await handle(event, services, metrics, state, receipts, process_batch)

    return sales


def new_budget(limits: RejectionBudget) -> BudgetGuard:
    """Return the dead-letter budget with nothing counted yet."""
    return BudgetGuard(limits.ratio, limits.sample, limits.in_a_row)


async def handle(
    event: EventT[Any],
    services: Services,
    metrics: WorkerMetrics,
    state: WorkerState,
    receipts: ReceiptGapTracker,
    process_batch: ProcessBatch = process,
) -> None:
    """Run one slice through the line and acknowledge it; hold it when it must not be acknowledged.

    The dead-letter budget holds at most one slice of each partition. When the operator resumes the worker, these slices
    pass whole and counting starts over. A slice that failed is held forever. An exception never reaches Faust: Faust
    would acknowledge the slice and restart the agent on the next one.
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
            passing = await state.wait_resumed()
            if passing:
                services.budget.reset()
            # The operator lets the held records pass; or the mapping has changed, and they are checked again.
            to = replace(services, budget=BudgetGuard(1, NO_LIMIT)) if passing else services
            continue
        try:
            with state.at_work(), to.tracing.batch(batch) as note:
                settled = await process_batch(batch, to)
                note(settled)
                batch.settled = True
                event.ack()
                state.progress = state.clock()
            count(settled, metrics)
            metrics.note_missing_receipts(receipts.note(settled))
        except BudgetExceeded as reason:
            state.pause(str(reason))
            log.error("dead-letter budget exceeded, consuming stops", reason=str(reason))
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
    """Count the outcome of a batch: once per batch, whatever its size."""
    now = time.time()
    held = settled.delivered + settled.seen_in_sink
    everything = len(held) + len(settled.seen_in_window) + len(settled.rejected) + len(settled.skipped)
    metrics.delivered.inc(len(settled.delivered))
    metrics.duplicates.labels("window").inc(len(settled.seen_in_window))
    metrics.duplicates.labels("sink").inc(len(settled.seen_in_sink))
    for skipped in settled.skipped:
        metrics.noted.labels(skipped.why).inc()
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


def translate_error(error: BaseException, servers: str) -> BaseException:
    """Return BrokerUnreachable for aiokafka's lost connection, which is an outage; other errors unchanged."""
    if isinstance(error, KafkaConnectionError):
        return BrokerUnreachable(f"no Kafka broker answers at {servers} any more ({error})")
    return error


async def drain(app: faust.App, state: WorkerState, seconds: float) -> bool:
    """Take no new slices, wait for those in flight, commit. Return False when something was left undone."""
    state.stopping = True
    app.consumer.stop_flow()
    app.flow_control.suspend()
    app.flow_control.clear()
    idle = await state.wait_idle(seconds)
    try:
        # Without a broker a commit would retry forever. Uncommitted records are read again and recognised.
        await asyncio.wait_for(app.consumer.commit(), COMMIT_PATIENCE)
    except TimeoutError:
        return False
    return idle


def utc_now() -> datetime:
    """Return the worker's time."""
    return datetime.now(UTC)
