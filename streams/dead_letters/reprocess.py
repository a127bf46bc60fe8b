"""Run dead letters through the line again: the same steps, the same sink, and an outcome for each.

The workers' window of known records is left out: the sink knows every event it ever took. Records that fail again go
back into the dead-letter topic with their own bytes and one attempt more, or, after too many, to the parked topic.
"""

import asyncio
import sqlite3
import weakref
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from schemas.dead_letter import Reason
from schemas.document import ErpDocument
from sinks.base import Accepted, Result, same_or_conflict
from streams.batch import Arrival, Batch, BatchOutcome, Headers, Rejection
from streams.dead_letters.audit import OutcomeEnd
from streams.dead_letters.budget import NO_LIMIT, BudgetGuard
from streams.dead_letters.header import DeadLetterHeader
from streams.dead_letters.record import OWN, DeadLetterRecord, dead_letter_record
from streams.dead_letters.writer import first_per_record
from streams.dedupe import PackedDigests
from streams.kafka.reader import TopicRecord
from streams.pipeline import SeenRecords, Services, process, versions
from streams.sink_retry import RetryingSink
from streams.worker.suspects import is_outage

#: Sends letters to a topic; returns when the broker has confirmed them.
PublishTo = Callable[[str, Sequence[DeadLetterRecord]], Awaitable[None]]


@dataclass(slots=True, eq=False)
class ReplayRecord:
    """A dead letter as a record for the line; its value may be patched."""

    head: DeadLetterHeader
    letter: TopicRecord
    value: bytes | None
    replay_id: str = ""

    @property
    def offset(self) -> int:
        """Where the record came from: its identity, whatever becomes of it."""
        return self.head.origin.offset

    @property
    def timestamp(self) -> int:
        """The letter's: when the record arrived first is not known any more."""
        return self.letter.timestamp

    @property
    def key(self) -> bytes | None:
        """The record's own."""
        return self.letter.key

    @property
    def headers(self) -> Headers:
        """The record's own, those of the letter, and which replay it is."""
        mark = [(OWN + "replay_id", self.replay_id.encode())] if self.replay_id else []
        return [*self.letter.headers, *mark]


class ReplayResult(NamedTuple):
    """The outcome of a dead letter; of several events in one record the worst counts."""

    again: ReplayRecord
    end: OutcomeEnd
    reason: str = ""
    detail: str = ""
    documents: tuple[ErpDocument, ...] = ()

    def ended(self) -> tuple[DeadLetterHeader, OutcomeEnd, str, str]:
        """Return the outcome for the audit log."""
        return self.again.head, self.end, self.reason, self.detail


class RequeueOrPark:
    """Requeues records that fail again, and parks them after `max_attempts`. As `pipeline.DeadLetterBox`, for
    `ReplayRecord`s."""

    def __init__(
        self, publish: PublishTo, topic: str, parked_topic: str, most_attempts: int, now: Callable[[], datetime]
    ) -> None:
        self._publish = publish
        self._topic = topic
        self._parked_topic = parked_topic
        self._most_attempts = most_attempts
        self._now = now

    async def put(self, topic: str, partition: int, rejections: Sequence[Rejection], versions: str) -> None:
        """Return when the broker has confirmed them."""
        by_topic: dict[str, list[DeadLetterRecord]] = defaultdict(list)
        for rejection in first_per_record(rejections):
            again = rejection.record
            assert isinstance(again, ReplayRecord)
            unmended = replace(rejection, record=replace(again, value=again.letter.value))
            over = again.head.attempts >= self._most_attempts
            by_topic[self._parked_topic if over else self._topic].append(
                dead_letter_record(unmended, topic, partition, self._now(), versions)
            )
        for where, letters in by_topic.items():
            await self._publish(where, letters)

    def parks(self, head: DeadLetterHeader) -> bool:
        """Whether a letter that fails again is parked."""
        return head.attempts >= self._most_attempts


class NoDedupe:
    """No window: nothing is known, and nothing remembered. As `pipeline.SeenRecords`."""

    def split(self, partition: int, arrivals: Sequence[Arrival]) -> tuple[list[Arrival], list[Arrival]]:
        """(all of them, none)"""
        return list(arrivals), []

    def add(self, partition: int, arrivals: Sequence[Arrival]) -> None:
        """Nothing."""


class ReplayedDigests:
    """The records brought into the ERP so far, in about 40 bytes each. As `pipeline.SeenRecords`, of all partitions at
    once.

    A batch with one event that the sink already holds costs it half as much again as a batch of new ones.
    """

    def __init__(self) -> None:
        self._digests = PackedDigests()

    def split(self, partition: int, arrivals: Sequence[Arrival]) -> tuple[list[Arrival], list[Arrival]]:
        """(not known, known as delivered)"""
        fresh: list[Arrival] = []
        known: list[Arrival] = []
        for arrival in arrivals:
            (known if arrival.digest in self._digests else fresh).append(arrival)
        return fresh, known

    def add(self, partition: int, arrivals: Sequence[Arrival]) -> None:
        """Remember that the sink holds these."""
        self._digests.update([arrival.digest for arrival in arrivals])


class DryRunState:
    """The documents a sink would have taken so far: the content of each event, and the newest revision of each receipt.

    Beyond a few megabytes it is on disk, in an unnamed SQLite database that is deleted when closed: a dry run of
    millions of records needs no more memory than one of thousands.
    """

    def __init__(self) -> None:
        self._disk = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._disk.close)
        self._disk.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16384; PRAGMA temp_store = FILE;"
            "CREATE TABLE events (id TEXT PRIMARY KEY, content TEXT) WITHOUT ROWID;"
            "CREATE TABLE receipts (ref TEXT PRIMARY KEY, revision INTEGER, content TEXT) WITHOUT ROWID;"
            "BEGIN;"
        )

    def add(self, documents: Sequence[ErpDocument]) -> None:
        """Record that the sink would take these."""
        self._disk.executemany("REPLACE INTO events VALUES (?, ?)", ((d.event_id, d.content) for d in documents))
        receipts = ((d.external_ref, d.revision, d.content) for d in documents)
        self._disk.executemany("REPLACE INTO receipts VALUES (?, ?, ?)", receipts)

    def event(self, event_id: str) -> str | None:
        """Return the content of the event, if it was promised."""
        row = self._disk.execute("SELECT content FROM events WHERE id = ?", (event_id,)).fetchone()
        return None if row is None else str(row[0])

    def receipt(self, ref: str) -> tuple[int, str] | None:
        """Revision and content of the receipt, if it was promised."""
        row = self._disk.execute("SELECT revision, content FROM receipts WHERE ref = ?", (ref,)).fetchone()
        return None if row is None else (int(row[0]), str(row[1]))


class DryRunSink:
    """The sink in a dry run. As `pipeline.LineSink`; `asked` are the documents that it would take, until the caller
    clears them. It answers as if the documents `forgotten` (references) had been removed."""

    def __init__(self, sink: RetryingSink, forgotten: Collection[str] = ()) -> None:
        self._sink = sink
        self._forgotten = frozenset(forgotten)
        self.asked: dict[str, ErpDocument] = {}
        self._by_now = DryRunState()

    async def write(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """As `Sink.rehearse`, counting documents that it would have taken by then."""
        promised = {d.event_id: result for d in documents if (result := self._promised(d)) is not None}
        open_ones = [d for d in documents if d.event_id not in promised]
        known = [d for d in open_ones if d.external_ref not in self._forgotten]
        answered: dict[str, Result] = {d.event_id: Accepted(d.event_id, "written") for d in open_ones}
        answered |= {answer.event_id: answer for answer in await self._sink.rehearse(known)}
        taken = [(d, answer) for d in open_ones if isinstance(answer := answered[d.event_id], Accepted)]
        self._by_now.add([document for document, _ in taken])
        self.asked |= {d.event_id: d for d, answer in taken if answer.effect in ("written", "replaced")}
        answered |= promised
        return [answered[d.event_id] for d in documents]

    def _promised(self, document: ErpDocument) -> Result | None:
        """Return its answer from earlier calls; None if those don't decide it."""
        content = self._by_now.event(document.event_id)
        if content is not None:
            return same_or_conflict(document, content, Reason.CONFLICTING_DUPLICATE)
        revision, content = self._by_now.receipt(document.external_ref) or (-1, "")
        if revision < document.revision:
            return None
        if revision == document.revision:
            return same_or_conflict(document, content, Reason.CONFLICTING_RECEIPT)
        return Accepted(document.event_id, "superseded")

    async def holds(self, external_refs: Sequence[str]) -> set[str]:
        """As `Sink.holds`, counting documents that it would have taken by then."""
        promised = {ref for ref in external_refs if self._by_now.receipt(ref) is not None}
        return await self._sink.holds(external_refs) - self._forgotten | promised


class DiscardRejections:
    """No dead letters. As `pipeline.DeadLetterBox`."""

    async def put(self, topic: str, partition: int, rejections: Sequence[Rejection], versions: str) -> None:
        """Nothing."""


def for_reprocessing(services: Services, back: RequeueOrPark, seen: SeenRecords | None = None) -> Services:
    """Return the line for dead letters: no budget, and no window but `seen`."""
    return replace(services, seen=seen or NoDedupe(), budget=BudgetGuard(1, NO_LIMIT), dead_letters=back)


def for_dry_run(services: Services, sink: RetryingSink, forgotten: Collection[str] = ()) -> tuple[Services, DryRunSink]:
    """Return the line that changes nothing; as if the sink had forgotten some documents."""
    rehearsal = DryRunSink(sink, forgotten)
    to = replace(
        services, seen=NoDedupe(), budget=BudgetGuard(1, NO_LIMIT), dead_letters=DiscardRejections(), sink=rehearsal
    )
    return to, rehearsal


class PartitionLocks(defaultdict[tuple[str, int], asyncio.Lock]):
    """One lane for each source partition: its letters go one batch behind the other, whoever sends them."""

    def __init__(self) -> None:
        super().__init__(asyncio.Lock)


async def reprocess(
    letters: Sequence[ReplayRecord],
    to: Services,
    most: int,
    back: RequeueOrPark | None = None,
    lanes: PartitionLocks | None = None,
) -> list[ReplayResult]:
    """Run dead letters, each of a different record, through the line, at most `most` of a partition at once.

    Those of one source partition keep their order, also across calls that share `lanes`; while they wait for the
    sink, those of another are decoded. Without `back` it is a dry run: the outcomes have the documents that would be
    written.

    A dead letter that makes the line itself fail goes back as `ends_worker`: it is safe in the topic, and otherwise it
    would keep all others from being retried.
    """
    lanes = PartitionLocks() if lanes is None else lanes
    try:
        return await _together(letters, to, most, back, lanes)
    except Exception as error:
        if is_outage(error):
            raise
        if len(letters) == 1:
            return [await _put_back(letters[0], error, to, back)]
    if isinstance(to.sink, DryRunSink):
        to.sink.asked.clear()
    return [outcome for again in letters for outcome in await reprocess([again], to, most, back, lanes)]


async def _put_back(again: ReplayRecord, error: Exception, to: Services, back: RequeueOrPark | None) -> ReplayResult:
    origin, detail = again.head.origin, f"(the whole record): {type(error).__name__}"
    if back is not None:
        rejection = Rejection(again, Reason.ENDS_WORKER, detail, "line")
        await back.put(origin.topic, origin.partition, [rejection], versions(to.source, to.mapper()))
    parks = back is not None and back.parks(again.head)
    return ReplayResult(again, "parked" if parks else "failed", Reason.ENDS_WORKER.value, detail)


async def _together(
    letters: Sequence[ReplayRecord], to: Services, most: int, back: RequeueOrPark | None, lanes: PartitionLocks
) -> list[ReplayResult]:
    groups: dict[tuple[str, int], list[ReplayRecord]] = defaultdict(list)
    for again in letters:
        groups[again.head.origin.topic, again.head.origin.partition].append(again)
    rehearsed = to.sink.asked if isinstance(to.sink, DryRunSink) else {}

    async def through(topic: str, partition: int, group: list[ReplayRecord]) -> list[ReplayResult]:
        outcomes: list[ReplayResult] = []
        async with lanes[topic, partition]:  # they are let in as they came
            for start in range(0, len(group), most):
                piece = group[start : start + most]
                batch = Batch(topic, partition, piece)
                with to.tracing.batch(batch) as note:
                    settled = await process(batch, to)
                    note(settled)
                outcomes += ends(piece, settled, back, rehearsed)
        return outcomes

    ended = await asyncio.gather(*(through(*place, group) for place, group in groups.items()))
    rehearsed.clear()
    return [outcome for part in ended for outcome in part]


def ends(
    group: Sequence[ReplayRecord], settled: BatchOutcome, back: RequeueOrPark | None, rehearsed: dict[str, ErpDocument]
) -> list[ReplayResult]:
    """Return the outcome of each record of a batch, which are distinguished by identity, not by offset."""
    rejected: dict[int, Rejection] = {}
    for rejection in settled.rejected:
        rejected.setdefault(id(rejection.record), rejection)
    arrived: dict[int, list[Arrival]] = defaultdict(list)
    for arrival in settled.delivered:
        arrived[id(arrival.record)].append(arrival)
    known = {id(arrival.record) for arrival in settled.seen_in_window + settled.seen_in_sink}
    late = {arrival.id for arrival in settled.superseded}
    outcomes = []
    for again in group:
        rejection_of = rejected.get(id(again))
        delivered = arrived.get(id(again))
        if rejection_of is not None:
            parks = back is not None and back.parks(again.head)
            outcome = ReplayResult(
                again, "parked" if parks else "failed", rejection_of.reason.value, rejection_of.detail
            )
        elif delivered:
            end: OutcomeEnd = "superseded" if late and all(arrival.id in late for arrival in delivered) else "delivered"
            documents = tuple(rehearsed[one.id] for one in delivered if one.id in rehearsed) if rehearsed else ()
            outcome = ReplayResult(again, end, documents=documents)
        else:
            outcome = ReplayResult(again, "duplicate" if id(again) in known else "noted")
        outcomes.append(outcome)
    return outcomes
