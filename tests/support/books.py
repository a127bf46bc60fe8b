"""A line in memory, and its reconciliation: what went in, what came out, and what somebody did to either."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from ops.reconcile.compare import compare, settle_dead_letters, unplaced
from ops.reconcile.event_store import EventStore
from ops.reconcile.expected_documents import ExpectedDocuments
from ops.reconcile.rows import DeadLetterRow, EventRow
from ops.reconcile.scope import ReconciliationScope
from ops.reconcile.store_day import DayReport
from schemas.document import ErpDocument
from sinks.memory import MemorySink
from streams.batch import Batch
from streams.dead_letters.header import parse_header
from streams.kafka.reader import TopicRecord
from streams.mapping.mapper import IdentityMapper
from streams.pipeline import process
from streams.sources.canonical import CANONICAL
from tests.support.events import NOON, FakeRecord
from tests.support.line import Line

AFTER = NOON + timedelta(days=1)


@dataclass
class World:
    """Records of one partition, of which the worker has come to `committed`, and passed over the `skipped`.

    The topic has lost the first `lost_records`; of letters that are `closed` by hand the end, by whom, and why.
    """

    line: Line = field(default_factory=Line)
    records: list[FakeRecord] = field(default_factory=list)
    skipped: set[int] = field(default_factory=set)
    committed: int | None = None
    lost_letters: set[int] = field(default_factory=set)
    lost_records: int = 0
    closed: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    unplaced: DayReport | None = None

    @property
    def sink(self) -> MemorySink:
        assert isinstance(self.line.sink, MemorySink)
        return self.line.sink

    def send(self, *values: bytes | None) -> None:
        """Into the topic."""
        for value in values:
            self.records.append(FakeRecord(len(self.records), value))

    def work(self) -> None:
        """What a worker does with all of it, but for what it skips or has not come to."""
        end = len(self.records) if self.committed is None else self.committed
        taken = [record for record in self.records[:end] if record.offset not in self.skipped]
        asyncio.run(_through(self.line, taken))

    def letters(self) -> list[DeadLetterRow]:
        found: dict[int, DeadLetterRow] = {}
        for place, made in enumerate(self.line.letters):
            head = parse_header(TopicRecord(0, place, 0, made.key, made.value, made.headers), "pos.sales.dlq")
            if head.origin.offset not in self.lost_letters:
                where = (head.origin.partition, head.origin.offset, head.origin.digest)
                closed = self.closed.get(head.origin.offset, ("", "", ""))
                found[head.origin.offset] = DeadLetterRow(*where, head.reason, head.location, *closed)
        return list(found.values())

    def reconcile(self, now: datetime = AFTER, *, deep: bool = True, **scope: Any) -> list[DayReport]:
        """The days."""
        held = self.line.sink.totals(deep=deep)
        event_store = EventStore()
        expected = ExpectedDocuments(CANONICAL, IdentityMapper(self.line.stores))
        there = self.records[self.lost_records :]
        rows, closes = asyncio.run(expected.rows(Batch("pos.sales", 0, there), now))
        event_store.add(rows)
        event_store.add_closes(closes)
        if self.lost_records:
            scope.setdefault("lost", datetime.fromtimestamp(there[0].timestamp / 1000, UTC) if there else now)
        settle_dead_letters(event_store, self.letters(), self.line.sink)
        event_store.classify({0: len(self.records) if self.committed is None else self.committed})
        known = ReconciliationScope(now, ends, deep=deep, **scope)
        known.sent = lambda events: self._documents(expected, events, now)
        try:
            self.unplaced = unplaced(event_store, known)
            return compare(event_store, self.line.sink, held, known)
        finally:
            event_store.close()

    def _documents(
        self, expected: ExpectedDocuments, events: Sequence[EventRow], now: datetime
    ) -> dict[str, ErpDocument]:
        """By reference what these receipts' records make."""
        records = [self.records[event.offset] for event in events]
        made = asyncio.run(expected.documents(Batch("pos.sales", 0, records), now))
        return {each.external_ref: each for each in made}


async def _through(line: Line, records: Sequence[FakeRecord], most: int = 50) -> None:
    for start in range(0, len(records), most):
        await process(Batch("pos.sales", 0, records[start : start + most]), line.services)


def ends(_: str, day: date) -> datetime:
    """Business days are those of UTC."""
    return datetime.combine(day + timedelta(days=1), time(), UTC)
