"""Dead letters through the line again: first as a rehearsal, then in earnest, resumably.

A replay has a consumer group of its own, which holds its progress. A letter is committed as read when the sink has its
document, or the broker its new letter, and the audit trail its outcome: a replay that is killed at any instruction and
resumed, or run twice, changes nothing more.
"""

import asyncio
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
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
    """There is no replay of that id to be resumed; the message says what to do."""


@dataclass
class ReplayOrder:
    """What is to be replayed, and how. `rate` in letters a second; `fixed`: only those that would pass now.

    `release` is noted only: the desk books what the rules would hold.
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
    """What became of the letters, or would: by end, and by end and reason. `drained`: none is left undone."""

    id: str = ""
    letters: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    drained: bool = True
    rehearsed: list[ReplayResult] = field(default_factory=list)

    def note(self, redone: Sequence[ReplayResult]) -> None:
        """Counts outcomes."""
        self.ends.update(each.end for each in redone)
        self.reasons.update((each.end, each.reason) for each in redone if each.reason)


#: What of an order the audit trail keeps, beside its filter and patch.
_KEPT = ("limit", "fixed", "new_identity", "release", "rate")
#: Slices that a part has: of several source partitions, which go through the line side by side.
_SIDE_BY_SIDE = 5
Told = Callable[[Sequence[ReplayResult]], None]


def choose(
    settings: Settings, order: ReplayOrder, progress: Progress = lambda _: None, resumed: AuditAction | None = None
) -> tuple[DeadLetterListing, list[DeadLetterHeader]]:
    """The open letters that the order means, the oldest failures first where it is limited.

    `resumed`: those that this replay has begun with and not tried yet.
    """
    shelf = list_dead_letters(settings, order.wanted, progress, of=resumed.id if resumed is not None else None)
    chosen = shelf.open
    if resumed is not None:
        tried = shelf.trail.tried
        chosen = [h for h in chosen if h.offset < resumed.until.get(h.partition, 0)]
        chosen = [h for h in chosen if (h.partition, h.offset) not in tried]
    if order.limit is not None and not order.fixed:  # then it is what passes that is limited
        chosen = sorted(chosen, key=lambda head: (head.last_failed, head.partition, head.offset))[: order.limit]
    return shelf, chosen


async def rehearse(
    settings: Settings,
    desk: ReplayPipeline,
    order: ReplayOrder,
    chosen: Sequence[DeadLetterHeader],
    told: Told,
    keep: int = 20,
) -> ReplayReport:
    """What a replay would do, by today's contract, mapping, rules and ERP. Nothing is changed.

    The first `keep` outcomes are kept with their documents.
    """
    report = ReplayReport(letters=len(chosen))
    to, _ = for_dry_run(desk.services, desk.retrying_sink)
    most = settings.slice_records
    async with fetch_selected(settings, chosen, _SIDE_BY_SIDE * most) as (_, parts):
        async for part in parts:
            letters, refused = await _prepared(settings, desk, order, part, "")
            redone = refused + await reprocess(letters, to, most)
            report.note(redone)
            told(redone)
            report.rehearsed += redone[: max(0, keep - len(report.rehearsed))]
    return report


async def replay(
    settings: Settings,
    desk: ReplayPipeline,
    order: ReplayOrder,
    stop: asyncio.Event,
    told: Told,
    resume: str | None = None,
) -> ReplayReport:
    """Replays what the order means. Stops between two parts once `stop` is set.

    With `resume` the order is that of the replay of this id; its letters that are done are not taken again. Raises
    NoSuchReplay, TopicsUnusable and BrokerUnreachable.
    """
    partitions = (await asyncio.to_thread(ensure_dead_letter_topics, settings.kafka_access, settings.topic_plan))[
        settings.audit_topic
    ]
    chosen, action = await asyncio.to_thread(_begin, settings, order, resume)
    report = ReplayReport(id=action.id, letters=len(chosen))
    trail, sender = AuditWriter(settings), ConfirmingProducer(settings.kafka_access, settings.max_record_bytes)
    trail.write(action)
    await asyncio.to_thread(trail.confirm)
    back = RequeueOrPark(
        _publisher(sender), settings.dead_letter_topic, settings.parked_topic, settings.most_attempts, desk.services.now
    )
    to = for_reprocessing(desk.services, back, ReplayedDigests())
    rehearsal, _ = for_dry_run(desk.services, desk.retrying_sink)
    follower = AuditTail(settings, partitions, ledger := ResolutionIndex(), exclude=action.id)
    pace = _RateLimit(order.rate)
    left = order.limit
    most = settings.slice_records
    size = _SIDE_BY_SIDE * most if order.rate is None else max(1, min(most, int(order.rate)))

    lanes = PartitionLocks()

    async def through(letters: Sequence[ReplayRecord]) -> list[ReplayResult]:
        nonlocal left
        if order.fixed:
            passing = {
                each.again.head.location for each in await reprocess(letters, rehearsal, most) if each.end in PASSED
            }
            letters = [again for again in letters if again.head.location in passing][:left]
            left = left if left is None else left - len(letters)
        return await reprocess(letters, to, most, back, lanes)

    async def still_open(part: Part) -> Part:
        """Without what somebody has dealt with since the replay began."""
        await asyncio.to_thread(follower.read)
        return [(head, record) for head, record in part if not ledger.is_closed(head)]

    async def settle(consumer: Any, part: Part, redone: Sequence[ReplayResult]) -> None:
        trail.write_outcomes(group_outcomes(action.id, map(ReplayResult.ended, redone)))
        await asyncio.to_thread(trail.confirm)
        await asyncio.to_thread(commit, consumer, settings, part)
        report.note(redone)

    settling: asyncio.Future[None] = asyncio.ensure_future(asyncio.sleep(0))
    going: deque[tuple[Part, list[ReplayResult], asyncio.Future[list[ReplayResult]]]] = deque()
    ahead = 0 if order.fixed else 1  # what passes is known when what comes before it is done

    async def finish(consumer: Any, left_going: int) -> bool:
        """Parts in their order, until so many are still in the line. False if it was to stop while the ERP is away."""
        nonlocal settling
        while len(going) > left_going:
            part, refused, trying = going[0]
            if (redone := await _unless_stopped(trying, stop, desk)) is None:
                return False
            going.popleft()
            await settling  # the part before: done while this one went through the line
            settling = asyncio.ensure_future(settle(consumer, part, refused + redone))
            told(refused + redone)
        return True

    report.drained, ended = False, False
    try:
        async with fetch_selected(settings, chosen, size, f"tillstream-replay-{action.id}") as (consumer, parts):
            try:
                async for part in parts:
                    if stop.is_set():
                        break
                    letters, refused = await _prepared(settings, desk, order, await still_open(part), action.id)
                    going.append((part, refused, asyncio.ensure_future(through(letters))))
                    if not await finish(consumer, ahead):
                        break
                    await pace.keep(len(part), stop)
                else:
                    ended = True
                ended = await finish(consumer, 0) and ended
            finally:
                for _, _, trying in going:
                    trying.cancel()
                await asyncio.gather(settling, *(trying for _, _, trying in going), return_exceptions=True)
            await settling
            report.drained = ended
    finally:
        follower.close()
        await asyncio.to_thread(_end, trail, action, report)
    return report


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
    # What came afterwards, the new letters of this very replay among it, is not meant; nor what it has tried.
    _, chosen = choose(settings, order, resumed=earlier)
    options = earlier.options | {"resumed_by": order.by}
    return chosen, earlier.model_copy(update={"state": "begun", "at": datetime.now(UTC), "options": options})


def _end(trail: AuditWriter, action: AuditAction, report: ReplayReport) -> None:
    state = "done" if report.drained else "stopped"
    trail.write(
        action.model_copy(update={"state": state, "at": datetime.now(UTC), "counts": dict(sorted(report.ends.items()))})
    )
    trail.confirm()


async def _unless_stopped(
    trying: asyncio.Future[list[ReplayResult]], stop: asyncio.Event, desk: ReplayPipeline
) -> list[ReplayResult] | None:
    """The outcomes; None when it is to stop while the ERP is away: what the ERP may have taken, it recognises."""
    stopping: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([trying, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not trying.done() and desk.retrying_sink.trouble is not None:
            trying.cancel()
            await asyncio.wait({trying})
        return None if trying.cancelled() else await trying
    finally:
        stopping.cancel()


async def _prepared(
    settings: Settings, desk: ReplayPipeline, order: ReplayOrder, part: Part, replay_id: str
) -> tuple[list[ReplayRecord], list[ReplayResult]]:
    """Those of a part that can go through the line, mended; and what became of those that can't."""
    letters: list[ReplayRecord] = []
    refused: list[ReplayResult] = []
    for head, record in part:
        again = ReplayRecord(head, record, record.value, replay_id)
        try:
            if head.truncated:
                again.value = await asyncio.to_thread(_whole, settings, again)
            if order.patch is not None:
                _mend(again, order.patch, desk, new_identity=order.new_identity)
        except PatchFailed as fault:
            refused.append(ReplayResult(again, "refused", str(fault)))
        else:
            letters.append(again)
    return letters, refused


def _mend(again: ReplayRecord, patch: ValuePatch, desk: ReplayPipeline, *, new_identity: bool) -> None:
    before = identity(again, desk.services.source)
    again.value = patch.applied(again.value)
    if not new_identity and not same_identity(before, identity(again, desk.services.source)):
        raise PatchFailed("changes_identity")


def _whole(settings: Settings, again: ReplayRecord) -> bytes:
    """The value of a truncated letter, from where it came. Raises Unpatchable."""
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
    """At most `rate` letters a second."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._next = time.monotonic()

    async def keep(self, letters: int, stop: asyncio.Event) -> None:
        """Waits until the next letters may go."""
        if self._rate is None:
            return
        self._next = max(self._next, time.monotonic() - 1.0) + letters / self._rate
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), max(0.0, self._next - time.monotonic()))
