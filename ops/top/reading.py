"""Reads a worker's /metrics and /readyz once, for `tillstream top`."""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import OpenerDirector, ProxyHandler, build_opener

from ops.worker.metrics_page import MetricsPage

PATIENCE = 3.0
#: A counter that every worker exports from the start.
DELIVERED = "tillstream_events_delivered_total"
SETTLED = (
    DELIVERED,
    "tillstream_events_duplicate_total",
    "tillstream_events_rejected_total",
    "tillstream_events_skipped_total",
)


@dataclass(frozen=True, slots=True)
class WorkerReading:
    """A worker's answer at `moment`, in monotonic seconds. `silent` is the reason why it gave none, if it didn't."""

    url: str
    moment: float
    silent: str | None = None
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    partitions: int = 0
    lag_records: int = 0
    lag_seconds: float = 0.0
    events: int = 0
    duplicates: dict[str, int] = field(default_factory=dict)
    dead_letters: dict[str, int] = field(default_factory=dict)
    sink_up: bool = False
    held: bool = False
    last_progress: float | None = None
    newest_by_store: dict[str, float] = field(default_factory=dict)
    open_by_store: dict[str, float] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether its sales reach the ERP."""
        return self.silent is None and not self.reasons


class NoWorker(Exception):
    """Something other than a worker answers; the message says how it shows."""


def read_workers(urls: Sequence[str]) -> list[WorkerReading]:
    """Return one reading of each worker. All are read at once, so a silent one does not delay the others."""
    opener = build_opener(ProxyHandler({}))  # a proxy would not reach 127.0.0.1
    with ThreadPoolExecutor(max_workers=max(1, len(urls))) as threads:
        return list(threads.map(lambda url: read(url, opener), urls))


def read(url: str, opener: OpenerDirector) -> WorkerReading:
    """Return the reading of the worker at `url`, which is `http://host:port`."""
    moment = time.monotonic()
    try:
        status, metrics = _get(opener, f"{url}/metrics")
        if status != 200:
            raise NoWorker(f"/metrics answers {status}")
        return reading_of(url, moment, metrics, *_readiness(*_get(opener, f"{url}/readyz")))
    except NoWorker as error:
        return WorkerReading(url, moment, silent=f"no Tillstream worker: {error}")
    except (OSError, HTTPException) as error:
        return WorkerReading(url, moment, silent=f"does not answer: {getattr(error, 'reason', None) or error}")


def reading_of(
    url: str, moment: float, metrics: str, reasons: Sequence[str], warnings: Sequence[str] = ()
) -> WorkerReading:
    """Return the reading from these metrics. Raises NoWorker."""
    try:
        samples = MetricsPage(metrics)
    except ValueError as error:
        raise NoWorker(f"/metrics are not metrics ({error})") from None
    if DELIVERED not in samples:
        raise NoWorker(f"/metrics have no {DELIVERED}")
    return WorkerReading(
        url,
        moment,
        reasons=tuple(reasons),
        warnings=tuple(warnings),
        partitions=int(samples.total("tillstream_assigned_partitions")),
        lag_records=int(samples.total("tillstream_lag_records")),
        lag_seconds=samples.total("tillstream_lag_seconds"),
        events=int(sum(map(samples.total, SETTLED))),
        duplicates=samples.counts("tillstream_events_duplicate_total", "layer"),
        dead_letters=samples.counts("tillstream_events_rejected_total", "reason"),
        sink_up=bool(samples.total("tillstream_sink_up")),
        held=bool(samples.total("tillstream_held")),
        last_progress=samples.total("tillstream_last_progress_timestamp_seconds") or None,
        newest_by_store=samples.by("tillstream_store_newest_event_timestamp_seconds", "store"),
        open_by_store=samples.by("tillstream_store_open", "store"),
    )


def rate(now: WorkerReading, before: WorkerReading | None) -> float | None:
    """Return events a second between two readings of a worker; None if unknown, as after a restart."""
    if before is None or now.silent or before.silent or now.moment <= before.moment or now.events < before.events:
        return None
    return (now.events - before.events) / (now.moment - before.moment)


def _readiness(status: int, body: str) -> tuple[list[str], list[str]]:
    """Return why the worker is not ready, and its warnings."""
    try:
        answer = json.loads(body)
        reasons: list[str] = answer["reasons"]
        warnings: list[str] = answer.get("warnings", [])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NoWorker(f"/readyz answers {status} without reasons") from None
    return (reasons if status != 200 else []), warnings


def _get(opener: OpenerDirector, url: str) -> tuple[int, str]:
    try:
        with opener.open(url, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except HTTPError as error:  # 503 is an answer, too
        with error:
            return error.code, error.read().decode(errors="replace")
