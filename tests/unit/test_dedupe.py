"""The dedupe window: what it remembers, for how long, and what it writes."""

import os
import tracemalloc
from dataclasses import replace
from functools import cache

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streams.batch import Arrival
from streams.decode import decode
from streams.dedupe import BUCKET_RECORDS, CHUNK_RECORDS, DIGEST, PackedDigests, WindowIndex
from tests.support.events import NOON, batch, value
from tests.support.line import MemoryChunks

HOUR = 3600.0
DAY = 24 * HOUR
NOW = NOON.timestamp()


def arrivals(*numbers: int, at: str = "2026-03-10T12:00:00Z") -> list[Arrival]:
    return decode(batch(*(value(number, occurred_at=at) for number in numbers)))[0]


def new_index(chunks: MemoryChunks | None = None, now: float = NOW) -> WindowIndex:
    return WindowIndex(DAY, lambda: now, chunks or MemoryChunks())


def known(index: WindowIndex, candidates: list[Arrival], partition: int = 0) -> list[str]:
    return [arrival.id for arrival in index.split(partition, candidates)[1]]


def test_added_record_is_known_and_another_is_not() -> None:
    index = new_index()
    index.add(0, arrivals(1, 2))
    assert known(index, arrivals(1, 3)) == ["pos:e-1"]


def test_same_id_with_other_content_is_not_known() -> None:
    index = new_index()
    index.add(0, arrivals(1))
    changed, _, _ = decode(batch(value(1, cashier="C")))
    assert known(index, changed) == []


def test_partitions_are_apart() -> None:
    index = new_index()
    index.add(0, arrivals(1))
    assert known(index, arrivals(1), partition=1) == []


def test_record_of_the_previous_window_is_known_after_the_boundary() -> None:
    index = new_index(now=NOW + DAY)
    before, after = arrivals(1, at="2026-03-09T23:59:59Z"), arrivals(2, at="2026-03-10T00:00:01Z")
    index.add(0, before)
    index.add(0, after)
    assert known(index, before + after) == ["pos:e-1", "pos:e-2"]


def test_window_before_the_previous_is_forgotten_here_and_in_the_table() -> None:
    chunks = MemoryChunks()
    index = new_index(chunks, now=NOW + 2 * DAY)
    old = arrivals(1, at="2026-03-08T12:00:00Z")
    index.add(0, old)
    index.add(0, arrivals(2, at="2026-03-09T12:00:00Z"))
    assert known(index, old) == ["pos:e-1"]
    index.add(0, arrivals(3, at="2026-03-10T12:00:00Z"))
    assert known(index, old) == []
    assert len(chunks.kept) == 2


def test_late_event_older_than_the_window_is_left_to_the_sink() -> None:
    chunks = MemoryChunks()
    index = new_index(chunks)
    index.add(0, arrivals(1))
    index.add(0, arrivals(2, at="2026-03-01T12:00:00Z"))
    assert len(index) == len(chunks.kept) == 1


def test_till_whose_clock_runs_ahead_pushes_nobody_out() -> None:
    index = new_index()
    index.add(0, arrivals(1))
    index.add(0, arrivals(2, at="2026-03-13T12:00:00Z"))
    assert known(index, arrivals(1)) == ["pos:e-1"]


def test_replayed_old_events_are_remembered_by_their_own_time() -> None:
    index = new_index(now=NOW + 365 * DAY)
    index.add(0, arrivals(1))
    assert known(index, arrivals(1)) == ["pos:e-1"]


def test_batch_is_one_write() -> None:
    chunks = MemoryChunks()
    new_index(chunks).add(0, arrivals(*range(1000)))
    assert chunks.writes == 1


def test_single_events_share_a_chunk() -> None:
    chunks = MemoryChunks()
    index = new_index(chunks)
    for number in range(CHUNK_RECORDS * 2 + 1):
        index.add(0, arrivals(number))
    assert [len(packed) // DIGEST for packed in chunks.kept.values()] == [CHUNK_RECORDS, CHUNK_RECORDS, 1]


def test_loaded_index_knows_what_was_put_and_adds_to_it() -> None:
    chunks = MemoryChunks()
    new_index(chunks).add(0, arrivals(1, 2))
    again = new_index(chunks)
    again.load(chunks.rows())
    again.add(0, arrivals(3))
    third = new_index(chunks)
    third.load(chunks.rows())
    assert known(third, arrivals(1, 2, 3, 4)) == ["pos:e-1", "pos:e-2", "pos:e-3"]


def test_record_takes_less_than_64_bytes_together_with_its_copy_in_the_table() -> None:
    chunks = MemoryChunks()
    index = new_index(chunks)
    (one,) = arrivals(1)
    tracemalloc.start()
    try:
        for _ in range(40):
            index.add(0, [replace(one, digest=os.urandom(DIGEST)) for _ in range(1500)])
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used / len(index) < 64


#: Numbers of few bits, shifted by whole bytes: the end of one and the beginning of another often make a third.
digests = st.builds(
    lambda low, shift: (low << 8 * shift).to_bytes(DIGEST, "big"), st.integers(0, 30), st.integers(0, 15)
)


@given(st.lists(st.lists(digests, max_size=60)), st.lists(digests))
def test_packed_digests_are_a_set(batches: list[list[bytes]], others: list[bytes]) -> None:
    packed, plain = PackedDigests(), set[bytes]()
    for one in batches:
        packed.update(one)
        plain.update(one)
        assert len(packed) == len(plain)
    for digest in [*plain, *others]:
        assert (digest in packed) == (digest in plain)


def test_packed_digests_are_a_set_through_many_splits() -> None:
    packed = PackedDigests()
    numbers = [number.to_bytes(DIGEST, "little") for number in range(20_000)]
    for start in range(0, 20_000, 2_000):
        packed.update(numbers[start : start + 1_000])
    assert [digest in packed for digest in numbers] == [number // 1_000 % 2 == 0 for number in range(20_000)]


@cache
def arrival(number: int, day: int) -> Arrival:
    return arrivals(number, at=f"2026-03-{10 + day}T12:00:00Z")[0]


class WindowIndexIsSets(RuleBasedStateMachine):
    """The index beside plain sets, one for each partition and day, that are kept in no table."""

    NOW = NOW + 3 * DAY
    EVERY = tuple((number, day) for number in range(10) for day in range(6))

    def __init__(self) -> None:
        super().__init__()
        self.chunks = MemoryChunks()
        self.index = new_index(self.chunks, self.NOW)
        self.sets: dict[int, dict[int, set[int]]] = {0: {}, 1: {}}

    @rule(partition=st.integers(0, 1), added=st.lists(st.sampled_from(EVERY), min_size=1, max_size=12))
    def add(self, partition: int, added: list[tuple[int, int]]) -> None:
        self.index.add(partition, [arrival(number, day) for number, day in added])
        days = self.sets[partition]
        current = max((day for day in [*days, *(day for _, day in added)] if day <= 3), default=3)
        for number, day in added:
            days.setdefault(day, set()).add(number)
        for day in [day for day in days if day < current - 1]:
            del days[day]

    @rule()
    def restart(self) -> None:
        self.index = new_index(self.chunks, self.NOW)
        self.index.load(self.chunks.rows())

    @invariant()
    def same_are_known(self) -> None:
        for partition, days in self.sets.items():
            expected = [(number, day) for number, day in self.EVERY if number in days.get(day, ())]
            fresh, found = self.index.split(partition, [arrival(*one) for one in self.EVERY])
            assert found == [arrival(*one) for one in expected]
            assert len(fresh) + len(found) == len(self.EVERY)
        assert len(self.index) == sum(len(numbers) for days in self.sets.values() for numbers in days.values())


TestWindowIndexIsSets = WindowIndexIsSets.TestCase


def test_events_too_old_for_the_window_are_counted_once() -> None:
    index = new_index(now=NOW + 3 * DAY)
    index.add(0, arrivals(1, at="2026-03-13T11:00:00Z"))
    index.add(0, arrivals(2, 3))
    assert (index.take_late(), index.take_late()) == (2, 0)

    index.add(0, arrivals(4))
    index.add(0, arrivals(5))
    assert (index.take_late(), index.take_late()) == (2, 0)


@given(st.floats(0, 2**33), st.sampled_from([1.0, HOUR, DAY, 36 * HOUR]))
def test_windows_lie_side_by_side(timestamp: float, length: float) -> None:
    start = WindowIndex(length, lambda: NOW, MemoryChunks()).start_of(timestamp)
    assert start % length == 0
    assert start <= timestamp < start + length


def test_table_has_a_chunk_per_partition_and_window_with_the_digests_in_order() -> None:
    chunks = MemoryChunks()
    index = new_index(chunks)
    today, yesterday = arrivals(1, 2), arrivals(3, at="2026-03-09T12:00:00Z")
    index.add(0, today[:1] + yesterday)
    index.add(0, today[1:])
    index.add(5, today)
    midnight = NOW - 12 * HOUR
    both = today[0].digest + today[1].digest
    assert sorted(chunks.rows()) == [
        ("0/0", midnight, both), ("0/1", midnight - DAY, yesterday[0].digest), ("5/0", midnight, both),
    ]  # fmt: skip


def test_batch_of_more_than_a_chunk_is_not_written_again_with_the_next_event() -> None:
    chunks = MemoryChunks()
    index = new_index(chunks)
    index.add(0, arrivals(*range(CHUNK_RECORDS + 1)))
    index.add(0, arrivals(CHUNK_RECORDS + 2))
    assert [len(packed) // DIGEST for packed in chunks.kept.values()] == [CHUNK_RECORDS + 1, 1]


def test_loading_replaces_the_contents() -> None:
    chunks = MemoryChunks()
    index = new_index(chunks)
    index.add(0, arrivals(1))
    index.load([])
    assert (len(index), known(index, arrivals(1))) == (0, [])
    index.add(0, arrivals(2))
    assert [key for key, _, _ in chunks.rows()] == ["0/0"]


def test_chunks_are_numbered_on_from_the_highest_loaded_one() -> None:
    chunks = MemoryChunks()
    index = new_index(chunks)
    (one,) = arrivals(1)
    index.load([("0/7", NOW - 12 * HOUR, one.digest), ("0/3", NOW - 12 * HOUR, bytes(DIGEST))])
    index.add(0, arrivals(2))
    assert [key for key, _, _ in chunks.rows()] == ["0/8"]


def test_packed_digests_are_in_as_many_buckets_as_they_fill_however_they_are_added() -> None:
    for step in (1, 5, 12, 100):
        packed = PackedDigests()
        for start in range(0, 600, step):
            new = [os.urandom(DIGEST) for _ in range(start, min(start + step, 600))]
            packed.update(new)
            assert len(packed._buckets) == -(-len(packed) // BUCKET_RECORDS)
        assert sum(map(len, packed._buckets)) == 600 * DIGEST


def test_digest_lies_in_one_bucket_alone() -> None:
    packed = PackedDigests()
    numbers = [number.to_bytes(DIGEST, "little") for number in range(1_000)]
    for number in numbers:
        packed.update([number])
    found = b"".join(packed._buckets)
    assert sorted(found[at : at + DIGEST] for at in range(0, len(found), DIGEST)) == sorted(numbers)
