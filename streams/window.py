"""The dedupe window in memory: digests of delivered records, by partition and event-time window. Knows no framework.

A record that is sent again is the same bytes, so it has the same event time and belongs to the same window. Kept are
the current window and the previous one, so a re-sent record is recognised for at least one window's length, also
across a boundary; the current window is the one of the newest event time of the partition (never ahead of the clock:
a till whose clock runs ahead must not push everybody else's window out).

Memory: about 100 bytes a record. Lookups are O(1).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streams.batch import Arrival

DIGEST = 16
#: A chunk is one key of the table. A batch fills up the open chunk, so that a trickle of single events does not make
#: one key per event, and a full poll is one write.
CHUNK_RECORDS = 256


class Chunks(Protocol):
    """Where chunks are kept beyond this process: `(partition, number)` in a window, packed digests as value."""

    def put(self, key: str, start: float, digests: bytes) -> None: ...
    def forget(self, key: str, start: float) -> None: ...


@dataclass(slots=True)
class Window:
    """The digests of one partition's records with event times in [start, start + length)."""

    digests: set[bytes] = field(default_factory=set)
    chunks: dict[int, bytearray | None] = field(default_factory=dict)  # only the open one has its bytes at hand


class WindowIndex:
    """`Seen` in memory, written through to chunks."""

    def __init__(self, length: float, clock: Callable[[], float], chunks: Chunks) -> None:
        self._length = length
        self._clock = clock
        self._chunks = chunks
        self._partitions: dict[int, dict[float, Window]] = defaultdict(dict)
        self._next_chunk: dict[int, int] = defaultdict(int)

    def __len__(self) -> int:
        return sum(len(window.digests) for windows in self._partitions.values() for window in windows.values())

    def start_of(self, timestamp: float) -> float:
        """The start of the window that `timestamp` (seconds) falls into."""
        return timestamp // self._length * self._length

    def split(self, partition: int, arrivals: Sequence[Arrival]) -> tuple[list[Arrival], list[Arrival]]:
        """(not known, known as delivered)"""
        windows = self._partitions[partition].values()
        if not windows:
            return list(arrivals), []
        fresh: list[Arrival] = []
        known: list[Arrival] = []
        for arrival in arrivals:
            digest = arrival.digest
            (known if any(digest in window.digests for window in windows) else fresh).append(arrival)
        return fresh, known

    def add(self, partition: int, arrivals: Sequence[Arrival]) -> None:
        """Remembers delivered arrivals, in one chunk per window that they fall into."""
        by_start: dict[float, list[bytes]] = defaultdict(list)
        for arrival in arrivals:
            by_start[self.start_of(arrival.event.occurred_at.timestamp())].append(arrival.digest)
        oldest = self._oldest(partition, by_start)
        for start, digests in by_start.items():
            if start >= oldest:
                self._append(partition, start, digests)
        self._forget_before(partition, oldest)

    def load(self, chunks: Iterable[tuple[str, float, bytes]]) -> None:
        """Starts anew from chunks as they were put; open ones are not continued."""
        self._partitions.clear()
        self._next_chunk.clear()
        for key, start, packed in chunks:
            partition, number = map(int, key.split("/"))
            window = self._partitions[partition].setdefault(start, Window())
            window.digests.update(packed[i : i + DIGEST] for i in range(0, len(packed), DIGEST))
            window.chunks[number] = None
            self._next_chunk[partition] = max(self._next_chunk[partition], number + 1)

    def _oldest(self, partition: int, starts: Iterable[float]) -> float:
        now = self.start_of(self._clock())
        current = max((start for start in (*starts, *self._partitions[partition]) if start <= now), default=now)
        return current - self._length

    def _append(self, partition: int, start: float, digests: list[bytes]) -> None:
        window = self._partitions[partition].setdefault(start, Window())
        window.digests.update(digests)
        number, packed = next(((n, p) for n, p in window.chunks.items() if p is not None), (None, None))
        if number is None or packed is None:
            number, packed = self._next_chunk[partition], bytearray()
            self._next_chunk[partition] = number + 1
        packed += b"".join(digests)
        window.chunks[number] = packed if len(packed) < CHUNK_RECORDS * DIGEST else None
        self._chunks.put(f"{partition}/{number}", start, bytes(packed))

    def _forget_before(self, partition: int, oldest: float) -> None:
        windows = self._partitions[partition]
        for start in [start for start in windows if start < oldest]:
            for number in windows.pop(start).chunks:
                self._chunks.forget(f"{partition}/{number}", start)
