"""The line without a worker around it, and what both are put together from.

Tools start by the second, and Faust takes most of one to be imported: nothing here knows it.
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
from streams.mapping.master_data import MasterData, utc_now
from streams.mapping.tables import QueryDatabase
from streams.metrics import WorkerMetrics
from streams.pipeline import Services
from streams.settings import Settings
from streams.sink_retry import RetryingSink
from streams.sources.contracts import ContractError, find, load
from streams.sources.source import SchemaReader, Source, ready


@dataclass(slots=True)
class ReplayPipeline:
    """The line without a topic before it: for dead letters that people take through it again."""

    services: Services
    sink: Sink
    patient: RetryingSink


def build_desk(settings: Settings, *, release: bool = False) -> ReplayPipeline:
    """The line by today's contract, mapping and rules. Its window is empty, its dead letters go nowhere.

    With `release` what the cleaning rules would hold is booked, with the finding in its review.
    Raises ContractError, SinkUnavailable and SinkMisconfigured.
    """
    master_data = find_master_data(settings, release=release)
    source = find_source(settings, master_data)
    sink = open_checked(settings, master_data)
    patient = RetryingSink(sink, WorkerMetrics())
    services = Services(
        seen=NoDedupe(),
        sink=patient,
        dead_letters=DiscardRejections(),
        budget=BudgetGuard(1, NO_LIMIT),
        stores=settings.find_stores(),
        now=utc_now,
        source=source,
    )
    if master_data is not None:
        services.master = master_data.current
    return ReplayPipeline(services, sink, patient)


def open_checked(settings: Settings, master_data: MasterData | None) -> Sink:
    """The sink, right in version and schema; the master data, whose tables may be in its database, are loaded."""
    sink = open_sink(settings.sink_url, password=settings.password())
    try:
        findings = sink.check(apply=settings.apply_migrations)
        wrong = [finding for finding in findings if not finding.ok]
        if any(finding.vital for finding in wrong):
            raise SinkMisconfigured(
                "\n".join(f"{one.subject}: {one.detail.rstrip('.')}; {one.advice}" for one in wrong)
            )
        for one in wrong:
            structlog.get_logger("tillstream.sink").warning(one.subject, found=one.detail, advice=one.advice)
        if master_data is not None:
            master_data.load()
    except BaseException:
        sink.close()
        raise
    return sink


def find_master_data(settings: Settings, *, release: bool = False) -> MasterData | None:
    """The master data of the settings' mapping, not loaded yet; None without one. Raises ContractError."""
    if settings.mapping is None:
        return None
    return MasterData(settings.mapping, QueryDatabase(settings.sink_url, settings.password()), release=release)


def find_source(settings: Settings, master_data: MasterData | None = None) -> Source | None:
    """The source of the settings' contract, ready; None: the topic's records are canonical. Raises ContractError."""
    if settings.contract is None:
        return None
    stores = settings.find_stores()

    def zone_of(name: str) -> ZoneInfo | None:
        master = master_data.current() if master_data is not None else None
        store = stores.find(name) if master is None else master.store(name, stores)
        return store.zone if store is not None else None

    path = find(settings.contract)
    return ready(path, zone_of, _schemas(path, settings))


def _schemas(path: Path, settings: Settings) -> SchemaReader | None:
    """What reads the contract's records by the schemas of a registry, if they have any. Raises ContractError."""
    form = load(path).format
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
    """Keeps the cyclic collector from walking live events over and over, and lets threads take turns quickly.

    Events and documents have no cycles: reference counts free them. With default thresholds collections took more than
    half of the time of validating; with these they still bound what cycles the libraries make. The threads of the sink
    and of the consumer need the interpreter for a moment between two waits: at the default of 5 ms they wait longer for
    it than for the database (measured: 5 % more events/s at 1 ms, none at less).
    """
    sys.setswitchinterval(0.001)
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
