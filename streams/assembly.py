"""Builds the parts that workers and tools share: contract, mapping, sink; and the line without a worker around it.

Nothing here imports Faust, which takes most of a second: tools are started often.
"""

import gc
import sys
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

import structlog

from sinks.base import Sink, SinkMisconfigured
from sinks.registry import open_sink
from streams.dead_letters.budget import NO_LIMIT, BudgetGuard
from streams.dead_letters.reprocess import DiscardRejections, NoDedupe
from streams.mapping.mapper import store_zone
from streams.mapping.master_data import MapperVersions, MasterData, NoMasterData, utc_now
from streams.mapping.tables import QueryDatabase
from streams.metrics import WorkerMetrics
from streams.pipeline import Services
from streams.settings import Settings
from streams.sink_retry import RetryingSink
from streams.sources.canonical import CANONICAL, RecordSource
from streams.sources.contracts import ContractError, find_contract, load_contract
from streams.sources.source import SchemaReader, load_source


@dataclass(slots=True)
class ReplayPipeline:
    """The line without a topic in front of it, for replaying dead letters."""

    services: Services
    sink: Sink
    retrying_sink: RetryingSink


def build_replay_pipeline(settings: Settings, *, release: bool = False) -> ReplayPipeline:
    """Build the line with today's contract, mapping and rules, with an empty window and without a dead-letter topic.

    With `release`, receipts that the cleaning rules would hold are booked, with the finding in their review.
    Raises ContractError, SinkUnavailable and SinkMisconfigured.
    """
    master_data = find_master_data(settings, release=release)
    source = find_source(settings, master_data)
    sink = open_checked(settings, master_data)
    retrying_sink = RetryingSink(sink, WorkerMetrics())
    services = Services(
        seen=NoDedupe(),
        sink=retrying_sink,
        dead_letters=DiscardRejections(),
        budget=BudgetGuard(1, NO_LIMIT),
        mapper=master_data.current,
        now=utc_now,
        source=source,
    )
    return ReplayPipeline(services, sink, retrying_sink)


def open_checked(settings: Settings, master_data: MapperVersions) -> Sink:
    """Open the sink, check its version and schema, and load the master data, whose tables may be in its database.

    Raises ContractError, SinkUnavailable and SinkMisconfigured.
    """
    sink = open_sink(settings.sink_url, password=settings.password())
    try:
        findings = sink.check(apply=settings.apply_migrations)
        wrong = [finding for finding in findings if not finding.ok]
        if any(finding.vital for finding in wrong):
            raise SinkMisconfigured(
                "\n".join(f"{finding.subject}: {finding.detail.rstrip('.')}; {finding.advice}" for finding in wrong)
            )
        for finding in wrong:
            structlog.get_logger("tillstream.sink").warning(
                finding.subject, found=finding.detail, advice=finding.advice
            )
        master_data.load()
    except BaseException:
        sink.close()
        raise
    return sink


def find_master_data(settings: Settings, *, release: bool = False) -> MapperVersions:
    """Return the master data of the settings' mapping, not loaded yet. Raises ContractError."""
    stores = settings.find_stores()
    if settings.mapping is None:
        return NoMasterData(stores)
    return MasterData(settings.mapping, QueryDatabase(settings.sink_url, settings.password()), stores, release=release)


def find_source(settings: Settings, master_data: MapperVersions | None = None) -> RecordSource:
    """Return the source of the settings' contract, or the canonical one without a contract. Raises ContractError.

    The stores' time zones are those of `master_data`, as currently loaded, or of the settings.
    """
    if settings.contract is None:
        return CANONICAL
    versions = master_data or NoMasterData(settings.find_stores())

    def zone_of(name: str) -> ZoneInfo | None:
        return store_zone(versions.current(), name)

    path = find_contract(settings.contract)
    return load_source(path, zone_of, _schemas(path, settings))


def _schemas(path: Path, settings: Settings) -> SchemaReader | None:
    """Return the reader of records whose schemas are in a registry, or None for other formats. Raises ContractError."""
    form = load_contract(path).format
    if form not in ("avro", "json_schema"):
        return None
    if settings.schema_registry is None:
        raise ContractError(f"{path}: format {form} needs a Schema Registry; set schema_registry.url in the settings")
    try:
        from streams.sources.schema_registry import RegistryReader  # its libraries are an extra
    except ImportError as error:
        raise ContractError(
            f"{path}: format {form} needs the extra `registry`: pip install 'tillstream[registry]' ({error})"
        ) from None
    return RegistryReader(settings.schema_registry, form)


def tune_interpreter() -> None:
    """Keep the cyclic collector from walking live events over and over, and let threads take turns quickly.

    Events and documents have no cycles: reference counts free them. With default thresholds collections took more than
    half of the time of validating; with these they still bound the cycles that libraries make. The threads of the sink
    and of the consumer need the interpreter for a moment between two waits: at the default of 5 ms they wait longer for
    it than for the database (measured: 5 % more events/s at 1 ms, no gain below).
    """
    sys.setswitchinterval(0.001)
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
