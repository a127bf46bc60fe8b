"""What becomes of a batch: every record ends in one place, whatever else is in the batch and whatever fails."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.deadletter import Reason
from sinks.base import SinkUnavailable
from sinks.memory import MemorySink
from streams.batch import Settled
from streams.deadletters import BudgetExceeded, BudgetGuard, reason_of
from streams.pipeline import process
from tests.support.events import batch, value
from tests.support.line import Line
from tests.support.mapping import master


async def send(line: Line, *values: bytes | None, first: int = 0) -> Settled:
    return await process(batch(*values, first=first), line.services)


def reasons(line: Line) -> Counter[Reason | None]:
    return Counter(reason_of(letter.headers) for letter in line.letters)


def documents(line: Line) -> dict[str, str]:
    assert isinstance(line.sink, MemorySink)
    return {ref: f"{document.gross} r{document.revision}" for ref, document in line.sink.documents.items()}


async def test_good_and_bad_of_a_batch_go_their_ways() -> None:
    line = Line()
    bad = [b"{", value(8, currency="EUX"), value(9, totals={"gross": "1.00"})]
    settled = await send(line, value(1), bad[0], value(2), bad[1], None, bad[2], value(3))
    assert list(documents(line)) == ["pos/S1/R1/1/sale", "pos/S1/R1/2/sale", "pos/S1/R1/3/sale"]
    assert [letter.value for letter in line.letters] == bad
    assert reasons(line) == {
        Reason.INVALID_JSON: 1,
        Reason.UNKNOWN_CURRENCY: 1,
        Reason.TOTALS_MISMATCH: 1,
    }
    assert len(settled.noted) == 1


async def test_resent_event_is_written_once() -> None:
    line = Line()
    await send(line, value(1))
    settled = await send(line, value(1), value(2))
    assert [arrival.id for arrival in settled.seen_in_window] == ["pos:e-1"]
    assert len(documents(line)) == 2


async def test_event_repeated_inside_a_batch_is_written_once() -> None:
    line = Line()
    settled = await send(line, value(1), value(1), value(1))
    assert (len(settled.delivered), len(settled.seen_in_window)) == (1, 2)


async def test_with_the_window_wiped_the_sink_still_writes_once() -> None:
    line = Line()
    await send(line, value(1))
    line.wipe_window()
    settled = await send(line, value(1))
    assert [arrival.id for arrival in settled.seen_in_sink] == ["pos:e-1"]
    assert len(documents(line)) == 1


async def test_duplicate_found_by_the_sink_is_known_to_the_window_afterwards() -> None:
    line = Line()
    await send(line, value(1))
    line.wipe_window()
    await send(line, value(1))
    assert len((await send(line, value(1))).seen_in_window) == 1


@pytest.mark.parametrize("wiped", [False, True])
@pytest.mark.parametrize("together", [False, True])
async def test_same_id_with_other_content_is_a_conflicting_duplicate(wiped: bool, together: bool) -> None:
    line = Line()
    first, changed = value(1), value(1, cashier="C")
    if together:
        await send(line, first, changed)
    else:
        await send(line, first)
        if wiped:
            line.wipe_window()
        await send(line, changed)
    assert reasons(line) == {Reason.CONFLICTING_DUPLICATE: 1}
    assert line.letters[0].value == changed


async def test_same_event_in_other_bytes_is_a_duplicate() -> None:
    line = Line()
    await send(line, value(1))
    settled = await send(line, b" " + value(1).replace(b'":', b'" : '))
    assert [arrival.id for arrival in settled.seen_in_sink] == ["pos:e-1"]
    assert not line.letters


async def test_difference_that_no_document_holds_is_a_conflict_too() -> None:
    line = Line()
    await send(line, value(1, customer={"id": "7", "email": "a@example.org"}))
    await send(line, value(1, customer={"id": "7", "email": "b@example.org"}))
    assert reasons(line) == {Reason.CONFLICTING_DUPLICATE: 1}


async def test_event_in_other_bytes_is_a_duplicate_after_a_newer_revision_took_its_place() -> None:
    line = Line()
    await send(line, value(1), value(2, receipt="1", revision=1))
    settled = await send(line, value(1).replace(b'":', b'" : '))
    assert len(settled.seen_in_sink) == 1
    assert not line.letters


async def test_repeat_of_a_rejected_event_is_judged_by_itself() -> None:
    line = Line()
    wrong, right = value(1, totals={"gross": "9.99"}), value(1)
    settled = await send(line, wrong, right, wrong)
    assert len(settled.delivered) == 1
    assert reasons(line) == {Reason.TOTALS_MISMATCH: 2}


async def test_newer_revision_replaces_and_an_older_one_does_nothing() -> None:
    line = Line()
    old, new = value(1), value(2, receipt="1", revision=1)
    await send(line, new, old)
    assert documents(line) == {"pos/S1/R1/1/sale": "3.00 r1"}
    assert not line.letters


async def test_two_events_that_claim_one_receipt_conflict() -> None:
    line = Line()
    await send(line, value(1), value(2, receipt="1", cashier="C"))
    assert reasons(line) == {Reason.CONFLICTING_RECEIPT: 1}


async def test_day_close_is_noted_and_writes_nothing() -> None:
    line = Line()
    settled = await send(line, value(1, type="day_close", lines=[], tenders=[]))
    assert len(settled.noted) == 1
    assert not documents(line)
    assert not line.letters


async def test_document_that_the_erp_refuses_keeps_nobody_back() -> None:
    sink = MemorySink()
    sink.refuse(lambda document: document.receipt == "2")
    line = Line(sink=sink)
    settled = await send(line, value(1), value(2), value(3))
    assert len(settled.delivered) == 2
    assert reasons(line) == {Reason.REFUSED_BY_SINK: 1}


async def test_sink_that_is_down_for_a_while_delays_and_loses_nothing() -> None:
    sink = MemorySink()
    line = Line(sink=sink)
    for _ in range(5):
        sink.fail_next(SinkUnavailable("connection", "down"))
    await send(line, value(1), b"{")
    assert len(documents(line)) == 1
    assert reasons(line) == {Reason.INVALID_JSON: 1}
    assert line.metrics.registry.get_sample_value("tillstream_sink_errors_total", {"kind": "connection"}) == 5
    assert line.metrics.registry.get_sample_value("tillstream_sink_up") == 1


async def test_bug_in_the_sink_comes_through_with_nothing_seen_or_dead_lettered() -> None:
    sink = MemorySink()
    sink.fail_next(ZeroDivisionError("bug"))
    line = Line(sink=sink)
    with pytest.raises(ZeroDivisionError):
        await send(line, value(1), b"{")
    assert not line.letters
    assert not line.chunks.kept


async def test_dead_letters_over_budget_are_not_put_and_the_good_are_safe() -> None:
    line = Line(budget=BudgetGuard(0.5, 10))
    with pytest.raises(BudgetExceeded):
        await send(line, value(1), *[b"{"] * 9)
    assert not line.letters
    assert len(documents(line)) == 1


async def test_dead_letters_not_confirmed_keep_the_batch_open() -> None:
    line = Line()
    confirmed = asyncio.Event()

    async def publish(letters: object) -> None:
        await confirmed.wait()

    line.services.dead_letters._publish = publish
    work = asyncio.create_task(send(line, value(1), b"{"))
    done, _ = await asyncio.wait([work], timeout=0.05)
    assert not done
    confirmed.set()
    assert len((await work).rejected) == 1


def some_values() -> list[bytes | None]:
    """Events that repeat, conflict, revise and fail, few enough to meet."""
    made: list[bytes | None] = [None, b"{"]
    for number in range(3):
        made += [value(number), value(number, cashier="C"), value(number, totals={"gross": "1.00"})]
        made += [value(number + 10 * r, receipt=str(number), revision=r) for r in (1, 2)]
        made += [value(number + 50, receipt=str(number)), value(number).replace(b'":', b'": ')]
    return made


@settings(max_examples=150)
@given(st.lists(st.sampled_from(some_values()), max_size=14), st.data())
def test_outcome_does_not_depend_on_how_the_stream_is_cut(stream: list[bytes | None], data: st.DataObject) -> None:
    async def run(sizes: list[int]) -> tuple[object, ...]:
        line, place = Line(), 0
        for size in sizes:
            await send(line, *stream[place : place + size], first=place)
            place += size
        letters = sorted((reason_of(made.headers) or "", made.value or b"") for made in line.letters)
        return documents(line), letters

    cuts: list[int] = []
    while sum(cuts) < len(stream):
        cuts.append(data.draw(st.integers(1, len(stream))))
    assert asyncio.run(run(cuts)) == asyncio.run(run([1] * len(stream)))


async def test_unmapped_records_are_dead_letters_that_one_row_and_one_replay_repair() -> None:
    line = Line()
    line.services.master = lambda: master(items=[{"sku": "B", "item_code": "4711"}])
    first = await process(batch(value(1), value(2)), line.services)
    assert [rejection.reason for rejection in first.rejected] == [Reason.UNMAPPED_ITEM] * 2
    line.services.master = lambda: master(items=[{"sku": "A", "item_code": "4712"}])
    again = await process(batch(value(1), value(2)), line.services)
    assert len(again.delivered) == 2
    assert isinstance(line.sink, MemorySink)
    assert {d.lines[0].item_code for d in line.sink.documents.values()} == {"4712"}


async def test_mapping_that_changes_makes_no_conflict_of_an_event_sent_again() -> None:
    line = Line()
    for code in ("1", "2"):
        line.wipe_window()
        line.services.master = lambda code=code: master(items=[{"sku": "A", "item_code": code}])
        settled = await process(batch(value(1)), line.services)
        assert not settled.rejected
    assert len(settled.seen_in_sink) == 1


async def test_held_records_are_dead_letters_and_the_others_are_delivered() -> None:
    line = Line()
    line.services.master = lambda: master(cleaning={"old": {"days": 1, "then": "hold"}})
    settled = await process(batch(value(1), value(2, occurred_at="2026-03-01T12:00:00Z")), line.services)
    assert [rejection.reason for rejection in settled.rejected] == [Reason.HELD_TIME]
    assert [arrival.id for arrival in settled.delivered] == ["pos:e-1"]
