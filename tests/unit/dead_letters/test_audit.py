"""The audit trail: what is written comes back whole, a follower notes all that is there, a ledger what counts."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import pytest
from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st

from ops.demo.embedded_broker import PARTITIONS, EmbeddedBroker
from sinks.base import ReferenceSnapshot
from streams.dead_letters.audit import (
    AuditAction,
    AuditOutcome,
    AuditTail,
    AuditWriter,
    Entry,
    LastOutcome,
    OutcomeEnd,
    ResolutionIndex,
    group_outcomes,
    new_action_id,
    parse_entries,
    read_entries,
)
from streams.dead_letters.header import DeadLetterHeader
from streams.dead_letters.removed_documents import erp_url, read_removed
from streams.kafka.errors import BrokerUnreachable
from streams.kafka.reader import TopicRecord
from streams.settings import Settings
from tests.support.dead_letters import head, outcome_of
from tests.support.events import NOON
from tests.support.wait import wait_until

#: The ends after which nothing is left to do, and the others.
CLOSING: list[OutcomeEnd] = ["delivered", "superseded", "duplicate", "noted", "parked", "resolved"]
OPEN: list[OutcomeEnd] = ["failed", "refused"]
#: Actions whose ids sort before and after `own`, and whose records lie in all partitions.
ACTIONS = ["a", "b", "c", "d", "own", "x", "y", "z"]


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    embedded = EmbeddedBroker()
    yield embedded
    embedded.close()


@pytest.fixture
def settings(broker: EmbeddedBroker, request: pytest.FixtureRequest) -> Settings:
    """Settings of a trail of the test's own."""
    made = Settings(broker=broker.address, audit_topic=request.node.name, max_record_bytes=1024)
    broker.create_topics([made.audit_topic])
    return made


def action(name: str, **changes: Any) -> AuditAction:
    return AuditAction(id=name, what="replay", state="begun", by="Ada", at=NOON, **changes)


def delivered(name: str, *numbers: int) -> list[Any]:
    return list(group_outcomes(name, [(head(number), "delivered", "", "") for number in numbers]))


SAID: dict[str, Any] = {
    "kind": "action", "id": "a", "what": "replay", "state": "begun", "by": "Ada", "at": NOON, "filter": {"store": "S1"},
    "reason": "corrected", "patch": [{"op": "test"}], "options": {"rate": 5}, "until": {3: 7}, "counts": {"noted": 2},
}  # fmt: skip
FULL = AuditAction.model_validate(SAID)


def test_entries_come_back_whole_and_in_order(settings: Settings) -> None:
    trail = AuditWriter(settings)
    ended = list(
        group_outcomes("a", [(head(1), "failed", "unmapped_item", "lines.0.sku"), (head(2), "delivered", "", "")])
    )
    trail.write(FULL)
    trail.write_outcomes(ended)
    trail.write(FULL.model_copy(update={"state": "done"}))
    trail.confirm()
    expected: list[Entry] = [FULL, *(outcome for one in ended for outcome in one.outcomes())]
    assert list(read_entries(settings, PARTITIONS)) == [*expected, FULL.model_copy(update={"state": "done"})]


def test_entries_of_all_partitions_are_read(settings: Settings) -> None:
    trail = AuditWriter(settings)
    for name in ACTIONS:
        trail.write(action(name))
    trail.confirm()
    assert sorted(entry.id for entry in read_entries(settings, PARTITIONS) if isinstance(entry, AuditAction)) == ACTIONS


def test_documents_that_an_action_takes_back_are_kept_in_the_trail(settings: Settings) -> None:
    both = [
        ReferenceSnapshot("pos/S1/R1/1/sale", {"documents": [{"sku": "A"}]}),
        ReferenceSnapshot("pos/S1/R1/2/sale", {}),
    ]
    AuditWriter(settings).write_removed("a", both)
    assert read_removed(settings, "a") == (both, [], erp_url(settings))
    assert read_removed(settings, "b") == ([], [], "")


def test_keeping_fails_when_the_broker_does_not_take_the_documents(settings: Settings) -> None:
    with pytest.raises(BrokerUnreachable):
        AuditWriter(settings).write_removed("a", [ReferenceSnapshot("x" * 200_000, {})])


def test_confirming_fails_when_the_broker_does_not_take_an_entry(settings: Settings) -> None:
    trail = AuditWriter(settings)
    trail.write(action("a", reason="x" * 200_000))
    with pytest.raises(BrokerUnreachable):
        trail.confirm()


@dataclass
class Followed:
    """A trail, a ledger and the follower that reads the one into the other."""

    settings: Settings
    exclude: str = ""

    def __post_init__(self) -> None:
        self.trail = AuditWriter(self.settings)
        self.ledger = ResolutionIndex()

    @cached_property
    def follower(self) -> AuditTail:
        """Opened when it is first asked for, so that it finds what was written before."""
        return AuditTail(self.settings, PARTITIONS, self.ledger, self.exclude)

    def write(self, name: str, *numbers: int) -> None:
        self.trail.write_outcomes(delivered(name, *numbers))
        self.trail.confirm()

    def closed(self, most: int) -> list[int]:
        return [number for number in range(most) if self.ledger.is_closed(head(number))]

    def closed_after_reading(self, most: int) -> list[int]:
        self.follower.read()
        return self.closed(most)


@pytest.fixture
def followed(settings: Settings) -> Iterator[Followed]:
    made = Followed(settings)
    yield made
    made.follower.close()


def test_first_read_notes_all_partitions(followed: Followed) -> None:
    for number, name in enumerate(ACTIONS):
        followed.write(name, number)
    assert followed.closed_after_reading(10) == list(range(len(ACTIONS)))


def test_first_read_goes_on_until_the_longest_partition_has_ended(followed: Followed) -> None:
    for number in range(20):  # a batch each, of which the broker sends one at a time
        followed.write("a", number)
    assert followed.closed_after_reading(21) == list(range(20))


def test_later_read_notes_what_has_come_since(followed: Followed) -> None:
    assert followed.closed_after_reading(3) == []
    for number in range(3):
        followed.write("a", number)
        wait_until(lambda number=number: number in followed.closed_after_reading(3), 10, "the outcome")
    assert followed.closed(4) == [0, 1, 2]


def test_partition_that_ends_twice_does_not_end_another(followed: Followed) -> None:
    class Ended:
        def __init__(self, partition: int) -> None:
            self.partition = lambda: partition
            self.error = lambda: KafkaError(KafkaError._PARTITION_EOF)

    followed.write("a", 1)
    followed.follower._note([Ended(0)] * PARTITIONS)
    assert followed.closed_after_reading(2) == [1]


def test_entries_about_no_letter_are_passed_over(followed: Followed) -> None:
    followed.trail.write(action("a"))
    followed.trail.write_removed("a", [ReferenceSnapshot("pos/S1/R1/1/sale", {})])
    followed.write("a", 1)
    assert followed.closed_after_reading(2) == [1]


def test_outcomes_of_the_readers_own_action_are_left_out(settings: Settings) -> None:
    followed = Followed(settings, exclude="own")
    for number, name in enumerate(ACTIONS):
        followed.write(name, number)
    expected = [number for number, name in enumerate(ACTIONS) if name != "own"]
    assert followed.closed_after_reading(10) == expected
    followed.follower.close()


@pytest.mark.parametrize(
    "code", [KafkaError._ALL_BROKERS_DOWN, KafkaError._FAIL, KafkaError.TOPIC_AUTHORIZATION_FAILED]
)
def test_error_of_the_broker_ends_the_reading(followed: Followed, code: int) -> None:
    class Failed:
        def error(self) -> KafkaError:
            return KafkaError(code)

    followed.follower._consumer.close()
    followed.follower._consumer = FakeConsumer([Failed()])
    with pytest.raises(BrokerUnreachable, match=re.escape(f"reading {followed.settings.audit_topic} at ")):
        followed.follower.read()


class FakeConsumer:
    """A consumer that has these messages."""

    def __init__(self, messages: list[Any]) -> None:
        self._messages = messages

    def consume(self, count: int, timeout: float) -> list[Any]:
        return self._messages

    def close(self) -> None:
        pass


def test_follower_that_is_closed_reads_no_more(settings: Settings) -> None:
    follower = AuditTail(settings, PARTITIONS, ResolutionIndex())
    follower.close()
    with pytest.raises(RuntimeError):
        follower.read()


def record(value: bytes | None) -> TopicRecord:
    return TopicRecord(0, 0, 0, b"a", value, [])


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b'{"kind":"days"}', b'{"kind":"action"}'])
def test_record_of_another_make_has_no_entries(value: bytes | None) -> None:
    assert parse_entries(record(value)) == ()


def test_fields_of_a_later_version_are_ignored() -> None:
    later = FULL.model_dump_json().encode()[:-1] + b',"colour":"red"}'
    (read,) = parse_entries(record(later))
    assert isinstance(read, AuditAction)
    assert read.model_dump() == SAID


def test_action_of_which_little_is_said_has_empty_fields() -> None:
    bare = b'{"kind":"action","id":"a","what":"replay","state":"begun","by":"Ada","at":"2026-03-10T12:00:00Z"}'
    (read,) = parse_entries(record(bare))
    assert isinstance(read, AuditAction)
    nothing: dict[str, Any] = {"filter": {}, "reason": "", "patch": None, "options": {}, "until": {}, "counts": {}}
    assert read.model_dump() == SAID | nothing


def test_outcome_without_a_reason_has_an_empty_one() -> None:
    bare = (
        b'{"kind":"outcomes","action":"a","topic":"t","partition":1,"attempts":2,"end":"delivered",'
        b'"at":"2026-03-10T12:00:00Z","letters":[[3,"d",4,5]]}'
    )
    assert parse_entries(record(bare)) == (AuditOutcome("a", "t", 1, 3, "d", 2, (4, 5), "delivered", NOON, "", ""),)
    assert AuditOutcome("a", "t", 1, 3, "d", 2, (4, 5), "delivered", NOON)[-2:] == ("", "")


def test_outcomes_have_the_time_they_were_made_at() -> None:
    before = datetime.now(UTC)
    assert before <= outcome_of(head(1), "a", "delivered").at <= datetime.now(UTC)


def test_id_is_its_time_to_the_millisecond_and_two_digits_by_chance() -> None:
    before = datetime.now(UTC)
    ids = [new_action_id() for _ in range(100)]
    for each in ids:
        assert re.fullmatch(r"\d{8}-\d{6}-\d{3}[0-9a-f]{2}", each)
        at = datetime.strptime(each[:-2] + "000+0000", "%Y%m%d-%H%M%S-%f%z")
        assert before - timedelta(milliseconds=1) < at <= datetime.now(UTC)
    assert len({each[-2:] for each in ids}) > 1


def letter(attempts: int) -> DeadLetterHeader:
    """Letter 1, whose record has failed `attempts` times."""
    return replace(head(1), attempts=attempts)


outcomes = st.lists(st.tuples(st.integers(1, 3), st.sampled_from([*CLOSING, *OPEN])), max_size=8)


@given(outcomes, st.sampled_from([CLOSING, ["delivered"], ["delivered", "failed"]]))
def test_ledger_is_the_last_end_of_the_latest_attempt(
    ended: list[tuple[int, OutcomeEnd]], closing: list[OutcomeEnd]
) -> None:
    ledger = ResolutionIndex(closing) if closing is not CLOSING else ResolutionIndex()
    for attempts, end in ended:
        ledger.note(outcome_of(letter(attempts), "a", end))
    last = max((attempts for attempts, _ in ended), default=0)
    ends = [end for attempts, end in ended if attempts == last]
    closed = [end for end in ends if end in closing]
    for attempts in range(1, 5):
        about = LastOutcome(last, (closed or ends)[-1]) if ended and attempts <= last else None
        assert ledger.last_outcome(letter(attempts)) == about
        assert ledger.is_closed(letter(attempts)) == (about is not None and bool(closed))
    assert ledger.last_outcome(head(2)) is None
    assert not ledger.is_closed(head(2))
