"""The metrics of schedules, for Prometheus: computed from the history at each scrape.

They cover all processes that run schedules of this data folder, and survive restarts.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from ops.reconcile.metrics import ReconciliationSummary, metrics_of
from ops.schedules.history import BROKEN_OFF, FAILED, ScheduleHistory
from ops.schedules.jobs import BAD_LINES, DIFFERS, DONE, INCOMPLETE, UNREADABLE
from streams.metrics import ScheduleMetrics
from streams.settings import Settings, SettingsError


class ScheduleCollector(Collector):
    """The outcome of each schedule's last run, and the result of its last reconciliation."""

    def __init__(self, settings: Settings, history: ScheduleHistory) -> None:
        self._schedules = settings.schedules
        self._history = history

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        metrics = ScheduleMetrics()
        found: dict[str, Metric] = {}
        for name, schedule in self._schedules.items():
            ended = self._history.last_with_outcome(
                name, DONE, BAD_LINES, DIFFERS, INCOMPLETE, UNREADABLE, BROKEN_OFF, FAILED
            )
            failed = ended is not None and ended.outcome.startswith((UNREADABLE, BROKEN_OFF, FAILED))
            metrics.failed.labels(name).set(failed)
            last = (
                self._history.last_with_outcome(name, DONE, DIFFERS, INCOMPLETE)
                if schedule.reconcile is not None
                else None
            )
            if last is None:
                continue
            for family in metrics_of(ReconciliationSummary.model_validate(last.report)).registry.collect():
                series = found.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    series.add_sample(sample.name, {"schedule": name, **sample.labels}, sample.value)
        yield from metrics.registry.collect()
        yield from found.values()


@contextmanager
def serve_metrics(settings: Settings, history: ScheduleHistory) -> Iterator[int]:
    """Serve `/metrics` within the block and yield the port. Raises SettingsError if the address is unavailable."""
    registry = CollectorRegistry()
    registry.register(ScheduleCollector(settings, history))
    try:
        server, thread = start_http_server(settings.schedules_port, settings.http_host, registry)
    except OSError as error:
        where = f"{settings.http_host}:{settings.schedules_port}"
        raise SettingsError(f"http {where}: {error.strerror}; set http_host and schedules_port") from None
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
