"""Whole polls through Faust: the records of one partition travel as one event, a slice.

Per event Faust makes tasks, waits on futures, takes a lock and hops a queue; per slice that cost vanishes. Some
methods of Faust's consumer are overridden for that, and everything that rests on its inner workings is in this file
(`tests/unit/worker/test_faust_contract.py` fails loudly when a new Faust changes them):

- `_getmany` makes slices of what a poll brought for the source topic, and leaves out partitions that have enough to do,
  and all of them during a rebalance;
- `_to_message` turns a slice into one message, with the offset of its last record;
- `ConsumerThread` reads committed records only: Faust does so in its own transactions alone, and then a till's aborted
  transaction would be sold; its fetches do not wait long; and it reads records with any header names (`anynames`);
- `ack`, `_new_offset`, `_add_gap`: which offset may be committed. Faust takes the offsets inside a slice for a gap,
  so we keep our own book: the slices of a partition in the order they were delivered. A commit goes up to the end of
  the leading slices that the agent has settled, never past one that is missing, whatever became of it. A book begins
  at a committed offset: it is dropped when the partition is revoked, begun anew with the first slice that was polled
  after a seek, and has no place for one that was polled before.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any, cast

import faust
import structlog
from aiokafka.consumer import fetcher
from aiokafka.errors import IllegalStateError, InvalidTimestampError, KafkaError
from aiokafka.structs import ConsumerRecord
from faust.tables.manager import TableManager
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage, Message

from streams.batch import Batch
from streams.worker.broker_clock import ClockWatch
from streams.worker.header_names import LenientMemoryRecords

#: Seconds between two looks at whether partitions that were left out may be polled again.
SHORT_POLL = 0.01
#: Seconds that a poll waits for records at most. A seek waits for the poll that is under way.
POLL = 0.25
#: Seconds between two tries to seek.
SEEK_AGAIN = 1.0
#: Milliseconds that a broker may keep a fetch waiting for records. A partition with records still in the fetcher is not
#: in the fetch that goes out meanwhile, and a broker has one fetch at a time: what is new waits until it is back.
FETCH_WAIT = 100


class Slice(Batch):
    """A batch on its way through Faust. The agent sets `settled` when every record has come to its end.

    `reading` is the number of seeks before it was polled.
    """

    def __init__(self, tp: TP, records: list[ConsumerRecord], reading: int = 0) -> None:
        super().__init__(tp.topic, tp.partition, records)
        self.tp = tp
        self.reading = reading
        self.next_offset: int = records[-1].offset + 1
        self.settled = False


class PassThrough(faust.Schema[Any, Any]):
    """Keys and values as they are: slices for the source topic, which the line decodes itself."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        """The key, untouched."""
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        """The value, untouched."""
        return message.value


class LineApp(faust.App):
    """A Faust app that leaves no folders behind: its tables are in memory."""

    def _create_directories(self) -> None:
        pass


class EagerTables(TableManager):
    """Faust's tables, without the second it waits at the start for some that are declared late: ours are there."""

    async def on_start(self) -> None:
        """Makes their topics known, so that the consumer can subscribe."""
        await self._update_channels()
        await self.recovery.start()


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread, reading what is committed: nothing of aborted transactions, nothing of open ones."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        fetcher.MemoryRecords = LenientMemoryRecords  # it can't be told in any other way
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = FETCH_WAIT  # Faust says 1500, and lets nobody change it
        return consumer

    def highwater(self, tp: TP) -> int:
        """Where the committed records of the partition end."""
        return cast(int, self._ensure_consumer().last_stable_offset(tp))

    def read_to(self, tp: TP) -> int:
        """The next offset to read: beyond the markers of transactions, which are no records."""
        state = self._ensure_consumer()._subscription.subscription.assignment.state_value(tp)
        return state.position if state is not None and state.has_valid_position else 0


class SliceConsumer(driver.Consumer):
    """Faust's consumer, with slices for the source topic."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._delivered: dict[TP, deque[Slice]] = defaultdict(deque)
        self._settled_to: dict[TP, int] = {}
        self._reading = 0  # counts the seeks: what is polled between two of them is one reading
        self._reading_of: dict[TP, int] = {}  # the reading that a partition's book is of
        self._must_seek = False  # whether positions may be past records that were passed on to nobody
        self._position = asyncio.Lock()  # held by who moves the positions of partitions: a poll, or a seek
        self._skipped = 0
        self.ends: dict[int, int] = {}
        super().__init__(*args, **kwargs)
        self._slicing = cast(SliceTransport, self.transport)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        """What a poll brought, source records in slices.

        A partition that has a slice waiting behind the one at work is left out, without holding up the others: what
        comes for it meanwhile becomes one slice. Such a poll is short, to take the partition in again soon. (Faust's
        queues would do it too, but look once a second: one busy partition among idle ones waited 0.8 s for nothing.)

        All are left out until a rebalance is over. Faust unpauses the source partitions, seeks them to their committed
        offsets and only then empties the agents' queues: what is delivered in between is lost until the next restart.
        What a poll brings that began before the rebalance is dropped, to be read again after the seek. So no poll may
        be under way during a seek, or what it reads after it would be dropped for good; and should no seek follow what
        was dropped, it comes before the next poll.
        """
        active = set(active_partitions or ())  # Faust changes its own meanwhile, and no partitions would mean all
        if self._must_seek and not self.app.rebalancing and not await self._sought():
            return {}
        async with self._position:
            wanted = {tp for tp in active if tp.topic != self._slicing.source or self._takes_more(tp)}
            if not wanted:
                await self.sleep(SHORT_POLL)
                return {}
            polled = await super()._getmany(wanted, min(timeout, POLL) if wanted == active else SHORT_POLL)
            brought: dict[Any, Any] = {}
            for tp, records in polled.items():
                if records and tp.topic != self._slicing.source:
                    brought[tp] = records
                elif records and self.app.rebalancing:
                    self._must_seek = True
                elif records:
                    brought[tp] = self._slices(TP(*tp), records)
            return brought

    def _takes_more(self, tp: TP) -> bool:
        if self.app.rebalancing:
            return False
        # Slices are settled in order, so when the last but one is settled, at most one is not.
        delivered = self._delivered.get(tp)
        anew = self._reading_of.get(tp) != self._reading
        return delivered is None or anew or len(delivered) < 2 or delivered[-2].settled

    def _slices(self, tp: TP, records: list[ConsumerRecord]) -> list[Slice]:
        return [Slice(tp, part, self._reading) for part in cut(records, self._slicing.slice_records)]

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        if not isinstance(record, Slice):
            return super()._to_message(tp, record)
        if record.reading == self._reading:
            self._begin_anew_if_read_again(record)
            self._note_skipped(record)
            self._delivered[record.tp].append(record)
        self._acked[record.tp]  # tells Faust that this partition may have something to commit
        last: Any = record.records[-1]
        return ConsumerMessage(
            last.topic,
            last.partition,
            last.offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            None,
            None,
            cast(Any, record),  # Faust says bytes; PassThrough lets anything through
            None,
            0,
            0,
            record.tp,
            generation_id=self.app.consumer_generation_id,
        )

    def ack(self, message: Message) -> bool:
        """A slice counts only when the agent settled it: Faust also acks what it skips."""
        if not isinstance(message.value, Slice):
            return super().ack(message)
        message.acked = True
        self._unacked_messages.discard(message)
        self._n_acked += message.value.settled
        return message.value.settled

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic != self._slicing.source:
            return super()._new_offset(tp)
        delivered = self._delivered[tp]
        while delivered and delivered[0].settled:
            self._settled_to[tp] = delivered.popleft().next_offset
        return self._settled_to.get(tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        if tp.topic != self._slicing.source:
            await super()._add_gap(tp, offset_from, offset_to)

    async def perform_seek(self) -> None:
        """Reads on from the committed offsets; a partition's book begins anew with the next records that come.

        Not before: slices in flight may still be settled and committed, as when a worker drains. Where nothing is
        committed yet aiokafka does not seek at all; what was read and held back meanwhile would be passed over.
        """
        async with self._position:
            self._must_seek = True  # until it is done: it may fail, or be cancelled by the next rebalance
            self._reading += 1
            await super().perform_seek()
            source = [tp for tp in self.assignment() if tp.topic == self._slicing.source]
            anew = [tp for tp in source if not self._committed_offset[tp]]
            if anew:
                await self._thread.seek_to_beginning(*map(driver.ensure_aiokafka_TP, anew))
            self._must_seek = False

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Faust's, for tables that are recovered, where there is something to seek.

        A rebalance in the middle of a recovery changes what Faust goes by under its hands: offsets are None, partitions
        have moved. Faust ends the worker with that; but recovery begins anew anyway, by the same rebalance.
        """
        there = self.assignment()
        known = {tp: offset for tp, offset in partitions.items() if offset is not None and tp in there}
        try:
            await super().seek_wait(known)
        except IllegalStateError:
            structlog.get_logger("tillstream.transport").info("partitions moved while their tables were recovered")

    async def _sought(self) -> bool:
        """Whether a seek that nobody else made could be made up for."""
        try:
            await self.perform_seek()
        except KafkaError as error:
            structlog.get_logger("tillstream.transport").warning(
                "no seek to the committed offsets yet, trying again", error=type(error).__name__
            )
            await self.sleep(SEEK_AGAIN)
            return False
        return True

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Gives slices in flight a moment to be settled, commits them, and lets go."""
        self.stop_flow()
        self.app.flow_control.suspend()
        self.app.flow_control.clear()
        await self._slicing.wait_idle()
        await self.commit()
        await super().on_partitions_revoked(revoked)
        self._drop_book()

    def _begin_anew_if_read_again(self, part: Slice) -> None:
        """Around a rebalance records come twice: fetched before the seek to the committed offset, and after it.

        Faust would drop the second coming, also where the first had skipped something. We drop the first one's book
        instead and let the second through: it begins at a committed offset, so nothing before it is open, and what
        it repeats is recognised as duplicates.
        """
        read = self._read_offset[part.tp]
        again = read is not None and part.records[0].offset <= read
        if again or self._reading_of.get(part.tp) != part.reading:
            self._reading_of[part.tp] = part.reading
            self._delivered.pop(part.tp, None)
            self._settled_to.pop(part.tp, None)
            self._read_offset[part.tp] = None

    def _note_skipped(self, part: Slice) -> None:
        """Counts the offsets without a record, from the last slice, or the committed offset, to the end of this one."""
        delivered = self._delivered[part.tp]
        before = delivered[-1].next_offset if delivered else self._settled_to.get(part.tp)
        begin = min(before or self._committed_offset[part.tp] or 0, part.records[0].offset)
        skipped = part.next_offset - begin - len(part.records)
        if skipped:
            self._skipped += skipped
            structlog.get_logger("tillstream.transport").debug(
                "offsets without records", partition=part.tp.partition, after=begin, before=part.next_offset, of=skipped
            )

    def take_skipped(self) -> int:
        """Offsets without a record since the last call: the broker's markers, and records that it has no more."""
        skipped, self._skipped = self._skipped, 0
        return skipped

    def _drop_book(self) -> None:
        self._delivered.clear()
        self._settled_to.clear()
        self._reading_of.clear()

    def lag(self) -> dict[int, int]:
        """Records that are not settled yet, per assigned source partition: up to where we know it to end."""
        lags = {}
        for tp in self.assignment():
            if tp.topic == self._slicing.source:
                position = self._settled_to.get(tp) or self._committed_offset[tp] or 0
                if all(part.settled for part in self._delivered[tp]):
                    position = max(position, cast(ConsumerThread, self._thread).read_to(tp))
                end = max(self.highwater(tp) or 0, self.ends.get(tp.partition, 0))
                lags[tp.partition] = max(0, end - position)
        return lags

    def oldest_unsettled(self) -> int | None:
        """Kafka timestamp (ms) of the oldest record that was delivered and is not settled."""
        firsts = (part.records[0].timestamp for parts in self._delivered.values() for part in parts if not part.settled)
        return min(firsts, default=None)


class ClockedProducer(driver.Producer):
    """Faust's producer, which reports to `ClockWatch` what the broker says about the time of records."""

    async def send(self, topic: str, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """As Faust's; the changelog and the dead letters both go through here."""
        watch = cast(SliceTransport, self.transport).clock_watch
        sent_at = watch.clock()
        answer = cast("asyncio.Future[Any]", await super().send(topic, *args, **kwargs))
        answer.add_done_callback(partial(_note_time, watch, topic, sent_at))
        return answer


def _note_time(watch: ClockWatch, topic: str, sent_at: float, answer: "asyncio.Future[Any]") -> None:
    if answer.cancelled():
        return
    error = answer.exception()
    if error is None:
        metadata = answer.result()
        watch.confirmed(topic, sent_at, metadata.timestamp / 1000 if metadata.timestamp_type == 1 else None)
    elif isinstance(error, InvalidTimestampError):
        watch.refused(topic)


class SliceTransport(driver.Transport):
    """Faust's transport with `SliceConsumer`. `wait_idle` returns when no agent is at work, or after a moment."""

    Consumer = SliceConsumer
    Producer = ClockedProducer

    def __init__(
        self,
        app: faust.App,
        source: str,
        slice_records: int,
        wait_idle: Callable[[], Awaitable[None]],
        clock_watch: ClockWatch,
    ) -> None:
        super().__init__(app.conf.broker, app, app.loop)
        self.source = source
        self.slice_records = slice_records
        self.wait_idle = wait_idle
        self.clock_watch = clock_watch


def forget_stopped(agent: Any) -> None:
    """Let go of actors whose partitions were revoked. Faust stops them, but keeps them with their streams for good."""
    supervisor = agent.supervisor
    for actor in [each for each in supervisor._services if each.should_stop]:
        supervisor.discard(actor)
        actor.beacon.detach(agent.beacon)
        actor.stream.beacon.detach(agent.beacon)
    supervisor._index = {actor: place for place, actor in enumerate(supervisor._services)}


def cut(records: list[ConsumerRecord], most: int) -> Iterator[list[ConsumerRecord]]:
    """`records` in parts of `most`, in order."""
    for start in range(0, len(records), most):
        yield records[start : start + most]
