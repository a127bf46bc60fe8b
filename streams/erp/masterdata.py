"""`MasterData`: the mapping and its tables, read again when they change. A version that is wrong is refused."""

from collections import Counter
from pathlib import Path

import structlog

from schemas.mapping import Mapping
from sinks.base import SinkUnavailable
from streams.erp.master import Master
from streams.erp.tables import Database, read, stamp, stamp_of_file
from streams.metrics import Metrics
from streams.sources.contracts import ContractError, load_as


class MasterData:
    """The master data of a mapping file, in the newest version that is right. Raises ContractError."""

    def __init__(self, path: Path, database: Database) -> None:
        self.path = path
        self.mapping = self._read_mapping()
        self.master: Master | None = None
        self.found: Counter[tuple[str, str]] = Counter()
        self._database = database
        self._watched = self.mapping  # the newest that could be read: a new table of it may be what is wrong
        self._held: object = None
        self._stamped: object = None
        self._noticed: object = None
        self._refused: object = None
        self._log = structlog.get_logger("tillstream.mapping")

    def current(self) -> Master | None:
        """The newest version, once there is one."""
        return self.master

    def load(self) -> Master:
        """Reads all of it. Raises ContractError and SinkUnavailable, and keeps what there was then."""
        mapping = self._watched = self._read_mapping()
        self._stamped = self._stamp()  # before reading: what changes meanwhile is read again
        rows = {name: read(name, table, self.path, self._database) for name, table in mapping.tables().items()}
        self.mapping, self.master, self._held = mapping, Master(mapping, rows, self.found), self._stamped
        return self.master

    def look(self, metrics: Metrics) -> None:
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
        except SinkUnavailable as error:
            metrics.mapping_errors.labels("unreachable").inc()
            self._log.warning("master data can't be read, the version before stays", error=str(error))

    def take_found(self) -> dict[tuple[str, str], int]:
        """What the cleaning rules have found since the last call, by rule and policy."""
        found = dict(self.found)
        self.found.clear()
        return found

    def _reload(self, seen: object, metrics: Metrics) -> None:
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

    def _read_mapping(self) -> Mapping:
        return load_as(self.path, Mapping, "mapping")

    def _stamp(self) -> object:
        tables = [stamp(table, self.path, self._database) for table in self._watched.tables().values()]
        return stamp_of_file(self.path), tables
