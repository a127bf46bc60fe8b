"""Automatic retries of dead letters that may succeed later: refunds that wait for their sale, and the reasons named in
the settings.

The dead-letter topic is the waiting list: records that fail again go back there with one attempt more, so no other
state is needed. The workers share its partitions by a consumer group of their own. Manual resolutions
are known from the audit log.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, NamedTuple

import structlog

from streams.dead_letters.audit import AuditTail, AuditWriter, ResolutionIndex, group_outcomes
from streams.dead_letters.header import DeadLetterHeader, parse_header
from streams.dead_letters.reprocess import ReplayRecord, ReplayResult, RequeueOrPark, reprocess
from streams.kafka.errors import BrokerUnreachable, TopicsUnusable, kafka_errors
from streams.kafka.reader import (
    TopicRecord,
    close_quietly,
    commit_offsets,
    create_consumer,
    pause_partitions,
    read_next,
)
from streams.kafka.topics import ensure_dead_letter_topics
from streams.metrics import WorkerMetrics
from streams.pipeline import Services
from streams.settings import Settings
from streams.sink_retry import BackOff

ACTION = "worker"
#: Letters of one partition that may wait at once, and their bytes; while there are more, no further ones are read.
MOST_WAITING = 50_000
MOST_BYTES = 2**26
#: The group waits for a member whose sink is away, as it does for a worker.
_AS_MEMBER = {"enable.partition.eof": False, "max.poll.interval.ms": 86_400_000}


class RetrySchedule(NamedTuple):
    """The first pause, which then doubles, and how old a letter is tried at most.

    `last`: one whose time was over while nobody looked is tried once more, as something depends on it.
    """

    first: timedelta
    most: timedelta
    last: bool = False


#: How patiently letters of a reason are tried; None: not at all.
PatienceOf = Callable[[str], RetrySchedule | None]


def due(head: DeadLetterHeader, patience: RetrySchedule | None, now: datetime) -> datetime | None:
    """When the letter is to be tried again; None: not any more."""
    if patience is None or (head.first_failed + patience.most < now and not patience.last):
        return None
    age = head.last_failed - head.first_failed
    if age >= patience.most:
        return None
    return min(head.last_failed + max(patience.first, age), head.first_failed + patience.most)


@dataclass(slots=True)
class WaitingRecord:
    """A letter, and when its time comes."""

    head: DeadLetterHeader
    record: TopicRecord
    due: datetime


class WaitingList:
    """The letters of this worker's partitions that wait, and how far each partition has been dealt with."""

    def __init__(self, patience_of: PatienceOf) -> None:
        self._patience_of = patience_of
        self._waiting: dict[int, dict[int, WaitingRecord]] = {}
        self._read: dict[int, int] = {}

    def take_in(self, records: Iterable[TopicRecord], topic: str, now: datetime) -> None:
        """Keep those that are to be tried again."""
        for record in records:
            self._read[record.partition] = record.offset + 1
            head = parse_header(record, topic)
            when = due(head, self._patience_of(head.reason), now)
            if when is not None and not head.truncated:
                self._waiting.setdefault(record.partition, {})[record.offset] = WaitingRecord(head, record, when)

    def ripe(self, now: datetime, most: int) -> list[WaitingRecord]:
        """Return the due dead letters in order, up to a limit."""
        found = [one for part in self._waiting.values() for one in part.values() if one.due <= now]
        return sorted(found, key=lambda one: (one.head.partition, one.head.offset))[:most]

    def done(self, letters: Sequence[WaitingRecord]) -> None:
        """They wait no more."""
        for one in letters:
            self._waiting.get(one.head.partition, {}).pop(one.head.offset, None)

    def forget(self, partitions: Iterable[int]) -> None:
        """Forget partitions that went to another worker."""
        for number in partitions:
            self._waiting.pop(number, None)
            self._read.pop(number, None)

    def places(self) -> dict[int, int]:
        """Of each partition the first offset that is not dealt with: where to begin after a restart."""
        return {number: min(self._waiting.get(number) or [read]) for number, read in self._read.items()}

    def full(self) -> set[int]:
        """Return the partitions that must not be read further for now."""
        return {
            number
            for number, part in self._waiting.items()
            if len(part) >= MOST_WAITING or sum(len(one.record.value or b"") for one in part.values()) >= MOST_BYTES
        }

    def by_reason(self) -> dict[str, int]:
        """How many wait, by the reason that they failed for."""
        return Counter(one.head.reason for part in self._waiting.values() for one in part.values())

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))


class DeadLetterRetrier:
    """Runs next to the line, as long as the worker does."""

    def __init__(
        self,
        settings: Settings,
        to: Services,
        back: RequeueOrPark,
        patience_of: PatienceOf,
        metrics: WorkerMetrics,
        now: Callable[[], datetime],
        waits_for: Callable[[], str | None] = lambda: None,
        warn: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._waits_for = waits_for
        self._warn = warn
        self._attempt = 0
        self._to = to
        self._back = back
        self._list = WaitingList(patience_of)
        self._metrics = metrics
        self._now = now
        self._ledger = ResolutionIndex()
        self._log = structlog.get_logger("tillstream.retries")

    async def run(self) -> None:
        """Until it is cancelled. A broker that is away, or a missing topic, is waited out: the line goes on."""
        back_off = BackOff(1.0, 60.0)
        while True:
            try:
                with kafka_errors(f"reading {self._settings.dead_letter_topic} at {self._settings.broker}"):
                    await self._work()
            except (BrokerUnreachable, TopicsUnusable) as error:
                self._attempt += 1
                self._warn(f"dead letters are not tried again: {error}")
                self._log.error("dead letters are not tried again", error=str(error), attempt=self._attempt)
                await asyncio.sleep(back_off.wait(self._attempt))

    async def _work(self) -> None:
        topic = self._settings.dead_letter_topic
        settings = self._settings
        topics = await asyncio.to_thread(ensure_dead_letter_topics, settings.kafka_access, settings.topic_plan)
        partitions = topics[settings.audit_topic]
        group = f"{self._settings.group}-retries"
        session = int(self._settings.session_seconds * 1000)  # as long as the worker's own
        letters = create_consumer(
            self._settings.kafka_access, **_AS_MEMBER, **{"group.id": group, "session.timeout.ms": session}
        )
        follower = AuditTail(self._settings, partitions, self._ledger)
        writer = AuditWriter(self._settings)
        paused: set[int] = set()
        self._list.forget(list(self._list.places()))
        try:
            letters.subscribe([topic], on_revoke=self._revoked, on_lost=self._revoked)
            while True:
                await asyncio.to_thread(follower.read)
                records = await asyncio.to_thread(read_next, letters, self._settings.slice_records)
                self._list.take_in(records, topic, self._now())
                if self._waits_for() is None:  # or records resolved in the meantime would be booked as well
                    await self._try_again(writer)
                self._metrics.note_waiting(self._list.by_reason())
                self._attempt = 0
                self._warn(None)
                await asyncio.to_thread(commit_offsets, letters, topic, self._list.places(), ignore_moved=True)
                paused = pause_partitions(letters, topic, paused, self._list.full())
        finally:
            await asyncio.shield(asyncio.to_thread(close_quietly, letters, follower))

    def _revoked(self, _: Any, partitions: Sequence[Any]) -> None:
        self._list.forget(place.partition for place in partitions)

    async def _try_again(self, writer: AuditWriter) -> None:
        ripe = self._list.ripe(self._now(), self._settings.slice_records)
        if not ripe:
            return
        newest: dict[object, WaitingRecord] = {}
        for one in ripe:
            if self._ledger.last_outcome(one.head) is None:  # not by hand meanwhile, nor before a restart
                known = newest.setdefault(one.head.origin, one)
                if one.head.supersedes(known.head):
                    newest[one.head.origin] = one
        tried = [ReplayRecord(one.head, one.record, one.record.value) for one in newest.values()]
        redone = await reprocess(tried, self._to, self._settings.slice_records, self._back)
        outcomes = list(group_outcomes(ACTION, map(ReplayResult.ended, redone)))
        writer.write_outcomes(outcomes)
        await asyncio.to_thread(writer.confirm)
        for outcome in chain.from_iterable(each.outcomes() for each in outcomes):
            self._ledger.note(outcome)
        self._list.done(ripe)
        self._tell(redone)

    def _tell(self, redone: Sequence[ReplayResult]) -> None:
        for each in redone:
            self._metrics.retried.labels(each.end).inc()
        healed = sum(each.end not in ("failed", "parked") for each in redone)
        if redone:
            self._log.info("dead letters tried again", letters=len(redone), healed=healed, waiting=len(self._list))
