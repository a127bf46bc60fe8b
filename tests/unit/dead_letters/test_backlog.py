"""Which dead letters are open, each record once, and since when the oldest is."""

from datetime import timedelta

from streams.dead_letters.audit import OutcomeEnd, ResolutionIndex
from streams.dead_letters.backlog import OpenDeadLetters
from tests.support.dead_letters import DLQ, dead, head, outcome_of
from tests.support.events import NOON

HOUR = timedelta(hours=1)


def ledger(**ends: OutcomeEnd) -> ResolutionIndex:
    """What was done about letters: `n1="delivered"` about letter 1."""
    made = ResolutionIndex()
    for number, end in ends.items():
        made.note(outcome_of(head(int(number[1:])), "me", end))
    return made


def test_letters_are_open_until_something_ends_them() -> None:
    done = ledger(n1="delivered", n2="failed")
    letters = OpenDeadLetters(done, DLQ)
    letters.take_in([dead(number, now=NOON + number * HOUR) for number in (1, 2, 3)])
    assert (len(letters), letters.oldest()) == (2, NOON + 2 * HOUR)
    done.note(outcome_of(head(2), "me", "resolved"))
    letters.drop({0: 0})
    assert (len(letters), letters.oldest()) == (1, NOON + 3 * HOUR)


def test_record_that_failed_again_is_one_letter_as_old_as_the_first() -> None:
    letters = OpenDeadLetters(ResolutionIndex(), DLQ)
    first = dead(1)
    letters.take_in([first, dead(1, headers=first.headers, at=(0, 7), now=NOON + HOUR)])
    assert (len(letters), letters.oldest()) == (1, NOON)
    letters.drop({0: 5})  # the first one is gone from the topic, the newest is there
    assert (len(letters), letters.oldest()) == (1, NOON)


def test_letters_that_the_topic_has_no_more_are_not_open() -> None:
    letters = OpenDeadLetters(ResolutionIndex(), DLQ)
    letters.take_in([dead(1), dead(2)])
    letters.drop({0: 2})
    assert len(letters) == 1
    letters.drop({0: 3})
    assert (len(letters), letters.oldest()) == (0, None)


def test_first_letters_of_too_many_are_remembered() -> None:
    letters = OpenDeadLetters(ResolutionIndex(), DLQ, most=2)
    letters.take_in([dead(1), dead(2)])
    assert not letters.overflowed
    letters.take_in([dead(3, now=NOON + HOUR)])
    assert (len(letters), letters.oldest(), letters.overflowed) == (2, NOON, True)
