"""All metrics, defined once, here. Base units; every label has few values (stores are capped).

Metrics are updated once per batch, whatever its size: `Histogram.observe` per event would cost more than decoding.
"""

import platform
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from schemas.dead_letter import Reason
from sinks.base import KINDS

LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 14400.0, 86400.0)
WRITE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZE_BUCKETS = (1, 3, 10, 30, 100, 300, 1000, 3000)
RECOVERY_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
#: Above this many stores the per-store gauges keep the stores they know and count the others together.
MOST_STORES = 2000
OTHER_STORES = "(other)"
#: A worker's background tasks for dead letters; the line continues without them.
BESIDE_THE_LINE = ("retry", "watch")
#: Outcomes of a retried dead letter.
RETRY_ENDS = ("delivered", "superseded", "duplicate", "noted", "failed", "parked")


class BatchHistogram(Collector):
    """A Prometheus histogram that takes a batch of observations at once, in O(n log buckets) plain Python."""

    def __init__(self, name: str, text: str, buckets: Sequence[float], registry: CollectorRegistry) -> None:
        self._name, self._text, self._buckets = name, text, tuple(buckets)
        self._counts = [0] * (len(buckets) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe_all(self, values: Iterable[float]) -> None:
        """Count every value into its bucket."""
        observed = list(values)
        for place, count in Tally(bisect_left(self._buckets, value) for value in observed).items():
            self._counts[place] += count
        self._sum += sum(observed)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the cumulative buckets, as Prometheus wants them."""
        total, buckets = 0, []
        for bound, count in zip([*map(str, self._buckets), "+Inf"], self._counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        yield HistogramMetricFamily(self._name, self._text, buckets=buckets, sum_value=self._sum)


class WorkerMetrics:
    """The worker's metrics, on a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._stores: dict[str, float | None] = {}  # with their newest event time, those that were heard of
        self._open: set[str] = set()
        self._partitions: set[int] = set()
        self._partitions_looked_at: set[int] = set()
        self._stores_with_runs: set[str] = set()
        self._waiting_for: set[str] = set()
        self.build = Info("tillstream_build", "The program and the Python that runs it.", registry=self.registry)
        self.build.info({"version": version("tillstream"), "python": platform.python_version()})
        self.read_by = Info(
            "tillstream_mapping",
            "The contract, if there is one, and the mapping in use, each name@version.",
            registry=self.registry,
        )
        self.read_by.info({"contract": "", "mapping": ""})
        self.ready = Gauge(
            "tillstream_ready",
            "1 while /readyz says so: the ERP is being brought up to date.",
            registry=self.registry,
        )
        self.delivered = Counter(
            "tillstream_events_delivered",
            "Events whose document the sink holds, written by this worker.",
            registry=self.registry,
        )
        self.duplicates = Counter(
            "tillstream_events_duplicate",
            "Events recognised as delivered before, by the layer that did.",
            ["layer"],
            registry=self.registry,
        )
        self.rejected = Counter(
            "tillstream_events_rejected",
            "Records put into the dead-letter topic, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.retried = Counter(
            "tillstream_dead_letters_retried",
            "Dead letters that the worker retried by itself, by outcome.",
            ["end"],
            registry=self.registry,
        )
        self.truncated = Counter(
            "tillstream_dead_letters_truncated",
            "Dead letters that the dead-letter topic refused for their size: kept truncated, with a reference.",
            registry=self.registry,
        )
        self.waiting = Gauge(
            "tillstream_dead_letters_waiting",
            "Dead letters of this worker's partitions that it will retry by itself, by reason: refunds that "
            "wait for their sale are `held_refund`.",
            ["reason"],
            registry=self.registry,
        )
        self.letters_open = Gauge(
            "tillstream_dead_letters_open",
            "Open dead letters of the whole topic, up to 50,000; exported by the worker "
            "with partition 0, and 0 on the others.",
            registry=self.registry,
        )
        self.letters_oldest = Gauge(
            "tillstream_dead_letters_oldest_age_seconds",
            "Time since the oldest of the open dead letters failed first; 0 without open ones.",
            registry=self.registry,
        )
        self.letters_trouble = Gauge(
            "tillstream_dead_letters_trouble",
            "1 while dead letters are not tried again (`retry`), or open ones not counted (`watch`), as a topic or a "
            "right is missing; /readyz says which, as a warning.",
            ["task"],
            registry=self.registry,
        )
        self.noted = Counter(
            "tillstream_events_skipped",
            "Events without an effect in the ERP: tombstones, day_close events, and records that the contract skips.",
            ["why"],
            registry=self.registry,
        )
        self.cleaning = Counter(
            "tillstream_cleaning",
            "Findings of the mapping's cleaning rules, by rule and policy.",
            ["rule", "policy"],
            registry=self.registry,
        )
        self.mapping_errors = Counter(
            "tillstream_mapping_errors",
            "Attempts to read master data again that failed: `refused`, since they are wrong, or `unreachable`.",
            ["kind"],
            registry=self.registry,
        )
        self.mapping_current = Gauge(
            "tillstream_mapping_current",
            "0 while the newest master data are refused and older ones are used.",
            registry=self.registry,
        )
        self.skipped = Counter(
            "tillstream_offsets_skipped",
            "Offsets at which the broker had no record to give: transaction markers, aborted or compacted records, and "
            "records that it deleted before they were read.",
            registry=self.registry,
        )
        self.late = Counter(
            "tillstream_events_late",
            "Events that the sink holds whose event time is before what the dedupe window remembers: if they are sent "
            "again, the sink alone can tell.",
            registry=self.registry,
        )
        self.receipts_missing = Counter(
            "tillstream_receipts_missing",
            "Receipt numbers of a register that had not come when it was 100 numbers further: a hint, see "
            "docs/runbooks/receipts-missing.md.",
            ["store"],
            registry=self.registry,
        )
        self.latency = BatchHistogram(
            "tillstream_event_to_commit_seconds",
            "From the record's Kafka timestamp to its commit in the sink.",
            LATENCY_BUCKETS,
            self.registry,
        )
        self.freshness = Gauge(
            "tillstream_store_newest_event_timestamp_seconds",
            "Event time of the newest event of the store that the sink holds.",
            ["store"],
            registry=self.registry,
        )
        self.store_open = Gauge(
            "tillstream_store_open",
            "1 while the store is open by its opening_hours, 0 while it is closed; no series where none are stated.",
            ["store"],
            registry=self.registry,
        )
        self.lag_records = Gauge(
            "tillstream_lag_records",
            "Records not yet acknowledged, by partition.",
            ["partition"],
            registry=self.registry,
        )
        self.lag_seconds = Gauge(
            "tillstream_lag_seconds",
            "Age of the oldest fetched record that is not yet acknowledged, by its Kafka timestamp; 0 if none.",
            registry=self.registry,
        )
        self.uncommitted_records = Gauge(
            "tillstream_uncommitted_records",
            "Records beyond the last stable offset, by partition: they wait for an open Kafka transaction to end, and "
            "are no part of the lag.",
            ["partition"],
            registry=self.registry,
        )
        self.uncommitted_age = Gauge(
            "tillstream_uncommitted_age_seconds",
            "Time for which records have waited behind the last stable offset of a partition without its moving, the "
            "longest of this worker's partitions; 0 if none wait.",
            registry=self.registry,
        )
        self.last_progress = Gauge(
            "tillstream_last_progress_timestamp_seconds", "When a batch was last acknowledged.", registry=self.registry
        )
        self.batch_records = Histogram(
            "tillstream_batch_records", "Records handled together.", buckets=SIZE_BUCKETS, registry=self.registry
        )
        self.sink_write = Histogram(
            "tillstream_sink_write_seconds",
            "Time of one write to the sink that succeeded.",
            buckets=WRITE_BUCKETS,
            registry=self.registry,
        )
        self.sink_errors = Counter(
            "tillstream_sink_errors",
            "Writes that failed and are tried again, by kind.",
            ["kind"],
            registry=self.registry,
        )
        self.sink_up = Gauge("tillstream_sink_up", "1 if the last write or ping succeeded.", registry=self.registry)
        self.budget_used = Gauge(
            "tillstream_dead_letter_budget_used_ratio",
            "Share of the dead-letter budget in use; at 1 the worker stops.",
            registry=self.registry,
        )
        self.held = Gauge(
            "tillstream_held",
            "1 while the dead-letter budget holds the worker: it consumes nothing until an operator resumes it.",
            registry=self.registry,
        )
        self.window_records = Gauge(
            "tillstream_window_records", "Records the dedupe window knows.", registry=self.registry
        )
        self.partitions = Gauge(
            "tillstream_assigned_partitions", "Source partitions this worker has.", registry=self.registry
        )
        self.rebalances = Counter(
            "tillstream_rebalances",
            "Times that the group gave this worker its partitions, the first one included.",
            registry=self.registry,
        )
        self.recovery = Histogram(
            "tillstream_window_recovery_seconds",
            "From a rebalance to a dedupe window that is read back whole; nothing is consumed meanwhile.",
            buckets=RECOVERY_BUCKETS,
            registry=self.registry,
        )
        # A counter that comes into being at 3 has no rate: all possible counters start at 0.
        for reason in Reason:
            self.rejected.labels(reason.value)
        for layer in ("window", "sink"):
            self.duplicates.labels(layer)
        for kind in KINDS:
            self.sink_errors.labels(kind)
        for end in RETRY_ENDS:
            self.retried.labels(end)
        for kind in ("refused", "unreachable"):
            self.mapping_errors.labels(kind)
        self.note_troubles(())

    def note_lags(self, lags: dict[int, int]) -> None:
        """Lag in records by partition; partitions that went to other workers disappear."""
        for partition in self._partitions - set(lags):
            self.lag_records.remove(str(partition))
        self._partitions = set(lags)
        for partition, lag in lags.items():
            self.lag_records.labels(str(partition)).set(lag)

    def note_uncommitted(self, waiting: Mapping[int, int], age: float) -> None:
        """Set the records waiting behind open transactions by partition, and for how many seconds they have waited."""
        for partition in self._partitions_looked_at - set(waiting):
            self.uncommitted_records.remove(str(partition))
        self._partitions_looked_at = set(waiting)
        for partition, records in waiting.items():
            self.uncommitted_records.labels(str(partition)).set(records)
        self.uncommitted_age.set(age)

    def note_waiting(self, letters: Mapping[str, int]) -> None:
        """Dead letters that wait for another try, by reason; reasons that have none any more are 0."""
        for reason in self._waiting_for - set(letters):
            self.waiting.labels(reason).set(0)
        self._waiting_for |= set(letters)
        for reason, number in letters.items():
            self.waiting.labels(reason).set(number)

    def note_troubles(self, tasks: Container[str]) -> None:
        """Set which of the background tasks are in trouble."""
        for task in BESIDE_THE_LINE:
            self.letters_trouble.labels(task).set(task in tasks)

    def note_missing_receipts(self, missing: Mapping[str, int]) -> None:
        """Count receipt numbers that did not come, by store; stores beyond the cap share one series."""
        for store, number in missing.items():
            known = store in self._stores_with_runs or len(self._stores_with_runs) < MOST_STORES
            self._stores_with_runs.add(store if known else OTHER_STORES)
            self.receipts_missing.labels(store if known else OTHER_STORES).inc(number)

    def note_store(self, store: str, newest: float) -> None:
        """Set the newest event time (seconds) that the sink holds of `store`; stores beyond the cap share one
        series."""
        known = self._stores
        if not self._has_room(store):
            store = OTHER_STORES
        newest = max(known.get(store) or 0.0, newest)
        known[store] = newest
        self.freshness.labels(store).set(newest)

    def note_open(self, stores: Mapping[str, bool]) -> None:
        """Which stores are open, of those whose hours are known. They come first when the cap is reached."""
        for store in self._open - stores.keys():
            self.store_open.remove(store)
            self._open.discard(store)
        for store, is_open in stores.items():
            if self._has_room(store):
                self._stores.setdefault(store, None)
                self._open.add(store)
                self.store_open.labels(store).set(is_open)

    def stores_heard_of(self) -> list[str]:
        """Return the stores that have a series of their own."""
        return [store for store in self._stores if store != OTHER_STORES]

    def _has_room(self, store: str) -> bool:
        return store in self._stores or len(self._stores) < MOST_STORES


class ReconciliationMetrics:
    """Results of the last reconciliation. `tillstream schedule run` serves them, with an extra label `schedule`; the
    command `tillstream reconcile` writes them to a file for Prometheus' node exporter (its collector `textfile`)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.differences = Gauge(
            "tillstream_reconciliation_differences",
            "Differences between tills and ERP on store-days that nobody has signed off, by kind.",
            ["kind"],
            registry=self.registry,
        )
        self.gross = Gauge(
            "tillstream_reconciliation_gross_difference",
            "Gross that tills and ERP differ by on such store-days, added up without signs, by currency.",
            ["currency"],
            registry=self.registry,
        )
        self.store_days = Gauge(
            "tillstream_reconciliation_store_days",
            "Store-days looked at, by state.",
            ["state"],
            registry=self.registry,
        )
        self.unbooked = Gauge(
            "tillstream_reconciliation_unbooked_receipts",
            "Receipts, and records of unknown amount, that are not in the ERP, on store-days that are over and that "
            "nobody has signed off, by where they are: dead, held, parked, waiting.",
            ["fate"],
            registry=self.registry,
        )
        self.unbooked_gross = Gauge(
            "tillstream_reconciliation_unbooked_gross",
            "Gross of these receipts, added up without signs, by currency.",
            ["currency"],
            registry=self.registry,
        )
        self.unproved = Gauge(
            "tillstream_reconciliation_unproved_receipts",
            "Receipts in the ERP whose records have left the topic, on such store-days, by currency.",
            ["currency"],
            registry=self.registry,
        )
        self.unproved_gross = Gauge(
            "tillstream_reconciliation_unproved_gross",
            "Gross of these receipts, added up without signs, by currency.",
            ["currency"],
            registry=self.registry,
        )
        self.at = Gauge(
            "tillstream_reconciliation_timestamp_seconds",
            "When it was done, in seconds since 1970.",
            registry=self.registry,
        )


class ScheduleMetrics:
    """The state of schedules: served by `tillstream schedule run`, next to the results of scheduled reconciliations."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.failed = Gauge(
            "tillstream_schedule_failed",
            "1 if the last run failed or was broken off: `tillstream schedule history` has the reason.",
            ["schedule"],
            registry=self.registry,
        )
