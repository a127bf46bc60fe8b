"""The composition root of a worker: builds its parts; everything else receives the parts it needs."""

import time
from dataclasses import dataclass

import structlog

from sinks.base import Sink
from streams.assembly import find_master_data, find_source, open_checked
from streams.kafka.topics import check_record_sizes, ensure_topics
from streams.metrics import WorkerMetrics
from streams.settings import Settings
from streams.tracing.base import Tracing, find_tracing
from streams.worker.app import create_app
from streams.worker.state import WorkerState
from streams.worker.suspects import SuspectMarks
from streams.worker.transport import LineApp


@dataclass(slots=True)
class PreparedWorker:
    """A worker that is ready to start."""

    app: LineApp
    sink: Sink
    metrics: WorkerMetrics
    state: WorkerState
    tracing: Tracing


def build(settings: Settings, *, accept_budget: bool = False, marks: SuspectMarks | None = None) -> PreparedWorker:
    """Return a worker for `settings`, after checking its topics and its sink.

    With `accept_budget` the dead-letter budget counts only once the worker has caught up. `marks` record the batches at
    work. Call it in the event loop that the worker will run in.

    Raises SettingsError, ContractError, BrokerUnreachable, TopicsUnusable, SinkUnavailable and SinkMisconfigured.
    """
    master_data = find_master_data(settings)
    source = find_source(settings, master_data)
    tracing = find_tracing(settings)
    partitions = ensure_topics(settings.kafka_access, settings.topic_plan)
    advice = check_record_sizes(settings.kafka_access, settings.topic_plan)
    if advice is not None:
        structlog.get_logger("tillstream.worker").warning(advice)
    sink = open_checked(settings, master_data)
    metrics = WorkerMetrics()
    state = WorkerState(time.monotonic, settings.watchdog)
    metrics.sink_up.set(1)
    metrics.mapping_current.set(1)
    metrics.ready.set_function(lambda: not state.not_ready())  # evaluated by the scrape: the loop may hang
    app = create_app(
        settings,
        sink,
        metrics,
        state,
        partitions,
        source,
        master_data,
        accept_budget=accept_budget,
        tracing=tracing,
        marks=marks,
    )
    return PreparedWorker(app, sink, metrics, state, tracing)
