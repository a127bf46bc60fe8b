"""What becomes of a batch: every record ends in one place, whatever else is in the batch and whatever fails."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.dead_letter import Reason
from schemas.document import ErpDocument
from schemas.store import Store, Stores
from sinks.base import Result, SinkUnavailable
from sinks.memory import MemorySink
from streams.batch import Arrival, BatchOutcome, Rejection
from streams.dead_letters.budget import BudgetExceeded, BudgetGuard
from streams.dead_letters.record import reason_of
from streams.decode import decode
from streams.pipeline import first_turn, process, split_day_closes
from streams.sources.source import Source
from tests.support.events import batch, event, value
from tests.support.line import Line
from tests.support.mapping import table_mapper


async def send(line: Line, *values: bytes | None, first: int = 0) -> BatchOutcome:
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
    assert len(settled.skipped) == 1


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
    assert len(settled.skipped) == 1
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
    line.services.mapper = lambda: table_mapper(items=[{"sku": "B", "item_code": "4711"}])
    first = await process(batch(value(1), value(2)), line.services)
    assert [rejection.reason for rejection in first.rejected] == [Reason.UNMAPPED_ITEM] * 2
    line.services.mapper = lambda: table_mapper(items=[{"sku": "A", "item_code": "4712"}])
    again = await process(batch(value(1), value(2)), line.services)
    assert len(again.delivered) == 2
    assert isinstance(line.sink, MemorySink)
    assert {d.lines[0].item_code for d in line.sink.documents.values()} == {"4712"}


async def test_mapping_that_changes_makes_no_conflict_of_an_event_sent_again() -> None:
    line = Line()
    for code in ("1", "2"):
        line.wipe_window()
        line.services.mapper = lambda code=code: table_mapper(items=[{"sku": "A", "item_code": code}])
        settled = await process(batch(value(1)), line.services)
        assert not settled.rejected
    assert len(settled.seen_in_sink) == 1


async def test_held_records_are_dead_letters_and_the_others_are_delivered() -> None:
    line = Line()
    line.services.mapper = lambda: table_mapper(cleaning={"old": {"days": 1, "then": "hold"}})
    settled = await process(batch(value(1), value(2, occurred_at="2026-03-01T12:00:00Z")), line.services)
    assert [rejection.reason for rejection in settled.rejected] == [Reason.HELD_TIME]
    assert [arrival.id for arrival in settled.delivered] == ["pos:e-1"]


def arrived(*values: bytes) -> list[Arrival]:
    return decode(batch(*values))[0]


def turns(arrivals: list[Arrival]) -> list[list[int]]:
    """The offsets of each round."""
    rounds: list[list[int]] = []
    while arrivals:
        turn, arrivals = first_turn(arrivals)
        rounds.append([arrival.record.offset for arrival in turn])
    return rounds


def test_event_waits_for_one_of_its_id_and_for_one_of_its_receipt() -> None:
    same_id = [value(1), value(1, receipt="9"), value(2)]
    same_receipt = [value(1), value(2, receipt="1"), value(3)]
    assert turns(arrived(*same_id)) == turns(arrived(*same_receipt)) == [[0, 2], [1]]


def test_event_waits_for_one_that_waits_itself() -> None:
    chain = [value(1), value(2, receipt="1"), value(2, receipt="8"), value(3, receipt="8")]
    assert turns(arrived(*chain)) == [[0], [1], [2], [3]]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=10))
def test_rounds_keep_the_order_of_each_event_and_each_receipt(stream: list[tuple[int, int]]) -> None:
    rounds = turns(arrived(*[value(number, receipt=str(receipt)) for number, receipt in stream]))
    place = {offset: number for number, turn in enumerate(rounds) for offset in turn}
    assert sorted(place) == list(range(len(stream)))
    assert all(turn == sorted(turn) for turn in rounds)
    for later, said in enumerate(stream):
        meeting = [n for n in range(later) if stream[n][0] == said[0] or stream[n][1] == said[1]]
        assert place[later] >= max((place[n] + 1 for n in meeting), default=0)
        assert (place[later] == 0) == (not meeting)


def test_day_closes_are_split_from_receipts() -> None:
    close = {"type": "day_close", "lines": [], "tenders": []}
    events = arrived(value(1), value(2, **close), value(3, type="return"), value(4, type="void"), value(5, **close))
    receipts, day_closes = split_day_closes(events)
    assert [arrival.record.offset for arrival in receipts] == [0, 2, 3]
    assert [arrival.record.offset for arrival in day_closes] == [1, 4]


async def test_replaced_document_is_delivered_and_a_late_one_is_superseded_too() -> None:
    line = Line()
    await send(line, value(1))
    replaced = await send(line, value(2, receipt="1", revision=2))
    late = await send(line, value(3, receipt="1", revision=1), value(4))
    assert [arrival.id for arrival in replaced.delivered] == ["pos:e-2"]
    assert replaced.superseded == []
    assert [arrival.id for arrival in late.delivered] == ["pos:e-3", "pos:e-4"]
    assert [arrival.id for arrival in late.superseded] == ["pos:e-3"]


async def test_all_rounds_of_a_batch_are_in_its_outcome() -> None:
    line = Line()
    await send(line, value(1))
    values = [value(1), value(2), value(2), value(3), value(4, receipt="3", cashier="C"), b"{"]
    values.insert(-1, value(5, receipt="3", revision=1))
    settled = await send(line, *values, first=1)
    assert [arrival.record.offset for arrival in settled.delivered] == [2, 4, 6]
    assert [arrival.record.offset for arrival in settled.seen_in_window] == [1, 3]
    assert [(rejection.record.offset, rejection.reason) for rejection in settled.rejected] == [
        (7, Reason.INVALID_JSON),
        (5, Reason.CONFLICTING_RECEIPT),
    ]


async def test_sink_that_answers_for_fewer_documents_than_it_got_is_a_bug() -> None:
    class Forgetful:
        async def write(self, documents: Sequence[ErpDocument]) -> list[Result]:
            return MemorySink().write(documents)[:-1]

        async def holds(self, external_refs: Sequence[str]) -> set[str]:
            return set()

    line = Line()
    line.services.sink = Forgetful()
    with pytest.raises(ValueError, match="zip"):
        await send(line, value(1), value(2))
    assert not line.chunks.kept
    assert not line.letters


async def test_rejection_says_where_its_record_failed_and_which_event_it_is() -> None:
    sink = MemorySink()
    sink.refuse(lambda document: True)
    line = Line(sink=sink, stores=Stores({"S1": Store()}, None))
    settled = await send(line, b"{", value(1, currency="EUX"), value(2, store="S9"), value(3))
    assert [(one.stage, one.event.receipt if one.event else "") for one in settled.rejected] == [
        ("decode", ""), ("check", "1"), ("map", "2"), ("write", "3"),
    ]  # fmt: skip
    assert settled.rejected[3].detail


class Accounts:
    """What the budget is charged with."""

    def __init__(self) -> None:
        self.charged: list[tuple[int, int, list[bool]]] = []

    def spend(self, records: int, rejected: int, in_order: Iterable[bool] = ()) -> None:
        self.charged.append((records, rejected, list(in_order)))


async def test_budget_is_charged_with_bad_records_in_their_order() -> None:
    line = Line()
    accounts = Accounts()
    line.services.budget = cast(BudgetGuard, accounts)
    await send(line, b"{", value(1), None, value(2, lines=[]), first=5)
    assert accounts.charged == [(4, 2, [True, False, False, True])]


async def test_refund_that_waits_for_its_sale_is_not_charged_to_the_budget() -> None:
    line = Line()
    accounts = Accounts()
    line.services.budget = cast(BudgetGuard, accounts)
    line.services.mapper = lambda: table_mapper(cleaning={"refunds": {"wait_minutes": 10, "then": "hold"}})
    settled = await send(line, value(1, type="return", original={"receipt": "9"}), b"{")
    assert len(settled.rejected) == 2
    assert accounts.charged == [(2, 1, [False, True])]


class Box:
    """A box that keeps what is put."""

    def __init__(self) -> None:
        self.put_in: list[tuple[str, int, list[int], str]] = []

    async def put(self, topic: str, partition: int, rejections: Sequence[Rejection], versions: str) -> None:
        self.put_in.append((topic, partition, [rejection.record.offset for rejection in rejections], versions))


class Fetching:
    """A source that can read the records that were prepared, and no others."""

    is_canonical = False
    label = "shop@7"

    def __init__(self) -> None:
        self.prepared: list[Any] = []

    async def prepare(self, records: Sequence[Any]) -> None:
        self.prepared += records

    def events(self, record: Any) -> Iterator[dict[str, Any]]:
        assert record in self.prepared
        yield event(record.offset)


@pytest.mark.parametrize(
    ("contract", "mapping", "versions"),
    [
        (False, False, ""), (True, False, "shop@7"),
        (False, True, "canonical {}"), (True, True, "shop@7 {}"),
    ],
)  # fmt: skip
async def test_dead_letters_carry_the_versions_that_they_were_read_by(
    contract: bool, mapping: bool, versions: str
) -> None:
    line = Line()
    box = line.services.dead_letters = Box()
    of = table_mapper(items=[{"sku": "B", "item_code": "4711"}])
    if contract:
        line.services.source = cast(Source, Fetching())
    if mapping:
        line.services.mapper = lambda: of
    settled = await process(batch(value(1, lines=[]), first=3, partition=2), line.services)
    bad = [rejection.record.offset for rejection in settled.rejected]
    assert box.put_in == [("pos.sales", 2, bad, versions.format(of.label))]
    assert bad == ([] if contract and not mapping else [3])


async def test_schemas_are_fetched_before_the_whole_batch_is_read() -> None:
    line = Line()
    source = Fetching()
    line.services.source = cast(Source, source)
    settled = await send(line, b"1", b"2", first=1)
    assert [arrival.id for arrival in settled.delivered] == ["pos:e-1", "pos:e-2"]
    assert [record.offset for record in source.prepared] == [1, 2]


async def test_window_is_the_batchs_partitions_own() -> None:
    line = Line()
    await process(batch(value(1), partition=3), line.services)
    assert [key for key, _, _ in line.chunks.rows()] == ["3/0"]
    assert len((await process(batch(value(1), partition=3), line.services)).seen_in_window) == 1
    assert len((await process(batch(value(1), partition=4), line.services)).seen_in_sink) == 1


async def test_findings_are_counted_once_when_the_batch_is_settled() -> None:
    line = Line()
    counted: list[Any] = []
    mapper = table_mapper(cleaning={"gross": {"at_most": 3, "then": "flag"}})
    line.services.mapper = lambda: mapper
    line.services.count_findings = counted.append
    large = {
        "lines": [{"sku": "A", "quantity": "9", "unit_price": "1.50", "tax_rate": "19"}],
        "totals": {"gross": "13.50"},
        "tenders": [],
    }
    outcome = await send(line, value(1, **large), value(1, **large), value(2))
    assert counted == [outcome.findings]
    assert [(finding.rule, finding.policy) for finding in outcome.findings] == [("gross", "flag")]


async def test_findings_of_a_batch_that_exceeds_the_budget_are_not_counted() -> None:
    line = Line(budget=BudgetGuard(0.5, 5))
    counted: list[Any] = []
    mapper = table_mapper(cleaning={"old": {"days": 1, "then": "reject"}})
    line.services.mapper = lambda: mapper
    line.services.count_findings = counted.append
    with pytest.raises(BudgetExceeded):
        await send(line, *(value(n, occurred_at="2020-01-01T00:00:00Z") for n in range(5)))
    assert not counted
