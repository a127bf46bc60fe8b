"""The metrics of schedules, for Prometheus: made of the history whenever they are asked for.

So they are those of all processes that keep, or run by hand, the schedules of this data folder, and are still there
after a restart.
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
    """How the last run of each schedule ended, and what the last reconciliation of each found."""

    def __init__(self, settings: Settings, history: ScheduleHistory) -> None:
        self._schedules = settings.schedules
        self._history = history

    def collect(self) -> Iterator[Metric]:
        """As the library asks."""
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
    """Serves `/metrics` meanwhile; the port. Raises SettingsError when the address can't be had."""
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
