"""`MasterData`: the mapping and its tables, reloaded when they change. An invalid version is refused."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from schemas.mapping import Mapping, MasterRow
from schemas.store import Stores
from sinks.base import SinkMisconfigured, SinkUnavailable
from streams.cleaning.outliers import Baselines, learn_baselines
from streams.mapping.mapper import IdentityMapper, Mapper
from streams.mapping.table_mapper import TableMapper
from streams.mapping.tables import QueryDatabase, read, stamp, stamp_of_file
from streams.metrics import WorkerMetrics
from streams.sources.contracts import ContractError, load_model


def utc_now() -> datetime:
    """Return the current time; tests pass another clock."""
    return datetime.now(UTC)


class MasterData:
    """The master data of a mapping file, in the newest valid version. Raises ContractError.

    With `release`, receipts that its cleaning rules would hold are booked, with the finding in their review.
    """

    def __init__(
        self,
        path: Path,
        database: QueryDatabase,
        stores: Stores,
        clock: Callable[[], datetime] = utc_now,
        *,
        release: bool = False,
    ) -> None:
        self.path = path
        self._release = release
        self.mapping = self._read_mapping()
        self._database = database
        self._stores = stores
        self._mapper: Mapper = IdentityMapper(stores)
        self._clock = clock
        self._learned_at = clock()
        self._rows: dict[str, list[MasterRow]] = {}
        self._watched = self.mapping  # the newest readable one: a table added in it may be the invalid one
        self._loaded_stamp: object = None
        self._stamp_before_load: object = None
        self._changed_stamp: object = None
        self._refused_stamp: object = None
        self._log = structlog.get_logger("tillstream.mapping")

    @property
    def reload_seconds(self) -> float:
        """Seconds between two checks for changes."""
        return float(self.mapping.reload_seconds)

    def current(self) -> Mapper:
        """Return the newest valid version; the identity until one is loaded."""
        return self._mapper

    def load(self) -> TableMapper:
        """Read the mapping and all tables. Raises ContractError and SinkUnavailable; the current version then stays."""
        mapping = self._watched = self._read_mapping()
        self._stamp_before_load = self._stamp()  # before reading: changes made meanwhile are read the next time
        rows = {name: read(name, table, self.path, self._database) for name, table in mapping.tables().items()}
        baselines = self._baselines(mapping)
        self.mapping, self._rows, self._loaded_stamp = mapping, rows, self._stamp_before_load
        mapper = self._mapper = TableMapper(mapping, rows, self._stores, baselines)
        return mapper

    def reload_if_changed(self, metrics: WorkerMetrics) -> None:
        """Reload after a change, once two checks in a row see the same version: somebody may still be writing it.

        An invalid version is logged once, and the version before stays. Blocks. Raises neither ContractError nor
        SinkUnavailable.
        """
        try:
            stamp = self._stamp()
            if stamp == self._loaded_stamp:
                self._changed_stamp = self._refused_stamp = None
                metrics.mapping_current.set(1)
            elif stamp == self._refused_stamp:
                self._changed_stamp = None
            elif stamp != self._changed_stamp:
                self._changed_stamp = stamp
            else:
                self._reload(stamp, metrics)
            usual = self.mapping.cleaning.usual
            if usual is not None and self._clock() >= self._learned_at + timedelta(minutes=usual.minutes):
                self._mapper = TableMapper(self.mapping, self._rows, self._stores, self._baselines(self.mapping))
        except (ContractError, SinkUnavailable) as error:
            metrics.mapping_errors.labels("unreachable").inc()
            self._log.warning("master data can't be read, the version before stays", error=str(error))

    def _reload(self, stamp: object, metrics: WorkerMetrics) -> None:
        self._stamp_before_load = stamp
        try:
            mapper = self.load()
        except ContractError as error:
            self._refused_stamp = self._stamp_before_load
            metrics.mapping_errors.labels("refused").inc()
            metrics.mapping_current.set(0)
            self._log.error("new master data refused, the version before stays", error=str(error))
        else:
            self._refused_stamp = None
            metrics.mapping_current.set(1)
            self._log.info("master data read again", mapping=mapper.label, **mapper.rows)

    def _baselines(self, mapping: Mapping) -> Baselines | None:
        rule = mapping.cleaning.usual
        if rule is None:
            return None
        now = self._clock()
        try:
            baselines = learn_baselines(rule, self._database, now.date())
        except SinkMisconfigured as error:
            raise ContractError(f"{self.path}: cleaning.usual: {error}") from None
        self._learned_at = now
        return baselines

    def _read_mapping(self) -> Mapping:
        mapping = load_model(self.path, Mapping, "mapping")
        return mapping.model_copy(update={"cleaning": mapping.cleaning.released()}) if self._release else mapping

    def _stamp(self) -> object:
        tables = [stamp(table, self.path, self._database) for table in self._watched.tables().values()]
        return stamp_of_file(self.path), tables


class NoMasterData:
    """A null object for `MasterData`, where the settings name no mapping: the identity, always."""

    def __init__(self, stores: Stores) -> None:
        self._mapper = IdentityMapper(stores)

    def current(self) -> IdentityMapper:
        """Return the identity mapper."""
        return self._mapper

    def load(self) -> IdentityMapper:
        """Return the identity mapper; there is nothing to load."""
        return self._mapper


#: Mapper versions over time; `current` returns the newest.
MapperVersions = MasterData | NoMasterData
