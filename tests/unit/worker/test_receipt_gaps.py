"""Which receipt numbers count as missing."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from schemas.dead_letter import Reason
from streams.batch import Arrival, BatchOutcome, Rejection
from streams.decode import decode
from streams.worker.receipt_gaps import REACH, ReceiptGapTracker
from tests.support.events import batch, value


def arrivals(numbers: Iterable[int | str], first: int = 0, **changes: str) -> list[Arrival]:
    """They stand in the topic from the offset `first` on."""
    return decode(batch(*(value(1, receipt=str(number), **changes) for number in numbers), first=first))[0]


def missing(runs: ReceiptGapTracker, numbers: Iterable[int | str], **changes: str) -> int:
    """How many are missing with a batch of these."""
    return runs.note(BatchOutcome(delivered=arrivals(numbers, **changes))).total()


def test_number_is_missing_when_the_register_is_far_beyond_it() -> None:
    runs = ReceiptGapTracker()
    assert missing(runs, [1, 2, 4]) == 0
    assert missing(runs, range(5, 3 + REACH)) == 0
    assert missing(runs, [3 + REACH]) == 1
    assert missing(runs, range(4 + REACH, 300 + REACH)) == 0


def test_number_that_comes_late_is_not_missing() -> None:
    runs = ReceiptGapTracker()
    assert missing(runs, [1, 2, 4, 6, 5, 3, *range(7, 300)]) == 0


@given(st.sets(st.integers(2, 3 * REACH), max_size=REACH - 1))
def test_every_number_left_out_is_counted_once(left_out: set[int]) -> None:
    sold = [number for number in range(1, 5 * REACH) if number not in left_out]
    assert missing(ReceiptGapTracker(), sold) == len(left_out)


def test_new_range_of_numbers_is_no_gap() -> None:
    assert missing(ReceiptGapTracker(), [*range(1, 200), *range(10_000, 10_200), *range(1, 200)]) == 0


def test_registers_and_stores_have_runs_of_their_own() -> None:
    runs = ReceiptGapTracker()
    assert missing(runs, [1, *range(3, 200)], register="R1", store="S1") == 1
    assert missing(runs, range(2, 200), register="R2", store="S1") == 0
    found = runs.note(BatchOutcome(delivered=arrivals([1, 3, *range(5, 200)], store="S2")))
    assert dict(found) == {"S2": 2}


def test_dead_letter_whose_number_could_be_read_has_come() -> None:
    (dead,) = arrivals([2], first=1)
    rejected = [Rejection(dead.record, Reason.TOTALS_MISMATCH, "totals: wrong", "check", dead.event)]
    delivered = arrivals([1]) + arrivals(range(3, 300), first=2)
    assert ReceiptGapTracker().note(BatchOutcome(delivered=delivered, rejected=rejected)).total() == 0


def test_duplicate_has_come() -> None:
    delivered = arrivals([1]) + arrivals(range(150, 300), first=150)
    known = arrivals(range(2, 150), first=1)
    assert ReceiptGapTracker().note(BatchOutcome(delivered=delivered, seen_in_sink=known)).total() == 0


def test_receipt_that_is_sent_again_from_long_ago_begins_no_run() -> None:
    runs = ReceiptGapTracker()
    assert missing(runs, [500, 502]) == 0
    assert runs.note(BatchOutcome(seen_in_window=arrivals([8]))).total() == 0
    assert missing(runs, range(503, 800)) == 1


def test_numbers_that_are_none_have_no_run() -> None:
    assert missing(ReceiptGapTracker(), ["A-1", "A-9", "12/3"]) == 0


def test_runs_start_over_when_partitions_have_moved() -> None:
    runs = ReceiptGapTracker()
    missing(runs, range(1, 50))
    runs.reset()
    assert missing(runs, range(60, 300)) == 0
