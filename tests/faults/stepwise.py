"""Workers that take one step when told and die where told, around one partition in memory.

The line, its agent's `handle`, the window and the sink are the product's own. What is modelled here is Kafka: a log
with a committed offset, a dead-letter log, and the changelog of the window.

A worker dies in two ways. A step that waits for the world is a gate: the worker stands there until it is told to go on,
or is killed. A step that does not wait strikes, when the worker was told at the begin of the batch to die there.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from faust.types import TP

from schemas.document import ErpDocument
from schemas.store import Store, Stores
from sinks.base import Accepted, Result, Sink, SinkUnavailable
from streams.batch import Arrival
from streams.dead_letters.budget import BudgetGuard
from streams.dead_letters.record import DeadLetterRecord
from streams.dead_letters.writer import DeadLetterWriter
from streams.dedupe import WindowIndex
from streams.mapping.mapper import IdentityMapper
from streams.metrics import WorkerMetrics
from streams.pipeline import Services
from streams.sink_retry import BackOff, RetryingSink
from streams.worker.app import handle
from streams.worker.receipt_gaps import ReceiptGapTracker
from streams.worker.state import WorkerState
from streams.worker.transport import Slice
from tests.support.events import FakeRecord
from tests.support.line import MemoryChunks

#: Where a worker can be told to die, besides at its gates.
STRIKES = ("before split", "after split", "in the transaction", "before seen", "after seen", "before ack", "after ack")


class Killed(BaseException):
    """kill -9: no `except Exception` sees it."""


@dataclass
class Surroundings:
    """What outlives a worker. `holds` tells whether the sink holds all events of these ids."""

    sink: Sink
    holds: Callable[[set[str]], bool]
    metrics: WorkerMetrics
    now: datetime
    log: list[FakeRecord] = field(default_factory=list)
    committed: int = 0
    letters: list[DeadLetterRecord] = field(default_factory=list)
    changelog: list[tuple[str, float, bytes | None]] = field(default_factory=list)
    outages: list[str] = field(default_factory=list)  # of the next writes: before or after the commit
    writing: "Worker | None" = None

    def die_in_transaction(self) -> None:
        """To be called by the sink before it commits."""
        assert self.writing is not None
        self.writing.strike("in the transaction")

    effects: Counter[str] = field(default_factory=Counter)  # documents made or replaced, by event id


class Worker:
    """One owner of the partition, past or present. `at` is the gate it stands at, None when it has no batch."""

    def __init__(self, around: Surroundings, recovered: slice) -> None:
        self.around = around
        self.position = around.committed
        self.settled_to: int | None = None
        self.at: str | None = None
        self.dead = False
        self._dies: str | None = None
        self._state = WorkerState(lambda: 0.0)
        self._task: asyncio.Task[None] | None = None
        chunks = Changelogged(around.changelog, recovered)
        index = WindowIndex(86400, lambda: around.now.timestamp(), chunks)
        index.load(chunks.rows())
        self._services = Services(
            seen=Seen(self, index),
            sink=GatedSink(self),
            dead_letters=DeadLetterWriter(self._publish, lambda: around.now),
            budget=BudgetGuard(1, 1_000_000),
            mapper=lambda: IdentityMapper(Stores({}, Store())),
            now=lambda: around.now,
        )

    async def begin(self, records: int, dies: str | None = None) -> None:
        """Takes that many records and goes to the first gate. `dies` is one of STRIKES."""
        self._dies = dies
        polled = self.around.log[self.position : self.position + records]
        self.position += len(polled)
        batch = Slice(TP("pos.sales", 0), cast(Any, polled))
        self._stopped = asyncio.Event()
        work = handle(
            cast(Any, Polled(self, batch)), self._services, self.around.metrics, self._state, ReceiptGapTracker()
        )
        self._task = asyncio.create_task(work)
        await self._until_it_stops()

    async def go_on(self) -> None:
        """To the next gate, or to the end of the batch."""
        self._stopped.clear()
        self._gate.set_result(None)
        await self._until_it_stops()

    async def kill(self) -> None:
        """Dies where it stands."""
        self.dead = True
        if self.at is not None:
            self._stopped.clear()
            self._gate.set_exception(Killed())
            await self._until_it_stops()

    async def gate(self, name: str) -> None:
        """Stands here until told."""
        self.at = name
        self._gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopped.set()
        await self._gate

    def strike(self, point: str) -> None:
        """Dies here, if told so."""
        if self._dies == point:
            raise Killed(point)

    async def _until_it_stops(self) -> None:
        assert self._task is not None
        signals = [asyncio.create_task(event.wait()) for event in (self._stopped, self._state.ended)]
        await asyncio.wait([self._task, *signals], return_when=asyncio.FIRST_COMPLETED)
        for signal in signals:
            signal.cancel()
        if self._state.failed is not None:
            self._task.cancel()
            raise self._state.failed  # a bug, or an assertion
        if self._task.done():
            self.at = None
            self.dead = isinstance(self._task.exception(), Killed)

    async def _publish(self, letters: Sequence[DeadLetterRecord]) -> None:
        for letter in letters:
            await self.gate("before a dead letter")
            self.around.letters.append(letter)
        await self.gate("after the dead letters")


class Changelogged(MemoryChunks):
    """A worker's own table, recovered from a part of the changelog; what it writes goes there."""

    def __init__(self, changelog: list[tuple[str, float, bytes | None]], recovered: slice) -> None:
        super().__init__()
        self._changelog = changelog
        for key, start, digests in changelog[recovered]:
            if digests is None:
                self.kept.pop((key, start), None)
            else:
                self.kept[key, start] = digests

    def put(self, key: str, start: float, digests: bytes) -> None:
        super().put(key, start, digests)
        self._changelog.append((key, start, digests))

    def forget(self, key: str, start: float) -> None:
        super().forget(key, start)
        self._changelog.append((key, start, None))


class Seen:
    """The window, and death around it."""

    def __init__(self, worker: Worker, index: WindowIndex) -> None:
        self._worker = worker
        self._index = index

    def split(self, partition: int, arrivals: Sequence[Arrival]) -> tuple[list[Arrival], list[Arrival]]:
        self._worker.strike("before split")
        halves = self._index.split(partition, arrivals)
        self._worker.strike("after split")
        return halves

    def add(self, partition: int, arrivals: Sequence[Arrival]) -> None:
        self._worker.strike("before seen")
        assert self._worker.around.holds({arrival.id for arrival in arrivals}), "seen before the sink"
        self._index.add(partition, arrivals)
        self._worker.strike("after seen")


class GatedSink(RetryingSink):
    """The sink, and death, outages and lost answers around it."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(FaultySink(worker), worker.around.metrics, BackOff(0.0001, 0.0001))
        self._worker = worker

    async def write(self, documents: Sequence[ErpDocument]) -> list[Result]:
        if not documents:
            return []
        await self._worker.gate("before the sink")
        results = await super().write(documents)
        await self._worker.gate("after the sink")
        return results


class FaultySink:
    """The around's sink, as one worker's calls reach it."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def write(self, documents: Sequence[ErpDocument]) -> list[Result]:
        around = self._worker.around
        outage = around.outages.pop() if around.outages else None
        if outage == "before":
            raise SinkUnavailable("connection", "down")
        around.writing = self._worker
        results = around.sink.write(documents)
        around.effects.update(
            r.event_id for r in results if isinstance(r, Accepted) and r.effect in ("written", "replaced")
        )
        if outage == "after":
            raise SinkUnavailable("connection", "the answer is lost")
        return results

    def __getattr__(self, name: str) -> Any:
        return getattr(self._worker.around.sink, name)


class Polled:
    """What Faust hands to the agent."""

    def __init__(self, worker: Worker, batch: Slice) -> None:
        self.value = batch
        self._worker = worker

    def ack(self) -> None:
        self._worker.strike("before ack")
        assert self.value.settled
        self._worker.settled_to = self.value.next_offset
        self._worker.strike("after ack")
