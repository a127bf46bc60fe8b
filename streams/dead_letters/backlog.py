"""The number of open dead letters and the age of the oldest, exported by the worker that has the first partition.

It follows the dead-letter topic, and the audit log for resolved ones, slowly: the line comes first.
"""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime

import structlog

from streams.dead_letters.audit import AuditTail, ResolutionIndex
from streams.dead_letters.header import DeadLetterHeader, RecordOrigin, parse_header
from streams.kafka.errors import BrokerUnreachable, TopicsUnusable, kafka_errors
from streams.kafka.reader import TopicRecord, assign, close_quietly, create_consumer, offset_ranges, read_next
from streams.kafka.topics import partitions_of_topics
from streams.metrics import WorkerMetrics
from streams.settings import Settings
from streams.sink_retry import BackOff

#: Seconds between two looks when all was read, and while there is more.
EVERY, WHILE_BEHIND = 15.0, 0.25
#: Letters read at once, and open ones that are remembered, the first in the topic: 800 bytes each.
PIECE, MOST_OPEN = 1000, 50_000


class OpenDeadLetters:
    """The open dead letters, each record once. At most `most` of them are remembered."""

    def __init__(self, ledger: ResolutionIndex, topic: str, most: int = MOST_OPEN) -> None:
        self._ledger = ledger
        self._topic = topic
        self._most = most
        self._open: dict[RecordOrigin, DeadLetterHeader] = {}
        self.overflowed = False

    def take_in(self, records: Iterable[TopicRecord]) -> None:
        """Remembers those that are open."""
        for record in records:
            head = parse_header(record, self._topic)
            known = self._open.get(head.origin)
            if self._ledger.is_closed(head) or (known is not None and not head.supersedes(known)):
                continue
            if known is None and len(self._open) >= self._most:
                self.overflowed = True
            else:
                self._open[head.origin] = head

    def drop(self, begins: dict[int, int]) -> None:
        """Forget resolved dead letters, and those that have left the topic: `begins` are its partitions' first
        offsets."""
        self._open = {
            origin: head
            for origin, head in self._open.items()
            if head.offset >= begins.get(head.partition, 0) and not self._ledger.is_closed(head)
        }

    def oldest(self) -> datetime | None:
        """When the oldest of them failed first."""
        return min((head.first_failed for head in self._open.values()), default=None)

    def __len__(self) -> int:
        return len(self._open)


class BacklogMonitor:
    """Runs next to the line, as long as the worker does. `mine`: whether this worker reports the backlog."""

    def __init__(
        self,
        settings: Settings,
        metrics: WorkerMetrics,
        now: Callable[[], datetime],
        mine: Callable[[], bool],
        warn: Callable[[str | None], None],
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._now = now
        self._mine = mine
        self._warn = warn
        self._log = structlog.get_logger("tillstream.letters")

    async def run(self) -> None:
        """Until it is cancelled. A broker that is away, or a missing topic or right, is waited out."""
        back_off, attempt = BackOff(1.0, 60.0), 0
        while True:
            try:
                while self._mine():
                    with kafka_errors(f"reading {self._settings.dead_letter_topic} at {self._settings.broker}"):
                        await self._follow()
                    attempt = 0
                self._tell(0, None)
                self._warn(None)
                await asyncio.sleep(WHILE_BEHIND)
            except (BrokerUnreachable, TopicsUnusable) as error:
                attempt += 1
                self._warn(f"open dead letters are not counted: {error}")
                self._log.warning("open dead letters are not counted", error=str(error), attempt=attempt)
                await asyncio.sleep(back_off.wait(attempt))

    async def _follow(self) -> None:
        """Return when another worker reports the backlog, or when counting has to start again."""
        topic, audit = self._settings.dead_letter_topic, self._settings.audit_topic
        there = await asyncio.to_thread(partitions_of_topics, self._settings.kafka_access)
        if topic not in there:
            raise TopicsUnusable(f"the topic {topic} does not exist")
        ledger = ResolutionIndex()
        letters = OpenDeadLetters(ledger, topic)
        follower = AuditTail(self._settings, there[audit], ledger) if audit in there else None
        consumer = create_consumer(self._settings.kafka_access, **_LITTLE)
        assign(consumer, topic, range(there[topic]))
        begun, pause = self._now(), 0.0
        try:
            while self._mine() and not (letters.overflowed and len(letters) < MOST_OPEN // 2):
                await asyncio.sleep(pause)
                if follower is not None:
                    await asyncio.to_thread(follower.read)
                records = await asyncio.to_thread(read_next, consumer, PIECE, WHILE_BEHIND)
                letters.take_in(records)
                pause = WHILE_BEHIND if records else EVERY
                if not records:
                    found = await asyncio.to_thread(offset_ranges, consumer, topic, range(there[topic]))
                    letters.drop({number: low for number, (low, _) in found.items()})
                self._tell(len(letters), letters.oldest())
                self._warn(None)
                if follower is None and (self._now() - begun).total_seconds() > _LOOK_FOR_TRAIL:
                    return  # somebody may have begun to work on letters: then there is a trail
        finally:
            await asyncio.shield(asyncio.to_thread(close_quietly, consumer, follower))

    def _tell(self, number: int, oldest: datetime | None) -> None:
        age = (self._now() - oldest).total_seconds() if oldest is not None else 0.0
        self._metrics.letters_open.set(number)
        self._metrics.letters_oldest.set(max(0.0, age))


#: Reads ahead little: nothing waits for it.
_LITTLE = {"enable.partition.eof": False, "queued.max.messages.kbytes": 1024}
_LOOK_FOR_TRAIL = 300.0
