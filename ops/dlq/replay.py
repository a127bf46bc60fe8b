"""Run dead letters through the line again: a dry run, and the resumable replay.

A replay has a consumer group of its own, which holds its progress. A dead letter is committed as read when the sink has
its document, or the broker its new dead letter, and the audit log its outcome: a replay that is killed at any
instruction and resumed, or run twice, changes nothing more.
"""

import asyncio
import json
import time
from collections import Counter, deque
from collections.abc import AsyncIterable, Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from ops.dlq.fetch import Part, commit, fetch_selected
from ops.dlq.filters import DeadLetterFilter
from ops.dlq.listing import DeadLetterListing, list_dead_letters, read_audit
from ops.dlq.patch import PatchFailed, ValuePatch, identity, same_identity
from streams.assembly import ReplayPipeline
from streams.dead_letters.audit import (
    AuditAction,
    AuditTail,
    AuditWriter,
    ResolutionIndex,
    group_outcomes,
    new_action_id,
)
from streams.dead_letters.header import DeadLetterHeader
from streams.dead_letters.record import OWN, DeadLetterRecord
from streams.dead_letters.reprocess import (
    PartitionLocks,
    ReplayedDigests,
    ReplayRecord,
    ReplayResult,
    RequeueOrPark,
    for_dry_run,
    for_reprocessing,
    reprocess,
)
from streams.kafka.producer import ConfirmingProducer
from streams.kafka.reader import Progress, record_at
from streams.kafka.topics import ensure_dead_letter_topics
from streams.settings import Settings

PASSED = ("delivered", "superseded", "duplicate", "noted")


class NoSuchReplay(Exception):
    """No replay of that id can be resumed; the message gives the remedy."""


@dataclass
class ReplayOrder:
    """The selection and options of a replay. `rate`: dead letters a second; `fixed`: only those that would pass now.

    `release` is only recorded: the pipeline has the rules that book receipts they would hold.
    """

    wanted: DeadLetterFilter = field(default_factory=DeadLetterFilter)
    by: str = ""
    reason: str = ""
    patch: ValuePatch | None = None
    rate: float | None = None
    limit: int | None = None
    fixed: bool = False
    new_identity: bool = False
    release: bool = False


@dataclass
class ReplayReport:
    """The outcomes of a replay or a dry run: by end, and by end and reason. `drained`: all were processed."""

    id: str = ""
    letters: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    drained: bool = True
    dry_run_results: list[ReplayResult] = field(default_factory=list)

    def add(self, results: Sequence[ReplayResult]) -> None:
        """Count outcomes."""
        self.ends.update(each.end for each in results)
        self.reasons.update((each.end, each.reason) for each in results if each.reason)


#: Options of an order that the audit log keeps, besides its filter and patch.
_KEPT = ("limit", "fixed", "new_identity", "release", "rate")
#: Slices in a batch: of several source partitions, which go through the line concurrently.
_SLICES_PER_BATCH = 5
OnOutcomes = Callable[[Sequence[ReplayResult]], None]


def choose(
    settings: Settings, order: ReplayOrder, progress: Progress = lambda _: None, resumed: AuditAction | None = None
) -> tuple[DeadLetterListing, list[DeadLetterHeader]]:
    """Return the open dead letters of the order, the oldest failures first if it is limited.

    With `resumed`: those that this replay has begun with and not tried yet.
    """
    shelf = list_dead_letters(settings, order.wanted, progress, of=resumed.id if resumed is not None else None)
    chosen = shelf.open
    if resumed is not None:
        tried = shelf.trail.tried
        chosen = [h for h in chosen if h.offset < resumed.until.get(h.partition, 0)]
        chosen = [h for h in chosen if (h.partition, h.offset) not in tried]
    if order.limit is not None and not order.fixed:  # otherwise the limit counts passing ones
        chosen = sorted(chosen, key=lambda head: (head.last_failed, head.partition, head.offset))[: order.limit]
    return shelf, chosen


async def dry_run(
    settings: Settings,
    pipeline: ReplayPipeline,
    order: ReplayOrder,
    selected: Sequence[DeadLetterHeader],
    on_outcomes: OnOutcomes,
    keep: int = 20,
) -> ReplayReport:
    """Return the outcomes of a replay by today's contract, mapping, rules and ERP. Nothing is changed.

    The first `keep` outcomes are kept with their documents.
    """
    report = ReplayReport(letters=len(selected))
    services, _ = for_dry_run(pipeline.services, pipeline.retrying_sink)
    most = settings.slice_records
    async with fetch_selected(settings, selected, _SLICES_PER_BATCH * most) as (_, batches):
        async for batch in batches:
            records, refused = await _prepare(settings, pipeline, order, batch, "")
            results = refused + await reprocess(records, services, most)
            report.add(results)
            on_outcomes(results)
            report.dry_run_results += results[: max(0, keep - len(report.dry_run_results))]
    return report


async def replay(
    settings: Settings,
    pipeline: ReplayPipeline,
    order: ReplayOrder,
    stop: asyncio.Event,
    on_outcomes: OnOutcomes,
    resume: str | None = None,
) -> ReplayReport:
    """Replay the dead letters of the order. Stops between two batches once `stop` is set.

    With `resume` the order is that of the replay of this id; dead letters that it has finished are not repeated. Raises
    NoSuchReplay, TopicsUnusable and BrokerUnreachable.
    """
    topics = await asyncio.to_thread(ensure_dead_letter_topics, settings.kafka_access, settings.topic_plan)
    selected, action = await asyncio.to_thread(_begin, settings, order, resume)
    running = _Replay(settings, pipeline, order, action, topics[settings.audit_topic], stop, on_outcomes)
    await running.run(selected)
    return running.report


class _Replay:
    """One replay: runs batches of dead letters through the line, and records and commits their outcomes in order.

    While one batch is in the line, the outcomes of the one before are recorded.
    """

    def __init__(
        self,
        settings: Settings,
        pipeline: ReplayPipeline,
        order: ReplayOrder,
        action: AuditAction,
        audit_partitions: int,
        stop: asyncio.Event,
        on_outcomes: OnOutcomes,
    ) -> None:
        self.report = ReplayReport(id=action.id, drained=False)
        self._settings = settings
        self._pipeline = pipeline
        self._order = order
        self._action = action
        self._stop = stop
        self._on_outcomes = on_outcomes
        self._slice = settings.slice_records
        self._left = order.limit
        self._audit = AuditWriter(settings)
        producer = ConfirmingProducer(settings.kafka_access, settings.max_record_bytes)
        self._requeue = RequeueOrPark(
            _publisher(producer),
            settings.dead_letter_topic,
            settings.parked_topic,
            settings.most_attempts,
            pipeline.services.now,
        )
        self._services = for_reprocessing(pipeline.services, self._requeue, ReplayedDigests())
        self._dry_run, _ = for_dry_run(pipeline.services, pipeline.retrying_sink)
        self._resolutions = ResolutionIndex()
        self._audit_tail = AuditTail(settings, audit_partitions, self._resolutions, exclude=action.id)
        self._locks = PartitionLocks()
        #: Batches in the line, in their order, each with the results of the records that never got there.
        self._running: deque[tuple[Part, list[ReplayResult], asyncio.Future[list[ReplayResult]]]] = deque()
        self._recording: asyncio.Future[None] = asyncio.ensure_future(asyncio.sleep(0))

    async def run(self, selected: Sequence[DeadLetterHeader]) -> None:
        """Replay the selected dead letters; `report.drained` says whether all of them were."""
        self.report.letters = len(selected)
        with closing(self._audit_tail):
            self._audit.write(self._action)
            await asyncio.to_thread(self._audit.confirm)
            try:
                self.report.drained = await self._replay(selected)
            finally:
                await asyncio.to_thread(_end, self._audit, self._action, self.report)

    async def _replay(self, selected: Sequence[DeadLetterHeader]) -> bool:
        group = f"tillstream-replay-{self._action.id}"
        async with fetch_selected(self._settings, selected, self._batch_size(), group) as (consumer, batches):
            try:
                drained = await self._run_batches(consumer, batches)
            finally:
                await self._cancel()
            await self._recording
            return drained

    def _batch_size(self) -> int:
        rate = self._order.rate
        return _SLICES_PER_BATCH * self._slice if rate is None else max(1, min(self._slice, int(rate)))

    async def _run_batches(self, consumer: Any, batches: AsyncIterable[Part]) -> bool:
        """Return whether all batches were replayed and recorded."""
        limit = _RateLimit(self._order.rate)
        # With --only-passing the batch before decides how many more may pass.
        in_line = 0 if self._order.fixed else 1
        async for batch in batches:
            if self._stop.is_set():
                break
            still_open = await self._without_resolved(batch)
            records, refused = await _prepare(self._settings, self._pipeline, self._order, still_open, self._action.id)
            self._running.append((batch, refused, asyncio.ensure_future(self._reprocess(records))))
            if not await self._finish(consumer, in_line):
                break
            await limit.keep(len(batch), self._stop)
        else:
            return await self._finish(consumer, 0)
        await self._finish(consumer, 0)
        return False

    async def _without_resolved(self, batch: Part) -> Part:
        """Return the batch without dead letters that were resolved since the replay began."""
        await asyncio.to_thread(self._audit_tail.read)
        return [(header, record) for header, record in batch if not self._resolutions.is_closed(header)]

    async def _reprocess(self, records: Sequence[ReplayRecord]) -> list[ReplayResult]:
        if self._order.fixed:
            tried = await reprocess(records, self._dry_run, self._slice)
            passing = {result.again.head.location for result in tried if result.end in PASSED}
            records = [record for record in records if record.head.location in passing][: self._left]
            self._left = None if self._left is None else self._left - len(records)
        return await reprocess(records, self._services, self._slice, self._requeue, self._locks)

    async def _finish(self, consumer: Any, in_line: int) -> bool:
        """Record batches in their order, until at most `in_line` are still in the line.

        Return False if the replay was stopped while the ERP is unavailable.
        """
        while len(self._running) > in_line:
            batch, refused, running = self._running[0]
            results = await self._unless_stopped(running)
            if results is None:
                return False
            self._running.popleft()
            await self._recording  # of the batch before
            self._recording = asyncio.ensure_future(self._record(consumer, batch, refused + results))
            self._on_outcomes(refused + results)
        return True

    async def _record(self, consumer: Any, batch: Part, results: Sequence[ReplayResult]) -> None:
        self._audit.write_outcomes(group_outcomes(self._action.id, map(ReplayResult.ended, results)))
        await asyncio.to_thread(self._audit.confirm)
        await asyncio.to_thread(commit, consumer, self._settings, batch)
        self.report.add(results)

    async def _unless_stopped(self, running: asyncio.Future[list[ReplayResult]]) -> list[ReplayResult] | None:
        """Return the results; None if the replay is stopped while the ERP is unavailable.

        The ERP recognises documents that it has taken nevertheless.
        """
        stopping: asyncio.Future[Any] = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not running.done() and self._pipeline.retrying_sink.trouble is not None:
                running.cancel()
                await asyncio.wait({running})
            return None if running.cancelled() else await running
        finally:
            stopping.cancel()

    async def _cancel(self) -> None:
        for _, _, running in self._running:
            running.cancel()
        await asyncio.gather(self._recording, *(running for _, _, running in self._running), return_exceptions=True)


def _begin(settings: Settings, order: ReplayOrder, resume: str | None) -> tuple[list[DeadLetterHeader], AuditAction]:
    if resume is None:
        shelf, chosen = choose(settings, order)
        action = AuditAction(
            id=new_action_id(),
            what="replay",
            state="begun",
            by=order.by,
            at=datetime.now(UTC),
            filter=order.wanted.stated(),
            reason=order.reason,
            patch=order.patch.stated if order.patch is not None else None,
            options={name: getattr(order, name) for name in _KEPT},
            until=shelf.ends,
        )
        return chosen, action
    trail = read_audit(settings, of=resume)
    earlier = trail.actions.get(resume)
    if earlier is None or earlier.what != "replay":
        raise NoSuchReplay(f"there is no replay {resume}; `tillstream dlq audit` lists them")
    order.wanted = order.wanted.resumed(earlier.filter)
    order.patch = ValuePatch(json.dumps(earlier.patch)) if earlier.patch is not None else None
    limit = earlier.options.get("limit")
    order.limit = None if limit is None else max(0, int(limit) - len(trail.tried))
    order.rate = order.rate or earlier.options.get("rate")
    order.fixed, order.new_identity = bool(earlier.options.get("fixed")), bool(earlier.options.get("new_identity"))
    parked = settings.dead_letter_topic == settings.parked_topic
    for option, is_so, was_so in (
        ("--release", order.release, bool(earlier.options.get("release"))),
        ("--parked", parked, order.wanted.parked),
    ):
        if is_so != was_so:
            raise NoSuchReplay(f"replay {resume} was begun with{'out' * is_so} {option}; resume it so")
    # Later dead letters, including those of this very replay, are left out, and so are those it has tried.
    _, chosen = choose(settings, order, resumed=earlier)
    options = earlier.options | {"resumed_by": order.by}
    return chosen, earlier.model_copy(update={"state": "begun", "at": datetime.now(UTC), "options": options})


def _end(trail: AuditWriter, action: AuditAction, report: ReplayReport) -> None:
    state = "done" if report.drained else "stopped"
    trail.write(
        action.model_copy(update={"state": state, "at": datetime.now(UTC), "counts": dict(sorted(report.ends.items()))})
    )
    trail.confirm()


async def _prepare(
    settings: Settings, pipeline: ReplayPipeline, order: ReplayOrder, batch: Part, replay_id: str
) -> tuple[list[ReplayRecord], list[ReplayResult]]:
    """Return the batch's records for the line, patched, and the results of those that can't be run."""
    letters: list[ReplayRecord] = []
    refused: list[ReplayResult] = []
    for head, record in batch:
        again = ReplayRecord(head, record, record.value, replay_id)
        try:
            if head.truncated:
                again.value = await asyncio.to_thread(_whole, settings, again)
            if order.patch is not None:
                _patch(again, order.patch, pipeline, new_identity=order.new_identity)
        except PatchFailed as fault:
            refused.append(ReplayResult(again, "refused", str(fault)))
        else:
            letters.append(again)
    return letters, refused


def _patch(again: ReplayRecord, patch: ValuePatch, pipeline: ReplayPipeline, *, new_identity: bool) -> None:
    before = identity(again, pipeline.services.source)
    again.value = patch.applied(again.value)
    if not new_identity and not same_identity(before, identity(again, pipeline.services.source)):
        raise PatchFailed("changes_identity")


def _whole(settings: Settings, again: ReplayRecord) -> bytes:
    """Return the whole value of a truncated dead letter from its source topic. Raises PatchFailed."""
    stated = dict(again.letter.headers).get(OWN + "sha256") or b""
    origin = again.head.origin
    found = record_at(settings.kafka_access, origin.topic, origin.partition, origin.offset)
    if found is None or sha256(found.value or b"").hexdigest().encode() != stated:
        raise PatchFailed("truncated_and_gone")
    return found.value or b""


def _publisher(sender: ConfirmingProducer) -> Callable[[str, Sequence[DeadLetterRecord]], Any]:
    async def publish(topic: str, letters: Sequence[DeadLetterRecord]) -> None:
        for letter in letters:
            sender.send(topic, letter.key, letter.value, letter.headers)
        await asyncio.to_thread(sender.confirm)

    return publish


class _RateLimit:
    """Limits the rate to `rate` dead letters a second."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._next = time.monotonic()

    async def keep(self, letters: int, stop: asyncio.Event) -> None:
        """Wait until the next dead letters may go."""
        if self._rate is None:
            return
        self._next = max(self._next, time.monotonic() - 1.0) + letters / self._rate
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), max(0.0, self._next - time.monotonic()))
