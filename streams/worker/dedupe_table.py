"""The dedupe window as a Faust windowed table: a cache of the sink's records that survives restarts and rebalances.

Each batch makes one changelog record per window, and the in-memory index is rebuilt from the table after every
recovery. Faust's own expiry is off: it uses the wall clock, so replayed old events would expire at once. Windows expire
by event time instead, with a tombstone per chunk, written by the partition's own stream.
"""

import time
from collections.abc import Callable
from typing import Any, cast

import faust
import structlog
from faust.tables.wrappers import WindowWrapper
from faust.types import TP

from streams.dedupe import WindowIndex
from streams.metrics import WorkerMetrics
from streams.worker.suspects import NOTE_NUMBER, SuspectPipeline


class TableChunks:
    """Chunks in a windowed table. Call it only while a stream event of the chunk's partition is being handled."""

    def __init__(self, app: faust.App, name: str, length: float, partitions: int) -> None:
        table = app.Table(
            name,
            key_type=str,
            value_type=bytes,
            partitions=partitions,
            extra_topic_configs={"retention.ms": str(int(3 * length * 1000))},
        ).tumbling(length, expires=None)
        self.table = cast(WindowWrapper, table)

    def put(self, key: str, start: float, digests: bytes) -> None:
        """Write one chunk: one changelog record."""
        self.table.relative_to(start)[key] = digests

    def forget(self, key: str, start: float) -> None:
        """Delete one chunk: one tombstone in the changelog."""
        del self.table.relative_to(start)[key]

    def take_notes(self, partitions: set[int]) -> dict[int, bytes]:
        """Remove the notes about records that ended a worker from the chunks, and return those of `partitions`."""
        store = self.table.table.data
        keys = [row for row in list(store.keys()) if row[0].endswith(f"/{NOTE_NUMBER}")]
        found = {int(row[0].split("/")[0]): store.pop(row, None) for row in keys}
        return {number: packed for number, packed in found.items() if packed and number in partitions}

    def load(self, partitions: set[int]) -> list[tuple[str, float, bytes]]:
        """Return the chunks of `partitions`, and drop those of partitions that other workers have now."""
        store = self.table.table.data
        rows = [(key, window[0], value) for (key, window), value in list(store.items()) if value]
        for (key, window), _ in list(store.items()):
            if int(key.split("/")[0]) not in partitions:
                store.pop((key, window), None)
        return [row for row in rows if int(row[0].split("/")[0]) in partitions]


def create_dedupe_table(
    app: faust.App,
    name: str,
    source: str,
    partitions: int,
    window_hours: float,
    clock: Callable[[], float],
    metrics: WorkerMetrics,
    suspects: SuspectPipeline,
) -> WindowIndex:
    """Return the dedupe window `name` on `app`. It is rebuilt whenever its table has been recovered."""
    length = window_hours * 3600
    chunks = TableChunks(app, name, length, partitions)
    index = WindowIndex(length, clock, chunks)
    log = structlog.get_logger("tillstream.dedupe")

    moved_at = time.perf_counter()

    @app.on_partitions_assigned.connect
    async def partitions_moved(*_: Any, **__: Any) -> None:
        nonlocal moved_at
        moved_at = time.perf_counter()
        metrics.rebalances.inc()

    async def rebuild() -> None:
        assigned: set[TP] = app.consumer.assignment()
        mine = {tp.partition for tp in assigned if tp.topic == source}
        suspects.load(chunks.take_notes(mine), mine)
        index.load(chunks.load(mine))
        seconds = time.perf_counter() - moved_at
        metrics.recovery.observe(seconds)
        log.info("dedupe window recovered", records=len(index), seconds=round(seconds, 3))

    chunks.table.on_recover(rebuild)
    return index
