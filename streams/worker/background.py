"""The timers and tasks that run in a worker next to its agent: metrics, master data, retries, the topic monitor."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, cast

import structlog
from faust.types import TP, AgentT

from schemas.dead_letter import Reason
from streams.batch import QualityIssue
from streams.dead_letters.backlog import BacklogMonitor
from streams.dead_letters.budget import BudgetGuard
from streams.dead_letters.record import DeadLetterRecord
from streams.dead_letters.reprocess import RequeueOrPark, for_reprocessing
from streams.dead_letters.retry import DeadLetterRetrier, RetrySchedule
from streams.dedupe import WindowIndex
from streams.kafka.topics import PartitionEnd
from streams.logs import report_suppressed
from streams.mapping.master_data import MasterData
from streams.metrics import WorkerMetrics
from streams.pipeline import Services
from streams.settings import RetrySettings, Settings
from streams.sink_retry import RetryingSink
from streams.worker import memory
from streams.worker.broker_watch import BrokerWatch
from streams.worker.open_stores import stores_open_now
from streams.worker.publisher import DeadLetterPublisher
from streams.worker.state import WorkerState
from streams.worker.transport import LineApp, SliceConsumer, forget_stopped

#: The first pause of a refund that waits for its sale: most sales are only moments late.
FIRST_REFUND_PAUSE = timedelta(seconds=15)
#: Seconds between two checks of the topic from outside the consumer.
MONITOR_INTERVAL = 3.0
#: Seconds between two checks of the stores' opening hours, which are given to the minute.
OPENING_HOURS_INTERVAL = 10.0
#: Seconds between two reports of suppressed library messages.
SUPPRESSED_LOG_INTERVAL = 60.0


def start_metrics(
    app: LineApp,
    services: Services,
    sink: RetryingSink,
    seen: WindowIndex,
    metrics: WorkerMetrics,
    state: WorkerState,
    budget: BudgetGuard | None = None,
) -> None:
    """Update the gauges once a second, and ping an idle sink.

    `budget` replaces the dead-letter budget of `services` as soon as the worker has caught up for the first time.
    """

    @app.timer(1.0)  # type: ignore[untyped-decorator]  # Faust does not type it
    async def observe() -> None:
        nonlocal budget
        consumer = cast(SliceConsumer, app.consumer)
        lags = consumer.lag()
        caught_up = state.recovered() and not any(lags.values())
        if caught_up:
            state.progress = state.clock()
        if budget is not None and caught_up and consumer.ends:
            services.budget, budget = budget, None
        await sink.ping_if_idle()
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


def start_opening_hours(app: LineApp, services: Services, metrics: WorkerMetrics) -> None:
    """Export which stores are open."""

    @app.timer(OPENING_HOURS_INTERVAL)  # type: ignore[untyped-decorator]  # Faust does not type it
    async def check_opening_hours() -> None:
        known = metrics.stores_heard_of()
        metrics.note_open(stores_open_now(known, services.mapper().stores, services.now()))


def show_versions(services: Services, metrics: WorkerMetrics) -> None:
    """Export the versions of the contract and the mapping in use, named as in the headers of dead letters."""
    metrics.read_by.info({"contract": services.source.label, "mapping": services.mapper().label})


def start_mapping_reload(
    app: LineApp, services: Services, master_data: MasterData, metrics: WorkerMetrics, state: WorkerState
) -> None:
    """Reload the master data while the app runs.

    New master data release a worker that the dead-letter budget has paused: its records are checked again.
    """

    @app.timer(master_data.reload_seconds)  # type: ignore[untyped-decorator]  # Faust does not type it
    async def reload() -> None:
        before = master_data.current()
        await asyncio.to_thread(master_data.reload_if_changed, metrics)
        show_versions(services, metrics)
        if master_data.current() is not before and state.resume(passing=False):
            structlog.get_logger("tillstream.mapping").warning("new master data: checking the held records again")


def count_findings(metrics: WorkerMetrics, findings: Sequence[QualityIssue]) -> None:
    """Count the cleaning rules' findings in a batch, of the topic or of retried dead letters."""
    for (rule, policy), times in Counter((finding.rule, finding.policy) for finding in findings).items():
        metrics.cleaning.labels(rule, policy).inc(times)


def start_memory_cleanup(app: LineApp, agent: AgentT[Any], state: WorkerState) -> None:
    """Return memory to the operating system after each rebalance."""
    clean = True

    @app.on_partitions_assigned.connect
    async def partitions_moved(*_: Any, **__: Any) -> None:
        nonlocal clean
        clean = False

    @app.timer(1.0)  # type: ignore[untyped-decorator]  # Faust does not type it
    async def clean_up() -> None:
        nonlocal clean
        if not clean and state.recovered():
            clean = True
            forget_stopped(agent)
            memory.collect()
            await asyncio.to_thread(memory.trim)


def start_log_report(app: LineApp) -> None:
    """Report how many messages of libraries the logs have suppressed."""

    @app.timer(SUPPRESSED_LOG_INTERVAL)  # type: ignore[untyped-decorator]  # Faust does not type it
    async def report() -> None:
        report_suppressed()


def retry_schedule(
    reason: str, retries: Mapping[Reason, RetrySettings], refund_minutes: float | None
) -> RetrySchedule | None:
    """Return how dead letters with this reason are retried, or None if they aren't.

    `refund_minutes` is the time a refund may wait for its sale, where the mapping has a rule for that. The rule decides
    how long a `held_refund` is retried; the settings can only change its first pause.
    """
    retry = next((settings for name, settings in retries.items() if name == reason), None)
    if reason == Reason.HELD_REFUND and refund_minutes is not None:
        first = retry.patience[0] if retry is not None else FIRST_REFUND_PAUSE
        return RetrySchedule(first, timedelta(minutes=refund_minutes), last=True)  # booked at the end, or held
    return RetrySchedule(*retry.patience) if retry is not None else None


def start_retries(
    app: LineApp,
    settings: Settings,
    services: Services,
    publisher: DeadLetterPublisher,
    metrics: WorkerMetrics,
    state: WorkerState,
) -> None:
    """Retry dead letters that may succeed later, where the mapping or the settings ask for it."""
    publishers = {
        settings.dead_letter_topic: publisher,
        settings.parked_topic: DeadLetterPublisher(app, settings.parked_topic, metrics),
    }

    async def publish(topic: str, letters: Sequence[DeadLetterRecord]) -> None:
        await publishers[topic](letters)

    def schedule_of(reason: str) -> RetrySchedule | None:
        refunds = services.mapper().refunds
        return retry_schedule(reason, settings.retries, refunds.wait_minutes if refunds is not None else None)

    @app.task  # type: ignore[untyped-decorator]  # Faust does not type it
    async def retry_dead_letters() -> None:
        while not settings.retries and schedule_of(Reason.HELD_REFUND) is None:
            await asyncio.sleep(MONITOR_INTERVAL)  # a reloaded mapping may bring the rule
        back = RequeueOrPark(
            publish, settings.dead_letter_topic, settings.parked_topic, settings.most_attempts, services.now
        )
        try:
            to = for_reprocessing(services, back)
            warn = partial(state.warn, "retry")
            await DeadLetterRetrier(settings, to, back, schedule_of, metrics, services.now, state.waits_for, warn).run()
        except Exception as error:
            state.fail(error)
            structlog.get_logger("tillstream.retries").exception("retrying dead letters failed")


def start_backlog_count(
    app: LineApp, settings: Settings, services: Services, metrics: WorkerMetrics, state: WorkerState
) -> None:
    """Export the number of open dead letters and the age of the oldest. Only the worker with partition 0 does."""

    def is_mine() -> bool:
        return state.recovered() and TP(settings.topic, 0) in app.consumer.assignment()

    @app.task  # type: ignore[untyped-decorator]  # Faust does not type it
    async def count_backlog() -> None:
        try:
            await BacklogMonitor(settings, metrics, services.now, is_mine, partial(state.warn, "watch")).run()
        except Exception as error:
            state.fail(error)
            structlog.get_logger("tillstream.letters").exception("counting open dead letters failed")


def monitor_topic(
    app: LineApp,
    topic: str,
    ends: Callable[[Iterable[int]], Mapping[int, PartitionEnd]],
    publisher: DeadLetterPublisher,
    metrics: WorkerMetrics,
    state: WorkerState,
) -> None:
    """Check the broker and the source topic from outside the consumer; `ends` asks for the ends of partitions."""
    broker = BrokerWatch(ends, topic, state, metrics, lambda: publisher.trouble is not None)

    @app.timer(MONITOR_INTERVAL)  # type: ignore[untyped-decorator]  # Faust does not type it
    async def check_broker() -> None:
        await broker.check(cast(SliceConsumer, app.consumer))
