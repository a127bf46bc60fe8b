"""Dead letters through the line again: a word for each, and what fails again keeps its own bytes."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from schemas.dead_letter import Reason
from schemas.document import ErpDocument
from sinks.base import Result
from sinks.memory import MemorySink
from streams.dead_letters.audit import (
    AuditOutcome,
    LastOutcome,
    OutcomeEnd,
    ResolutionIndex,
    group_outcomes,
    parse_entries,
)
from streams.dead_letters.header import DeadLetterHeader, parse_header
from streams.dead_letters.record import DeadLetterRecord
from streams.dead_letters.reprocess import (
    PartitionLocks,
    ReplayedDigests,
    ReplayRecord,
    ReplayResult,
    RequeueOrPark,
    for_dry_run,
    for_reprocessing,
    reprocess,
)
from streams.kafka.reader import TopicRecord
from streams.sink_retry import RetryingSink
from tests.support.dead_letters import DLQ, dead, head, outcome_of
from tests.support.events import NOON, value
from tests.support.line import Line


class Desk:
    """A line for letters, and the topics that what fails goes to."""

    def __init__(self, most_attempts: int = 5) -> None:
        self.line = Line(sink=MemorySink())
        self.sent: list[tuple[str, DeadLetterRecord]] = []
        self.back = RequeueOrPark(self._publish, DLQ, "parked", most_attempts, lambda: NOON)
        self.to = for_reprocessing(self.line.services, self.back)

    async def _publish(self, topic: str, letters: Sequence[DeadLetterRecord]) -> None:
        self.sent += [(topic, one) for one in letters]

    @property
    def sink(self) -> MemorySink:
        assert isinstance(self.line.sink, MemorySink)
        return self.line.sink

    async def reprocess(self, *letters: ReplayRecord) -> list[tuple[str, str]]:
        return [(each.end, each.reason) for each in await reprocess(letters, self.to, 2, self.back)]

    async def rehearse(self, *letters: ReplayRecord) -> list[ReplayResult]:
        assert isinstance(self.line.services.sink, RetryingSink)
        to, _ = for_dry_run(self.line.services, self.line.services.sink)
        return await reprocess(letters, to, 2)


def again(number: int = 1, mended: bytes | None = None, **changes: Any) -> ReplayRecord:
    record = dead(number, **changes)
    return ReplayRecord(parse_header(record, DLQ), record, mended if mended is not None else record.value, "r-1")


async def test_letter_that_passes_is_delivered_and_once_more_a_duplicate() -> None:
    desk = Desk()
    assert await desk.reprocess(again(1)) == [("delivered", "")]
    assert await desk.reprocess(again(1)) == [("duplicate", "")]
    assert (len(desk.sink.documents), desk.sent) == (1, [])


async def test_what_a_replay_brought_is_known_without_asking_the_sink_again() -> None:
    desk = Desk()
    asked: list[str] = []

    class Counting:
        holds = desk.to.sink.holds

        async def write(self, documents: Sequence[ErpDocument]) -> list[Result]:
            asked.extend(document.event_id for document in documents)
            return await desk.line.services.sink.write(documents)

    desk.to = replace(for_reprocessing(desk.line.services, desk.back, ReplayedDigests()), sink=Counting())
    other = again(1)
    other.head = replace(other.head, origin=other.head.origin._replace(partition=3, offset=7))
    assert await desk.reprocess(again(1), again(2)) == [("delivered", "")] * 2
    assert await desk.reprocess(other, again(3, lines=[]), again(2)) == [
        ("duplicate", ""),
        ("failed", "empty_receipt"),
        ("duplicate", ""),
    ]
    assert asked == ["pos:e-1", "pos:e-2"]
    assert await desk.reprocess(again(3)) == [("delivered", "")]  # what was refused is not known


async def test_letter_that_fails_again_keeps_its_bytes_and_gains_an_attempt() -> None:
    desk = Desk()
    first = again(1, totals={"gross": "9.00"}, headers=[("trace", b"t")])
    assert await desk.reprocess(first) == [("failed", "totals_mismatch")]
    [(topic, letter)] = desk.sent
    stated = dict(letter.headers)
    assert (topic, letter.value, letter.key) == (DLQ, first.letter.value, first.letter.key)
    assert (stated["tillstream.attempts"], stated["trace"]) == (b"2", b"t")
    assert stated["tillstream.replay_id"] == b"r-1"
    assert (stated["__connect.errors.topic"], stated["__connect.errors.offset"]) == (b"pos.sales", b"1")


async def test_mended_value_goes_through_the_line_and_never_into_the_topic() -> None:
    desk = Desk()
    assert await desk.reprocess(again(1, mended=value(1), totals={"gross": "9.00"})) == [("delivered", "")]
    broken = again(2, mended=b"{", totals={"gross": "9.00"})
    assert await desk.reprocess(broken) == [("failed", "invalid_json")]
    assert [letter.value for _, letter in desk.sent] == [broken.letter.value]


async def test_letter_that_failed_too_often_is_parked() -> None:
    desk = Desk(most_attempts=2)
    bad = {"totals": {"gross": "9.00"}}
    assert await desk.reprocess(again(1, **bad)) == [("failed", "totals_mismatch")]
    second = again(1, **bad, headers=dead(1, **bad).headers)
    assert await desk.reprocess(second) == [("parked", "totals_mismatch")]
    assert [topic for topic, _ in desk.sent] == [DLQ, "parked"]


async def test_letters_of_several_partitions_come_to_their_own_ends() -> None:
    desk = Desk()
    other = again(2)
    other.head = replace(other.head, origin=other.head.origin._replace(partition=3))
    assert await desk.reprocess(again(1), other, again(3, lines=[])) == [
        ("delivered", ""),
        ("failed", "empty_receipt"),
        ("delivered", ""),
    ]


async def test_calls_that_share_lanes_keep_the_order_of_a_partition() -> None:
    desk = Desk()
    inner, written = desk.to.sink, []
    open_gate = asyncio.Event()

    class Gated:
        holds = inner.holds

        async def write(self, documents: Sequence[ErpDocument]) -> list[Result]:
            written.append([document.receipt for document in documents])
            if "1" in written[-1]:
                await open_gate.wait()
            return await inner.write(documents)

    desk.to.sink = Gated()
    other = again(3)
    other.head = replace(other.head, origin=other.head.origin._replace(partition=3))
    lanes = PartitionLocks()
    first = asyncio.ensure_future(reprocess([again(1)], desk.to, 2, desk.back, lanes))
    second = asyncio.ensure_future(reprocess([again(2), other], desk.to, 2, desk.back, lanes))
    while ["3"] not in written:  # of another partition: it does not wait
        await asyncio.sleep(0)
    assert written == [["1"], ["3"]]
    open_gate.set()
    assert [each.end for each in [*await first, *await second]] == ["delivered"] * 3
    assert written == [["1"], ["3"], ["2"]]


def test_outcomes_that_are_alike_share_a_record_and_each_comes_back() -> None:
    ended: list[tuple[DeadLetterHeader, OutcomeEnd, str, str]] = [(head(n), "delivered", "", "") for n in range(5_000)]
    ended.insert(7, (head(1), "failed", "unmapped_item", "SKU-9"))
    records = [TopicRecord(0, 0, 0, b"", one.model_dump_json().encode(), []) for one in group_outcomes("a", ended)]
    assert [len(parse_entries(record)) for record in records] == [4_000, 1_000, 1]
    assert max(len(record.value or b"") for record in records) < 2**18
    back = [e for record in records for e in parse_entries(record) if isinstance(e, AuditOutcome)]
    told = [(e.action, e.origin, e.attempts, e.letter, e.end, e.reason, e.detail) for e in back]
    ended.append(ended.pop(7))
    assert told == [
        ("a", one.origin, one.attempts, (one.partition, one.offset), end, reason, detail)
        for one, end, reason, detail in ended
    ]


async def test_rehearsal_tells_what_would_be_and_changes_nothing() -> None:
    desk = Desk()
    told = await desk.rehearse(again(1), again(2, totals={"gross": "9.00"}))
    assert [(each.end, each.reason) for each in told] == [("delivered", ""), ("failed", "totals_mismatch")]
    assert [document.receipt for document in told[0].documents] == ["1"]
    assert (desk.sink.documents, desk.sent, desk.line.letters) == ({}, [], [])


async def test_rehearsal_of_two_letters_of_one_event_tells_of_the_conflict() -> None:
    desk = Desk()
    other = dead(9, event_id="e-1", receipt="1", cashier="B")
    told = await desk.rehearse(again(1), ReplayRecord(parse_header(other, DLQ), other, other.value))
    assert [(each.end, each.reason) for each in told] == [("delivered", ""), ("failed", "conflicting_duplicate")]
    newer = dead(10, event_id="e-2", receipt="1", revision=2)
    told = await desk.rehearse(ReplayRecord(parse_header(newer, DLQ), newer, newer.value), again(1))
    assert [each.end for each in told] == ["delivered", "superseded"]
    assert told[1].documents == ()  # it would change nothing


@pytest.mark.parametrize("end", ["delivered", "resolved", "parked"])
def test_ledger_closes_what_was_dealt_with_until_a_later_attempt(end: Any) -> None:
    ledger = ResolutionIndex()
    first = head(1)
    ledger.note(outcome_of(first, "a", end))
    later = head(1, headers=dead(1).headers, at=(0, 7))
    assert ledger.is_closed(first)
    assert ledger.is_closed(head(1, at=(0, 5)))  # the same letter, doubled by a crash
    assert not ledger.is_closed(later)
    assert not ledger.is_closed(head(2))


def test_failure_leaves_a_letter_open_and_tells_that_it_was_tried() -> None:
    ledger = ResolutionIndex()
    ledger.note(outcome_of(head(1), "a", "failed", Reason.UNMAPPED_ITEM.value))
    assert (ledger.is_closed(head(1)), ledger.last_outcome(head(1))) == (False, LastOutcome(1, "failed"))


def test_failure_beside_an_end_of_the_same_attempt_opens_nothing() -> None:
    ledger = ResolutionIndex()
    ledger.note(outcome_of(head(1), "a", "delivered"))
    ledger.note(outcome_of(head(1), "b", "refused"))
    assert ledger.is_closed(head(1))


def test_earlier_outcome_does_not_undo_a_later_one() -> None:
    ledger = ResolutionIndex()
    second = head(1, headers=dead(1).headers)
    ledger.note(outcome_of(second, "a", "delivered"))
    ledger.note(outcome_of(head(1), "b", "failed"))
    assert ledger.is_closed(second)


class Bug:
    """A window in which the line fails, for the records of one receipt. As `pipeline.SeenRecords`."""

    def split(self, partition: int, arrivals: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        if any(arrival.event.receipt == "2" for arrival in arrivals):
            raise ZeroDivisionError("a bug")
        return list(arrivals), []

    def add(self, partition: int, arrivals: Sequence[Any]) -> None:
        pass


async def test_letter_by_which_the_line_fails_goes_back_and_keeps_no_other_from_being_tried() -> None:
    desk = Desk()
    desk.to = for_reprocessing(desk.line.services, desk.back, Bug())
    ended = await desk.reprocess(again(1), again(2), again(3))
    assert ended == [("delivered", ""), ("failed", "ends_worker"), ("delivered", "")]
    ((topic, letter),) = desk.sent
    headers = dict(letter.headers)
    assert (topic, letter.value) == (DLQ, value(2))
    assert headers["tillstream.detail"] == b"(the whole record): ZeroDivisionError"


async def test_outage_of_a_replay_puts_nothing_back() -> None:
    desk = Desk()

    class Away(Bug):
        def split(self, partition: int, arrivals: Sequence[Any]) -> tuple[list[Any], list[Any]]:
            raise OSError(28, "no space left")

    desk.to = for_reprocessing(desk.line.services, desk.back, Away())
    with pytest.raises(OSError, match="no space left"):
        await desk.reprocess(again(1))
    assert desk.sent == []


async def test_two_records_at_one_offset_of_a_topic_that_was_created_again_both_go_back() -> None:
    desk = Desk()
    first, other = again(1, mended=b"{"), again(2, mended=b"[")
    other.head = replace(other.head, origin=other.head.origin._replace(offset=first.head.origin.offset))
    assert [end for end, _ in await desk.reprocess(first, other)] == ["failed", "failed"]
    assert [record.value for _, record in desk.sent] == [first.letter.value, other.letter.value]
