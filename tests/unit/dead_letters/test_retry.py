"""When letters are taken up again by themselves, and how far the topic has been dealt with."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from schemas.dead_letter import Reason
from streams.dead_letters.header import DeadLetterHeader
from streams.dead_letters.retry import MOST_WAITING, RetrySchedule, WaitingList, due
from tests.support.dead_letters import DLQ, dead, head
from tests.support.events import NOON

MINUTE = timedelta(minutes=1)
HOUR = RetrySchedule(MINUTE, 60 * MINUTE)


def tried(minutes_after_the_first: int) -> DeadLetterHeader:
    """A letter that failed first at noon, and last so many minutes later."""
    first = dead(1)
    return head(1, headers=first.headers, now=NOON + minutes_after_the_first * MINUTE)


def test_pauses_double_until_the_time_is_over() -> None:
    pauses = []
    minutes = 0
    while (when := due(tried(minutes), HOUR, NOON + minutes * MINUTE)) is not None:
        pauses.append(int((when - NOON) / MINUTE) - minutes)
        minutes += pauses[-1]
    assert pauses == [1, 1, 2, 4, 8, 16, 28]
    assert minutes == 60


@given(st.integers(0, 100), st.integers(1, 90), st.integers(1, 90))
def test_next_try_is_later_than_the_last_and_never_after_the_end(age: int, first: int, most: int) -> None:
    when = due(tried(age), RetrySchedule(first * MINUTE, most * MINUTE, last=True), NOON)
    assert (when is None) == (age >= most)
    assert when is None or NOON + age * MINUTE < when <= NOON + most * MINUTE


def test_letter_that_is_too_old_is_left_alone_unless_something_depends_on_it() -> None:
    later = NOON + 61 * MINUTE
    assert due(tried(0), HOUR, later) is None
    assert due(tried(0), HOUR._replace(last=True), later) == NOON + MINUTE


def test_reason_without_patience_is_never_tried() -> None:
    assert due(head(1), None, NOON) is None


def waiting(*numbers: int) -> WaitingList:
    made = WaitingList(lambda reason: HOUR if reason == "unmapped_item" else None)
    made.take_in([dead(number) for number in numbers], DLQ, NOON)
    return made


def test_letters_wait_and_the_others_are_passed_over() -> None:
    made = WaitingList(lambda reason: HOUR if reason == "unmapped_item" else None)
    made.take_in([dead(1, reason=Reason.INVALID_JSON), dead(2), dead(3, reason=Reason.INVALID_JSON)], DLQ, NOON)
    assert (len(made), made.places()) == (1, {0: 2})
    assert made.ripe(NOON, 10) == []
    [ripe] = made.ripe(NOON + MINUTE, 10)
    made.done([ripe])
    assert made.places() == {0: 4}


def test_place_is_the_first_that_still_waits() -> None:
    made = waiting(1, 2, 3)
    made.done(made.ripe(NOON + MINUTE, 2))
    assert made.places() == {0: 3}


def test_partition_that_went_away_is_forgotten() -> None:
    made = waiting(1, 2)
    made.forget([0])
    assert (len(made), made.places()) == (0, {})


def test_no_more_is_read_while_too_many_wait() -> None:
    made = waiting(*range(MOST_WAITING))
    assert made.full() == {0}
    made.done(made.ripe(NOON + MINUTE, 1))
    assert made.full() == set()


def test_truncated_letter_does_not_wait() -> None:
    made = WaitingList(lambda _: HOUR)
    made.take_in([dead(1, headers=[("tillstream.truncated", b"99")])], DLQ, NOON)
    assert len(made) == 0


def test_letters_that_wait_are_counted_by_reason() -> None:
    made = waiting(1, 2)
    assert made.by_reason() == {"unmapped_item": 2}
    made.done(made.ripe(NOON + MINUTE, 10))
    assert made.by_reason() == {}
