"""Records that end a worker: remembered across its deaths, singled out, and dead-lettered when they do it twice.

A bug in the line, or a hang of the event loop in the middle of a batch, ends the worker with nothing of the batch
acknowledged. Before it ends, a note about the batch goes into the changelog of the dedupe window, which whoever gets
the partition next reads before its first record. Records under a note go through the line one at a time, alone in the
worker. The one that ends the worker again is thereby known; the next owner makes it a dead letter (`ends_worker`).

Nothing is noted for what is no fault of a record: an outage, `kill -9`, a machine without memory or disk. And after
`MOST_IN_A_ROW` such dead letters without a delivered record between them the next record is tried again and again
instead: then the fault is the worker's, and a repaired one goes on where this one stopped. See docs/adr/0019.
"""

import asyncio
import json
import mmap
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import structlog
from confluent_kafka import Producer

from schemas.dead_letter import Reason
from sinks.base import SinkUnavailable
from streams.batch import DIGEST, Batch, BatchOutcome, Record, Rejection
from streams.dead_letters.budget import BudgetExceeded
from streams.kafka.topics import changelog_topic, client_config
from streams.pipeline import Services, process, versions
from streams.settings import Settings

#: Deaths after which a record that was alone is a dead letter.
DEATHS = 2
MOST_IN_A_ROW = 3
MOST_KEPT = 12
#: The number of the chunk that is a note. Chunks begin at 0.
NOTE_NUMBER = -1
#: Seconds for a note to be written: the worker is about to end.
PATIENCE = 4.0
#: Outages, and a machine without memory or disk.
_OUTAGES = (SinkUnavailable, OSError, MemoryError, BudgetExceeded)
_KAFKA = ("aiokafka", "confluent_kafka", "cimpl", "faust")


def is_outage(error: Exception) -> bool:
    """Whether an exception of the line is no fault of a record: the environment's, or a Kafka client's."""
    return isinstance(error, _OUTAGES) or type(error).__module__.partition(".")[0] in _KAFKA


class SuspectNote(NamedTuple):
    """A partition's records from `first` to `last` were at work when a worker ended, `deaths` times.

    Records up to `until` go alone. `in_a_row` counts the dead letters before, with no delivered record after them.
    `dead` are their offsets, the latest few: the records are read again until their batch is acknowledged.
    """

    first: int
    last: int
    until: int
    deaths: int
    in_a_row: int
    error: str
    dead: tuple[int, ...] = ()

    def packed(self) -> bytes:
        """As bytes, as many as digests would take: an older worker takes them for a chunk."""
        text = json.dumps(self).encode()
        return text.ljust(-(-len(text) // DIGEST) * DIGEST)

    def condemns(self, offset: int) -> bool:
        """Whether the record becomes a dead letter."""
        again = self.first == self.last == offset and self.deaths >= DEATHS and self.in_a_row < MOST_IN_A_ROW
        return again or offset in self.dead


def unpacked(packed: bytes) -> SuspectNote:
    """The inverse of `SuspectNote.packed`."""
    first, last, until, deaths, in_a_row, error, dead = json.loads(packed)
    return SuspectNote(first, last, until, deaths, in_a_row, error, tuple(dead))


def noted(before: SuspectNote | None, first: int, last: int, error: str) -> SuspectNote:
    """The note about a worker that ended at these records, where `before` was the note until then."""
    if before is None:
        return SuspectNote(first, last, last, 1, 0, error)
    until = max(before.until, last)
    if before.first <= first and last <= before.last:
        return SuspectNote(first, last, until, before.deaths + 1, before.in_a_row, error, before.dead)
    if first > before.last and before.deaths >= DEATHS and before.in_a_row < MOST_IN_A_ROW:
        return SuspectNote(first, last, until, 1, before.in_a_row + 1, error, (*before.dead, before.last)[-MOST_KEPT:])
    return SuspectNote(first, last, until, 1, before.in_a_row, error, before.dead)


class SuspectNotebook:
    """Writes notes, as chunks of the window's table, without Faust: for a worker that is about to end."""

    def __init__(self, settings: Settings) -> None:
        self._config = client_config(settings.broker, settings.kafka)
        self._topic = changelog_topic(settings)
        self._end = settings.window_hours * 3600 - 0.1  # as Faust names a window

    def write(self, notes: Mapping[int, bytes | None]) -> bool:
        """Put the note of each partition, or its tombstone. Return whether the broker has confirmed all of them."""
        confirmed: list[object] = []
        producer = Producer(self._config | {"acks": "all", "message.timeout.ms": int(PATIENCE * 1000)})
        for partition, packed in notes.items():
            key = json.dumps([f"{partition}/{NOTE_NUMBER}", [0.0, self._end]], separators=(",", ":")).encode()
            producer.produce(
                self._topic, packed, key, partition, on_delivery=lambda fault, _: confirmed.append(fault is None)
            )
        producer.flush(PATIENCE)
        return len(confirmed) == len(notes) and all(confirmed)


_SLOT = 512
_SLOTS = 256
_HEAD = struct.Struct("<iH")


class SuspectMarks:
    """The notes to be written should the worker hang now, in memory that it shares with the process that watches it.

    A batch costs one write into memory; records cost nothing.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SLOT * _SLOTS)
        self._free = list(range(_SLOTS))

    @contextmanager
    def at_work(self, partition: int, note: SuspectNote) -> Iterator[None]:
        """Marks a batch as being at work; without a free slot, it just isn't."""
        packed = note.packed()
        if not self._free or len(packed) > _SLOT - _HEAD.size:
            yield
            return
        slot = self._free.pop()
        start = slot * _SLOT
        self._memory[start + _HEAD.size : start + _HEAD.size + len(packed)] = packed
        self._memory[start : start + _HEAD.size] = _HEAD.pack(partition, len(packed))
        try:
            yield
        finally:
            self._memory[start : start + _HEAD.size] = _HEAD.pack(0, 0)
            self._free.append(slot)

    def all(self) -> dict[int, bytes]:
        """The note of each partition that is at work."""
        notes = {}
        for start in range(0, _SLOT * _SLOTS, _SLOT):
            partition, length = _HEAD.unpack_from(self._memory, start)
            if length:
                notes[partition] = self._memory[start + _HEAD.size : start + _HEAD.size + length]
        return notes


Write = Callable[[Mapping[int, bytes | None]], bool]


class SuspectPipeline:
    """Takes batches through the line, those under a note one record at a time."""

    def __init__(self, write: Write, marks: SuspectMarks | None = None) -> None:
        self._write = write
        self._marks = marks or SuspectMarks()
        self._notes: dict[int, SuspectNote] = {}
        self._alone = asyncio.Lock()
        self._log = structlog.get_logger("tillstream.suspects")

    def load(self, notes: Mapping[int, bytes], partitions: set[int]) -> None:
        """Takes the notes that were read with the window, and forgets those of partitions that others have now."""
        known = {number: note for number, note in self._notes.items() if number in partitions}
        self._notes = {number: unpacked(packed) for number, packed in notes.items()} | known
        for number, note in self._notes.items():
            self._log.warning(
                "a worker ended at these records: they go one at a time", partition=number, **_shown(note)
            )

    async def through(self, batch: Batch, to: Services) -> BatchOutcome:
        """As `pipeline.process`. Records under a note go alone, with nothing else at work."""
        if not self._notes:
            return await self._marked(batch, to)
        async with self._alone:
            note = self._notes.get(batch.partition)
            if note is None or batch.records[0].offset > note.until:
                settled = await self._marked(batch, to)
                await self._clear(batch, settled)
                return settled
            whole = BatchOutcome()
            for record in batch.records:
                one = Batch(batch.topic, batch.partition, [record])
                settled = await self._one(one, record, to)
                await self._clear(one, settled)
                _add(whole, settled)
            return whole

    async def _one(self, batch: Batch, record: Record, to: Services) -> BatchOutcome:
        note = self._notes.get(batch.partition)
        if note is None or not note.condemns(record.offset):
            return await self._marked(batch, to)
        rejection = Rejection(record, Reason.ENDS_WORKER, f"(the whole record): {note.error}", "line")
        to.budget.spend(1, 1, (True,))
        await to.dead_letters.put(batch.topic, batch.partition, [rejection], versions(to.source, to.master()))
        return BatchOutcome(rejected=[rejection])

    async def _marked(self, batch: Batch, to: Services) -> BatchOutcome:
        first, last = batch.records[0].offset, batch.records[-1].offset
        before = self._notes.get(batch.partition)
        try:
            with self._marks.at_work(batch.partition, noted(before, first, last, "hangs")):
                return await process(batch, to)
        except Exception as error:
            if is_outage(error):
                raise
            note = noted(before, first, last, type(error).__name__)
            self._notes[batch.partition] = note
            await self._put(batch.partition, note)
            raise

    async def _clear(self, batch: Batch, settled: BatchOutcome) -> None:
        """A record delivered behind the suspects shows that the worker is well; behind all, the note is done with."""
        note = self._notes.get(batch.partition)
        if note is None or batch.records[-1].offset < note.last:
            return
        if not (settled.delivered or settled.seen_in_sink or settled.seen_in_window):
            return
        if batch.records[-1].offset < note.until:
            dead = (*note.dead, note.last) if note.condemns(note.last) and note.last not in note.dead else note.dead
            self._notes[batch.partition] = note._replace(in_a_row=0, deaths=0, dead=dead[-MOST_KEPT:])
        elif await self._put(batch.partition, None):
            del self._notes[batch.partition]

    async def _put(self, partition: int, note: SuspectNote | None) -> bool:
        written = await asyncio.to_thread(self._write, {partition: note.packed() if note is not None else None})
        if not written:  # then the next worker does not know, and this death does not count
            self._log.warning("the note about records that end a worker is not confirmed", partition=partition)
        return written


def _shown(note: SuspectNote) -> dict[str, object]:
    return {"first_offset": note.first, "last_offset": note.last, "deaths": note.deaths, "error": note.error}


def _add(whole: BatchOutcome, part: BatchOutcome) -> None:
    whole.delivered += part.delivered
    whole.superseded += part.superseded
    whole.seen_in_window += part.seen_in_window
    whole.seen_in_sink += part.seen_in_sink
    whole.rejected += part.rejected
    whole.noted += part.noted


#: As `pipeline.process`.
Through = Callable[[Batch, Services], Awaitable[BatchOutcome]]
