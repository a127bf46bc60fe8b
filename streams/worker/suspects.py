"""Finds records that crash a worker, across restarts, and makes them dead letters when they do it twice.

A bug in the line, or a hang of the event loop in the middle of a batch, ends the worker with nothing of the batch
acknowledged. Before it ends, it writes a note about the batch into the changelog of the dedupe window, which the next
owner of the partition reads before its first record. Records under a note go through the line one at a time, with
nothing else at work in the worker. If one of them ends the worker again, it is identified, and the next owner makes it
a dead letter (`ends_worker`).

No note is written when a record is not to blame: for an outage, `kill -9`, a machine without memory or disk. And after
`MAX_CONSECUTIVE` such dead letters without a delivered record between them, the next record is retried indefinitely:
then the fault is the worker's, and a fixed worker continues where this one stopped. See docs/adr/0019.
"""

import asyncio
import json
import mmap
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import structlog

from schemas.dead_letter import Reason
from sinks.base import SinkUnavailable
from streams.batch import DIGEST, Batch, BatchOutcome, Record, Rejection
from streams.dead_letters.budget import BudgetExceeded
from streams.kafka.producer import write_records
from streams.pipeline import Services, process, versions
from streams.settings import KafkaAccess

#: Deaths of a worker after which the record that was alone at work becomes a dead letter.
MAX_DEATHS = 2
#: Consecutive dead letters after which the fault must be the worker's.
MAX_CONSECUTIVE = 3
#: Offsets of dead letters that a note keeps.
MAX_KEPT = 12
#: The chunk number of notes. Chunks start at 0.
NOTE_NUMBER = -1
#: Seconds that writing a note may take: the worker is about to end.
PATIENCE = 4.0
#: Outages, and a machine without memory or disk.
_OUTAGES = (SinkUnavailable, OSError, MemoryError, BudgetExceeded)
_KAFKA_MODULES = ("aiokafka", "confluent_kafka", "cimpl", "faust")


def is_outage(error: Exception) -> bool:
    """Return whether an exception of the line comes from the environment or a Kafka client, not from a record."""
    return isinstance(error, _OUTAGES) or type(error).__module__.partition(".")[0] in _KAFKA_MODULES


class SuspectNote(NamedTuple):
    """Says that a partition's records from `first` to `last` were at work when a worker ended, `deaths` times.

    Records up to `until` go through the line alone. `consecutive` counts the dead letters so far without a delivered
    record after them, and `dead` has the offsets of the latest few: they are read again until their batch is
    acknowledged.
    """

    first: int
    last: int
    until: int
    deaths: int
    consecutive: int
    error: str
    dead: tuple[int, ...] = ()

    def packed(self) -> bytes:
        """Return the note as bytes, padded to whole digests: an older worker reads it as a chunk."""
        text = json.dumps(self).encode()
        return text.ljust(-(-len(text) // DIGEST) * DIGEST)

    def condemns(self, offset: int) -> bool:
        """Return whether the record becomes a dead letter."""
        return (self.is_proven and self.first == self.last == offset) or offset in self.dead

    @property
    def is_proven(self) -> bool:
        """Whether the noted records ended enough workers, and the fault isn't the worker's."""
        return self.deaths >= MAX_DEATHS and self.consecutive < MAX_CONSECUTIVE


def unpacked(packed: bytes) -> SuspectNote:
    """Return the note from its bytes: the inverse of `SuspectNote.packed`."""
    first, last, until, deaths, consecutive, error, dead = json.loads(packed)
    return SuspectNote(first, last, until, deaths, consecutive, error, tuple(dead))


def next_note(before: SuspectNote | None, first: int, last: int, error: str) -> SuspectNote:
    """Return the note about a worker that ended at these records; `before` is the previous note, if any."""
    if before is None:
        return SuspectNote(first, last, last, 1, 0, error)
    until = max(before.until, last)
    if before.first <= first and last <= before.last:
        return SuspectNote(first, last, until, before.deaths + 1, before.consecutive, error, before.dead)
    if first > before.last and before.is_proven:
        dead = (*before.dead, before.last)[-MAX_KEPT:]
        return SuspectNote(first, last, until, 1, before.consecutive + 1, error, dead)
    return SuspectNote(first, last, until, 1, before.consecutive, error, before.dead)


class SuspectNotebook:
    """Writes notes as chunks of the window's table, without Faust, for a worker that is about to end."""

    def __init__(self, access: KafkaAccess, changelog: str, window_hours: float) -> None:
        self._access = access
        self._topic = changelog
        self._end = window_hours * 3600 - 0.1  # as Faust names a window

    def write(self, notes: Mapping[int, bytes | None]) -> bool:
        """Write each partition's note, or its tombstone for None. Return whether the broker has confirmed all."""
        records = [(partition, self._key(partition), packed) for partition, packed in notes.items()]
        return write_records(self._access, self._topic, records, PATIENCE)

    def _key(self, partition: int) -> bytes:
        return json.dumps([f"{partition}/{NOTE_NUMBER}", [0.0, self._end]], separators=(",", ":")).encode()


_SLOT = 512
_SLOTS = 256
_HEAD = struct.Struct("<iH")


class SuspectMarks:
    """The notes to write if the worker hangs now, in memory shared with the process that guards it.

    A batch costs one write into memory; records cost nothing.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SLOT * _SLOTS)
        self._free = list(range(_SLOTS))

    @contextmanager
    def at_work(self, partition: int, note: SuspectNote) -> Iterator[None]:
        """Mark a batch as being at work. Without a free slot it stays unmarked."""
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
        """Return the packed note of each partition that has a batch at work."""
        notes = {}
        for start in range(0, _SLOT * _SLOTS, _SLOT):
            partition, length = _HEAD.unpack_from(self._memory, start)
            if length:
                notes[partition] = self._memory[start + _HEAD.size : start + _HEAD.size + length]
        return notes


WriteNotes = Callable[[Mapping[int, bytes | None]], bool]
#: The signature of `pipeline.process`.
ProcessBatch = Callable[[Batch, Services], Awaitable[BatchOutcome]]


class SuspectPipeline:
    """Runs batches through the line, those under a note one record at a time."""

    def __init__(self, write: WriteNotes, marks: SuspectMarks | None = None) -> None:
        self._write = write
        self._marks = marks or SuspectMarks()
        self._notes: dict[int, SuspectNote] = {}
        self._alone = asyncio.Lock()
        self._log = structlog.get_logger("tillstream.suspects")

    def load(self, notes: Mapping[int, bytes], partitions: set[int]) -> None:
        """Take over the notes read with the window, and forget those of partitions that moved to other workers."""
        known = {number: note for number, note in self._notes.items() if number in partitions}
        self._notes = {number: unpacked(packed) for number, packed in notes.items()} | known
        for number, note in self._notes.items():
            self._log.warning(
                "a worker ended at these records, processing them one at a time", partition=number, **_log_fields(note)
            )

    async def process(self, batch: Batch, to: Services) -> BatchOutcome:
        """Do as `pipeline.process`, but run records under a note alone, with nothing else at work."""
        if not self._notes:
            return await self._process_marked(batch, to)
        async with self._alone:
            note = self._notes.get(batch.partition)
            if note is None or batch.records[0].offset > note.until:
                settled = await self._process_marked(batch, to)
                await self._clear(batch, settled)
                return settled
            whole = BatchOutcome()
            for record in batch.records:
                single = Batch(batch.topic, batch.partition, [record])
                settled = await self._process_alone(single, record, to)
                await self._clear(single, settled)
                _add(whole, settled)
            return whole

    async def _process_alone(self, batch: Batch, record: Record, to: Services) -> BatchOutcome:
        note = self._notes.get(batch.partition)
        if note is None or not note.condemns(record.offset):
            return await self._process_marked(batch, to)
        rejection = Rejection(record, Reason.ENDS_WORKER, f"(the whole record): {note.error}", "line")
        to.budget.spend(1, 1, (True,))
        await to.dead_letters.put(batch.topic, batch.partition, [rejection], versions(to.source, to.mapper()))
        return BatchOutcome(rejected=[rejection])

    async def _process_marked(self, batch: Batch, to: Services) -> BatchOutcome:
        first, last = batch.records[0].offset, batch.records[-1].offset
        before = self._notes.get(batch.partition)
        try:
            with self._marks.at_work(batch.partition, next_note(before, first, last, "hangs")):
                return await process(batch, to)
        except Exception as error:
            if is_outage(error):
                raise
            note = next_note(before, first, last, type(error).__name__)
            self._notes[batch.partition] = note
            await self._put(batch.partition, note)
            raise

    async def _clear(self, batch: Batch, settled: BatchOutcome) -> None:
        """Reset the note after a delivery behind the suspects, as the worker is well; delete it behind the last one."""
        note = self._notes.get(batch.partition)
        if note is None or batch.records[-1].offset < note.last:
            return
        if not (settled.delivered or settled.seen_in_sink or settled.seen_in_window):
            return
        if batch.records[-1].offset < note.until:
            dead = (*note.dead, note.last) if note.condemns(note.last) and note.last not in note.dead else note.dead
            self._notes[batch.partition] = note._replace(consecutive=0, deaths=0, dead=dead[-MAX_KEPT:])
        elif await self._put(batch.partition, None):
            del self._notes[batch.partition]

    async def _put(self, partition: int, note: SuspectNote | None) -> bool:
        written = await asyncio.to_thread(self._write, {partition: note.packed() if note is not None else None})
        if not written:  # then the next worker won't know about this death, and it won't count
            self._log.warning("the note about records that end a worker is not confirmed", partition=partition)
        return written


def _log_fields(note: SuspectNote) -> dict[str, object]:
    return {"first_offset": note.first, "last_offset": note.last, "deaths": note.deaths, "error": note.error}


def _add(whole: BatchOutcome, part: BatchOutcome) -> None:
    whole.delivered += part.delivered
    whole.superseded += part.superseded
    whole.seen_in_window += part.seen_in_window
    whole.seen_in_sink += part.seen_in_sink
    whole.rejected += part.rejected
    whole.skipped += part.skipped
    whole.findings += part.findings
