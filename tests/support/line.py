"""A whole line in memory: window, sink, dead letters."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from schemas.store import Store, Stores
from sinks.base import Sink
from sinks.memory import MemorySink
from streams.dead_letters.budget import BudgetGuard
from streams.dead_letters.record import DeadLetterRecord
from streams.dead_letters.writer import DeadLetterWriter
from streams.dedupe import WindowIndex
from streams.mapping.mapper import IdentityMapper
from streams.metrics import WorkerMetrics
from streams.pipeline import Services
from streams.sink_retry import BackOff, RetryingSink
from tests.support.events import NOON


class MemoryChunks:
    """A table: what was put and not forgotten, and how many writes it took."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, float], bytes] = {}
        self.writes = 0

    def put(self, key: str, start: float, digests: bytes) -> None:
        self.kept[key, start] = digests
        self.writes += 1

    def forget(self, key: str, start: float) -> None:
        del self.kept[key, start]

    def rows(self) -> list[tuple[str, float, bytes]]:
        return [(key, start, digests) for (key, start), digests in self.kept.items()]


@dataclass
class Line:
    """Services and what they brought about."""

    sink: Sink = field(default_factory=MemorySink)
    letters: list[DeadLetterRecord] = field(default_factory=list)
    chunks: MemoryChunks = field(default_factory=MemoryChunks)
    budget: BudgetGuard = field(default_factory=lambda: BudgetGuard(1, 1_000_000))
    stores: Stores = field(default_factory=lambda: Stores({}, Store()))
    now: datetime = NOON
    metrics: WorkerMetrics = field(default_factory=WorkerMetrics)
    services: Services = field(init=False)

    def __post_init__(self) -> None:
        async def publish(letters: Sequence[DeadLetterRecord]) -> None:
            self.letters += letters

        self.services = Services(
            seen=WindowIndex(86400, self.now.timestamp, self.chunks),
            sink=RetryingSink(self.sink, self.metrics, BackOff(0.001, 0.002)),
            dead_letters=DeadLetterWriter(publish, lambda: self.now),
            budget=self.budget,
            mapper=lambda: IdentityMapper(self.stores),
            now=lambda: self.now,
        )

    def wipe_window(self) -> None:
        """What a lost table means."""
        self.services.seen = WindowIndex(86400, self.now.timestamp, MemoryChunks())
