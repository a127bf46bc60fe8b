"""The dedupe window: what it remembers, for how long, and what it writes."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from streams.batch import Arrival
from streams.decode import decode
from streams.window import CHUNK_RECORDS, DIGEST, WindowIndex
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


def test_loaded_index_knows_what_was_put_and_puts_beside_it() -> None:
    chunks = MemoryChunks()
    new_index(chunks).add(0, arrivals(1, 2))
    again = new_index(chunks)
    again.load(chunks.rows())
    again.add(0, arrivals(3))
    third = new_index(chunks)
    third.load(chunks.rows())
    assert known(third, arrivals(1, 2, 3, 4)) == ["pos:e-1", "pos:e-2", "pos:e-3"]


@given(st.lists(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), max_size=8), max_size=12), st.booleans())
def test_nothing_is_known_that_was_not_added(batches: list[list[tuple[int, int]]], reload: bool) -> None:
    chunks = MemoryChunks()
    index = new_index(chunks, now=NOW + 4 * DAY)
    added: Counter[bytes] = Counter()
    for one in batches:
        part = [a for number, day in one for a in arrivals(number, at=f"2026-03-{10 + day}T12:00:00Z")]
        fresh, duplicates = index.split(0, part)
        assert all(added[arrival.digest] for arrival in duplicates)
        index.add(0, fresh)
        added.update(arrival.digest for arrival in fresh)
        if reload:
            index.load(chunks.rows())
    assert len(index) <= len(added)
