"""`MasterData`: the mapping and its tables, read again when they change. A version that is wrong is refused."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from schemas.mapping import Mapping, MasterRow
from sinks.base import SinkMisconfigured, SinkUnavailable
from streams.cleaning.outliers import Baselines, habits
from streams.mapping.mapper import Mapper
from streams.mapping.tables import QueryDatabase, read, stamp, stamp_of_file
from streams.metrics import WorkerMetrics
from streams.sources.contracts import ContractError, load_model


def utc_now() -> datetime:
    """The clock outside tests."""
    return datetime.now(UTC)


class MasterData:
    """The master data of a mapping file, in the newest version that is right. Raises ContractError.

    With `release` what its cleaning rules would hold is booked, with the finding in its review.
    """

    def __init__(
        self, path: Path, database: QueryDatabase, clock: Callable[[], datetime] = utc_now, *, release: bool = False
    ) -> None:
        self.path = path
        self._release = release
        self.mapping = self._read_mapping()
        self.master: Mapper | None = None
        self.found: Counter[tuple[str, str]] = Counter()
        self._database = database
        self._clock = clock
        self._learned_at = clock()
        self._rows: dict[str, list[MasterRow]] = {}
        self._watched = self.mapping  # the newest that could be read: a new table of it may be what is wrong
        self._held: object = None
        self._stamped: object = None
        self._noticed: object = None
        self._refused: object = None
        self._log = structlog.get_logger("tillstream.mapping")

    def current(self) -> Mapper | None:
        """The newest version, once there is one."""
        return self.master

    def load(self) -> Mapper:
        """Reads all of it. Raises ContractError and SinkUnavailable, and keeps what there was then."""
        mapping = self._watched = self._read_mapping()
        self._stamped = self._stamp()  # before reading: what changes meanwhile is read again
        rows = {name: read(name, table, self.path, self._database) for name, table in mapping.tables().items()}
        habits = self._habits_of(mapping)
        self.mapping, self._rows, self._held = mapping, rows, self._stamped
        self.master = Mapper(mapping, rows, self.found, habits)
        return self.master

    def look(self, metrics: WorkerMetrics) -> None:
        """Loads what has changed, when it has not changed since the look before: somebody may be writing still.

        What can't be used is told once, and the version before stays. Blocks; raises nothing that the world may do.
        """
        try:
            seen = self._stamp()
            if seen == self._held:
                self._noticed = self._refused = None
                metrics.mapping_current.set(1)
            elif seen == self._refused:
                self._noticed = None
            elif seen != self._noticed:
                self._noticed = seen
            else:
                self._reload(seen, metrics)
            usual = self.mapping.cleaning.usual
            if usual is not None and self._clock() >= self._learned_at + timedelta(minutes=usual.minutes):
                self.master = Mapper(self.mapping, self._rows, self.found, self._habits_of(self.mapping))
        except (ContractError, SinkUnavailable) as error:
            metrics.mapping_errors.labels("unreachable").inc()
            self._log.warning("master data can't be read, the version before stays", error=str(error))

    def take_found(self) -> dict[tuple[str, str], int]:
        """What the cleaning rules have found since the last call, by rule and policy."""
        found = dict(self.found)
        self.found.clear()
        return found

    def _reload(self, seen: object, metrics: WorkerMetrics) -> None:
        self._stamped = seen
        try:
            master = self.load()
        except ContractError as error:
            self._refused = self._stamped
            metrics.mapping_errors.labels("refused").inc()
            metrics.mapping_current.set(0)
            self._log.error("new master data refused, the version before stays", error=str(error))
        else:
            self._refused = None
            metrics.mapping_current.set(1)
            self._log.info("master data read again", mapping=master.label, **master.rows)

    def _habits_of(self, mapping: Mapping) -> Baselines | None:
        rule = mapping.cleaning.usual
        if rule is None:
            return None
        now = self._clock()
        try:
            known = habits(rule, self._database, now.date())
        except SinkMisconfigured as error:
            raise ContractError(f"{self.path}: cleaning.usual: {error}") from None
        self._learned_at = now
        return known

    def _read_mapping(self) -> Mapping:
        mapping = load_model(self.path, Mapping, "mapping")
        return mapping.model_copy(update={"cleaning": mapping.cleaning.released()}) if self._release else mapping

    def _stamp(self) -> object:
        tables = [stamp(table, self.path, self._database) for table in self._watched.tables().values()]
        return stamp_of_file(self.path), tables
