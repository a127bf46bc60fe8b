"""Passes whole polls through Faust: the records of one partition travel as one event, a slice.

For each event Faust makes tasks, waits on futures, takes a lock and goes through a queue; per slice that cost vanishes.
This needs overrides of some methods of Faust's consumer, and everything that depends on Faust's internals is in this
file (`tests/unit/worker/test_faust_contract.py` fails loudly when a new Faust changes them):

- `_getmany` makes slices of the records that a poll returned for the source topic. It leaves out partitions that have
  enough work, and all of them during a rebalance.
- `_to_message` turns a slice into one message, with the offset of its last record.
- `ConsumerThread` reads committed records only. Faust does so only in its own transactions, and without it the sales of
  a till's aborted transaction would be booked. Its fetches don't wait long, and it reads records with any header names
  (`header_names`).
- `ack`, `_new_offset` and `_add_gap` decide which offset may be committed. Faust takes the offsets inside a slice for a
  gap, so the consumer keeps its own delivery log: the slices of a partition in the order they were delivered. A commit
  goes up to the end of the leading slices that the agent has settled, never past a missing one, whatever happened to
  it. The log starts at a committed offset: it is dropped when the partition is revoked, starts over with the first
  slice polled after a seek, and never takes a slice polled before.
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

#: Seconds until the partitions that a poll left out are considered again.
SHORT_POLL = 0.01
#: Seconds that a poll waits for records at most. A seek waits until the current poll is over.
POLL = 0.25
#: Seconds between two attempts to seek.
SEEK_RETRY_INTERVAL = 1.0
#: Milliseconds that a broker may keep a fetch waiting for records. Each broker serves one fetch at a time, and a
#: partition with records still in the fetcher is left out of it: its new records wait until that fetch returns.
FETCH_WAIT = 100


class Slice(Batch):
    """A batch on its way through Faust. The agent sets `settled` when every record has its outcome.

    `reading` is the number of seeks before it was polled.
    """

    def __init__(self, tp: TP, records: list[ConsumerRecord], reading: int = 0) -> None:
        super().__init__(tp.topic, tp.partition, records)
        self.tp = tp
        self.reading = reading
        self.next_offset: int = records[-1].offset + 1
        self.settled = False


class PassThrough(faust.Schema[Any, Any]):
    """Passes keys and values through unchanged: the line itself decodes the slices of the source topic."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        """Return the key unchanged."""
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        """Return the value unchanged."""
        return message.value


class LineApp(faust.App):
    """A Faust app that creates no folders: its tables are in memory."""

    def _create_directories(self) -> None:
        pass


class EagerTables(TableManager):
    """Faust's tables, without the second that Faust waits at start for tables declared late."""

    async def on_start(self) -> None:
        """Register the tables' topics, so that the consumer can subscribe."""
        await self._update_channels()
        await self.recovery.start()


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread, reading committed records only: none of aborted or open transactions."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        fetcher.MemoryRecords = LenientMemoryRecords  # there is no setting for it
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = FETCH_WAIT  # Faust sets 1500 and has no setting for it
        return consumer

    def highwater(self, tp: TP) -> int:
        """Return the offset behind the partition's last committed record."""
        return cast(int, self._ensure_consumer().last_stable_offset(tp))

    def next_offset(self, tp: TP) -> int:
        """Return the next offset to read, past transaction markers, which aren't records."""
        state = self._ensure_consumer()._subscription.subscription.assignment.state_value(tp)
        return state.position if state is not None and state.has_valid_position else 0


class SliceConsumer(driver.Consumer):
    """Faust's consumer, which delivers the source topic in slices."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._delivered: dict[TP, deque[Slice]] = defaultdict(deque)
        self._settled_to: dict[TP, int] = {}
        self._reading = 0  # counts the seeks: the polls between two seeks are one reading
        self._reading_of: dict[TP, int] = {}  # the reading that a partition's delivery log belongs to
        self._must_seek = False  # positions may be past records that nobody received
        self._position = asyncio.Lock()  # held while positions move: by a poll or a seek
        self._skipped = 0
        self.ends: dict[int, int] = {}
        super().__init__(*args, **kwargs)
        self._slicing = cast(SliceTransport, self.transport)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        """Poll, and return the source topic's records in slices.

        A partition that has a slice waiting behind the one at work is left out, without holding up the others; the
        records that arrive for it in the meantime become one slice. Such a poll is short, so that the partition is
        polled again soon. (Faust's queues would do the same, but check once a second: one busy partition among idle
        ones waited 0.8 s for nothing.)

        All partitions are left out until a rebalance is over. Faust unpauses the source partitions, seeks them to their
        committed offsets and only then empties the agents' queues: records delivered in between would be lost until the
        next restart. Records of a poll that started before the rebalance are dropped and read again after the seek. So
        no poll may run during a seek, or the records it reads after the seek would be dropped for good; and if no seek
        follows a drop, one is made before the next poll.
        """
        active = set(active_partitions or ())  # a copy: Faust changes its own set, and an empty set would mean all
        if self._must_seek and not self.app.rebalancing and not await self._retry_seek():
            return {}
        async with self._position:
            wanted = {tp for tp in active if tp.topic != self._slicing.source or self._takes_more(tp)}
            if not wanted:
                await self.sleep(SHORT_POLL)
                return {}
            polled = await super()._getmany(wanted, min(timeout, POLL) if wanted == active else SHORT_POLL)
            result: dict[Any, Any] = {}
            for tp, records in polled.items():
                if records and tp.topic != self._slicing.source:
                    result[tp] = records
                elif records and self.app.rebalancing:
                    self._must_seek = True
                elif records:
                    result[tp] = self._slices(TP(*tp), records)
            return result

    def _takes_more(self, tp: TP) -> bool:
        if self.app.rebalancing:
            return False
        # Slices are settled in order: if the last but one is settled, at most one is open.
        delivered = self._delivered.get(tp)
        starts_over = self._reading_of.get(tp) != self._reading
        return delivered is None or starts_over or len(delivered) < 2 or delivered[-2].settled

    def _slices(self, tp: TP, records: list[ConsumerRecord]) -> list[Slice]:
        return [Slice(tp, part, self._reading) for part in cut(records, self._slicing.slice_records)]

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        if not isinstance(record, Slice):
            return super()._to_message(tp, record)
        if record.reading == self._reading:
            self._start_over_if_repeated(record)
            self._note_skipped(record)
            self._delivered[record.tp].append(record)
        self._acked[record.tp]  # so that Faust considers this partition at the next commit
        last: Any = record.records[-1]
        return ConsumerMessage(
            last.topic,
            last.partition,
            last.offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            None,
            None,
            cast(Any, record),  # typed as bytes by Faust; PassThrough takes anything
            None,
            0,
            0,
            record.tp,
            generation_id=self.app.consumer_generation_id,
        )

    def ack(self, message: Message) -> bool:
        """Count a slice only when the agent has settled it: Faust also acks messages that it skips."""
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
        """Seek to the committed offsets; a partition's delivery log starts over with the next records that arrive.

        Not earlier: slices in flight may still be settled and committed, as when a worker drains. Where nothing is
        committed yet aiokafka does not seek at all, and records read and held back in the meantime would be skipped.
        """
        async with self._position:
            self._must_seek = True  # until the seek has succeeded: it may fail, or the next rebalance may cancel it
            self._reading += 1
            await super().perform_seek()
            source = [tp for tp in self.assignment() if tp.topic == self._slicing.source]
            uncommitted = [tp for tp in source if not self._committed_offset[tp]]
            if uncommitted:
                await self._thread.seek_to_beginning(*map(driver.ensure_aiokafka_TP, uncommitted))
            self._must_seek = False

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Seek the partitions of tables in recovery, leaving out those that have moved.

        A rebalance in the middle of a recovery changes the data that Faust works on: offsets become None, partitions
        move. Faust would end the worker because of that, but the same rebalance restarts the recovery anyway.
        """
        assigned = self.assignment()
        known = {tp: offset for tp, offset in partitions.items() if offset is not None and tp in assigned}
        try:
            await super().seek_wait(known)
        except IllegalStateError:
            structlog.get_logger("tillstream.transport").info("partitions moved while their tables were recovered")

    async def _retry_seek(self) -> bool:
        """Make the seek that is still due. Return False if it failed."""
        try:
            await self.perform_seek()
        except KafkaError as error:
            structlog.get_logger("tillstream.transport").warning(
                "could not seek to the committed offsets yet, trying again", error=type(error).__name__
            )
            await self.sleep(SEEK_RETRY_INTERVAL)
            return False
        return True

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Wait briefly until slices in flight are settled, commit them, and give the partitions up."""
        self.stop_flow()
        self.app.flow_control.suspend()
        self.app.flow_control.clear()
        await self._slicing.wait_idle()
        await self.commit()
        await super().on_partitions_revoked(revoked)
        self._drop_log()

    def _start_over_if_repeated(self, part: Slice) -> None:
        """Start the partition's delivery log over if this slice repeats records, or is the first after a seek.

        Around a rebalance records come twice: fetched before the seek to the committed offset, and after it. Faust
        would drop the second copy, even where the first had skipped something. Instead the log of the first is dropped
        and the second is let through: it starts at a committed offset, so nothing before it is open, and the line
        recognises the repeated records as duplicates.
        """
        read = self._read_offset[part.tp]
        repeated = read is not None and part.records[0].offset <= read
        if repeated or self._reading_of.get(part.tp) != part.reading:
            self._reading_of[part.tp] = part.reading
            self._delivered.pop(part.tp, None)
            self._settled_to.pop(part.tp, None)
            self._read_offset[part.tp] = None

    def _note_skipped(self, part: Slice) -> None:
        """Count the offsets without a record from the last slice, or the committed offset, to the end of this one."""
        delivered = self._delivered[part.tp]
        before = delivered[-1].next_offset if delivered else self._settled_to.get(part.tp)
        start = min(before or self._committed_offset[part.tp] or 0, part.records[0].offset)
        skipped = part.next_offset - start - len(part.records)
        if skipped:
            self._skipped += skipped
            structlog.get_logger("tillstream.transport").debug(
                "offsets without records", partition=part.tp.partition, after=start, before=part.next_offset, of=skipped
            )

    def take_skipped(self) -> int:
        """Return the number of offsets without a record since the last call: markers, and records that are gone."""
        skipped, self._skipped = self._skipped, 0
        return skipped

    def _drop_log(self) -> None:
        self._delivered.clear()
        self._settled_to.clear()
        self._reading_of.clear()

    def lag(self) -> dict[int, int]:
        """Return the number of records not settled yet for each assigned source partition, up to its last known end."""
        lags = {}
        for tp in self.assignment():
            if tp.topic == self._slicing.source:
                position = self._settled_to.get(tp) or self._committed_offset[tp] or 0
                if all(part.settled for part in self._delivered[tp]):
                    position = max(position, cast(ConsumerThread, self._thread).next_offset(tp))
                end = max(self.highwater(tp) or 0, self.ends.get(tp.partition, 0))
                lags[tp.partition] = max(0, end - position)
        return lags

    def oldest_unsettled(self) -> int | None:
        """Return the Kafka timestamp (ms) of the oldest record that was delivered and is not settled."""
        firsts = (part.records[0].timestamp for parts in self._delivered.values() for part in parts if not part.settled)
        return min(firsts, default=None)


class ClockedProducer(driver.Producer):
    """Faust's producer, which reports the timestamps of confirmed records to `ClockWatch`."""

    async def send(self, topic: str, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Send a record of the changelog or a dead letter, as Faust's producer does."""
        watch = cast(SliceTransport, self.transport).clock_watch
        sent_at = watch.clock()
        delivery = cast("asyncio.Future[Any]", await super().send(topic, *args, **kwargs))
        delivery.add_done_callback(partial(_note_time, watch, topic, sent_at))
        return delivery


def _note_time(watch: ClockWatch, topic: str, sent_at: float, delivery: "asyncio.Future[Any]") -> None:
    if delivery.cancelled():
        return
    error = delivery.exception()
    if error is None:
        metadata = delivery.result()
        watch.note_confirmed(topic, sent_at, metadata.timestamp / 1000 if metadata.timestamp_type == 1 else None)
    elif isinstance(error, InvalidTimestampError):
        watch.note_refused(topic)


class SliceTransport(driver.Transport):
    """Faust's transport with `SliceConsumer`. `wait_idle` returns when no agent is at work, or after a time-out."""

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
    """Discard actors whose partitions were revoked. Faust stops them, but keeps them and their streams forever."""
    supervisor = agent.supervisor
    for actor in [actor for actor in supervisor._services if actor.should_stop]:
        supervisor.discard(actor)
        actor.beacon.detach(agent.beacon)
        actor.stream.beacon.detach(agent.beacon)
    supervisor._index = {actor: index for index, actor in enumerate(supervisor._services)}


def cut(records: list[ConsumerRecord], size: int) -> Iterator[list[ConsumerRecord]]:
    """Yield `records` in parts of at most `size`, in order."""
    for start in range(0, len(records), size):
        yield records[start : start + size]
