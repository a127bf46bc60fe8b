"""The dedupe window in memory: digests of delivered records, by partition and event-time window. No framework here.

A resent record has the same bytes, so it has the same event time and belongs to the same window. The index keeps the
current window and the previous one, so it recognises a resent record for at least one window's length, also across a
boundary. The current window is that of the partition's newest event time, but never ahead of the clock: a till whose
clock runs ahead must not push out the windows of all others.

Growth: about 40 bytes a record, 18 of them in the table's own copy, so 10 million records take 0.4 GB. Looking a record
up and adding it takes 1.5 to 2.5 µs, from ten thousand to ten million records, and no batch waits for a rehash: the
packed sets grow by one bucket at a time. `python -m bench.growth` measures it.

All 128 bits of a digest are compared: among 10 million records the probability that a new one equals another is 3e-32,
and that is the only way in which a sale could be mistaken for a duplicate.
"""

import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streams.batch import DIGEST, Arrival

#: A chunk is one key of the table. A batch is appended to the open chunk, so a trickle of single events does not create
#: one key per event, and a full poll is one write.
CHUNK_RECORDS = 256
#: The maximum average number of digests in a bucket. A bucket costs about 45 bytes besides its digests and is searched
#: from its start, so a larger number saves memory and costs time.
BUCKET_RECORDS = 12


class ChunkStore(Protocol):
    """Durable storage for chunks: the key is `partition/number` in a window, the value packed digests."""

    def put(self, key: str, start: float, digests: bytes) -> None: ...
    def forget(self, key: str, start: float) -> None: ...


class PackedDigests:
    """A set of digests, concatenated in buckets of bytes: it takes a quarter of the memory of a Python set.

    Linear hashing: when buckets are full on average, the next one in turn is split in two, so they are never all moved
    at once.
    """

    def __init__(self) -> None:
        self._buckets = [b""]
        self._mask = 0  # covers all bucket numbers; those above the last bucket have not been split off yet
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, digest: bytes) -> bool:
        number = hash(digest)
        index = number & self._mask
        if index >= len(self._buckets):
            index = number & (self._mask >> 1)
        bucket = self._buckets[index]
        # Not `in`: on bytes it costs nearly twice as much as `find`.
        return bucket.find(digest) >= 0 and digest in unpack(bucket)

    def update(self, digests: Sequence[bytes]) -> None:
        """Add the digests that are not in the set."""
        self.make_room(len(digests))
        buckets, count, mask = self._buckets, len(self._buckets), self._mask
        added = 0
        for digest in digests:
            number = hash(digest)
            index = number & mask
            if index >= count:
                index = number & (mask >> 1)
            bucket = buckets[index]
            if bucket.find(digest) < 0 or digest not in unpack(bucket):
                buckets[index] = bucket + digest
                added += 1
        self._size += added

    def make_room(self, more: int) -> None:
        """Split as many buckets as `more` digests require."""
        while len(self._buckets) * BUCKET_RECORDS < self._size + more:
            self._split_next()

    def _split_next(self) -> None:
        if len(self._buckets) > self._mask:
            self._mask = self._mask * 2 + 1
        bit = (self._mask + 1) >> 1
        source = len(self._buckets) - bit
        stay: list[bytes] = []
        move: list[bytes] = []
        for digest in unpack(self._buckets[source]):
            (move if hash(digest) & bit else stay).append(digest)
        self._buckets[source] = b"".join(stay)
        self._buckets.append(b"".join(move))


def unpack(packed: bytes) -> Sequence[bytes]:
    """Return the digests that lie side by side in `packed`."""
    return struct.unpack(f"{DIGEST}s" * (len(packed) // DIGEST), packed)


@dataclass
class DedupeWindow:
    """The digests of one partition's records with event times in [start, start + length), and their chunks' numbers."""

    digests: PackedDigests = field(default_factory=PackedDigests)
    chunks: list[int] = field(default_factory=list)
    open: bytearray | None = None  # the last chunk, as long as it is not full


class WindowIndex:
    """`Seen` in memory, written through to chunks."""

    def __init__(self, length: float, clock: Callable[[], float], chunks: ChunkStore) -> None:
        self._length = length
        self._clock = clock
        self._chunks = chunks
        self._partitions: dict[int, dict[float, DedupeWindow]] = defaultdict(dict)
        self._next_chunk: dict[int, int] = defaultdict(int)
        self._late = 0

    def __len__(self) -> int:
        return sum(len(window.digests) for windows in self._partitions.values() for window in windows.values())

    def start_of(self, timestamp: float) -> float:
        """Return the start of the window that `timestamp` (seconds) falls into."""
        return timestamp // self._length * self._length

    def split(self, partition: int, arrivals: Sequence[Arrival]) -> tuple[list[Arrival], list[Arrival]]:
        """Return (not known, known as delivered)."""
        windows = [window.digests for window in self._partitions[partition].values()]
        fresh: list[Arrival] = []
        known: list[Arrival] = []
        for arrival in arrivals:
            digest = arrival.digest
            for digests in windows:
                if digest in digests:
                    known.append(arrival)
                    break
            else:
                fresh.append(arrival)
        return fresh, known

    def add(self, partition: int, arrivals: Sequence[Arrival]) -> None:
        """Remember delivered arrivals, in one chunk per window that they fall into."""
        by_start: dict[float, list[bytes]] = defaultdict(list)
        for arrival in arrivals:
            by_start[self.start_of(arrival.event.occurred_at.timestamp())].append(arrival.digest)
        oldest = self._oldest(partition, by_start)
        for start, digests in by_start.items():
            if start >= oldest:
                self._append(partition, start, digests)
            else:
                self._late += len(digests)
        self._forget_before(partition, oldest)

    def take_late(self) -> int:
        """Return the number of arrivals added since the last call that were too old to be remembered."""
        late, self._late = self._late, 0
        return late

    def load(self, chunks: Sequence[tuple[str, float, bytes]]) -> None:
        """Replace the contents by chunks from the store. Open chunks are not continued."""
        self._partitions.clear()
        self._next_chunk.clear()
        for key, start, packed in chunks:
            partition, number = map(int, key.split("/"))
            window = self._partitions[partition].setdefault(start, DedupeWindow())
            window.digests.update(unpack(packed))
            window.chunks.append(number)
            self._next_chunk[partition] = max(self._next_chunk[partition], number + 1)

    def _oldest(self, partition: int, starts: Iterable[float]) -> float:
        now = self.start_of(self._clock())
        current = max((start for start in (*starts, *self._partitions[partition]) if start <= now), default=now)
        return current - self._length

    def _append(self, partition: int, start: float, digests: list[bytes]) -> None:
        window = self._partitions[partition].setdefault(start, DedupeWindow())
        window.digests.update(digests)
        if window.open is None:
            window.open = bytearray()
            window.chunks.append(self._next_chunk[partition])
            self._next_chunk[partition] += 1
        window.open += b"".join(digests)
        self._chunks.put(f"{partition}/{window.chunks[-1]}", start, bytes(window.open))
        if len(window.open) >= CHUNK_RECORDS * DIGEST:
            window.open = None

    def _forget_before(self, partition: int, oldest: float) -> None:
        windows = self._partitions[partition]
        for start in [start for start in windows if start < oldest]:
            for number in windows.pop(start).chunks:
                self._chunks.forget(f"{partition}/{number}", start)
