"""The facts of a reconciliation, fetched: which days are asked for, what is read, and what the topic has lost."""

import asyncio
import json
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from ops.dlq.close import park, resolve
from ops.dlq.filters import DeadLetterFilter
from ops.reconcile import fetch
from ops.reconcile.day_states import current_state
from ops.reconcile.event_store import EventStore
from ops.reconcile.expected_documents import ExpectedDocuments
from ops.reconcile.rows import SentRow
from ops.reconcile.run import (
    ReconciliationResult,
    StatesByDay,
    _held,
    _late,
    _start_dates,
    open_sink_and_expected,
    read_all,
    reconcile,
    unbalanced,
    update_states,
)
from ops.reconcile.store_day import DayReport
from schemas.store import Store, Stores
from sinks.base import SinkMisconfigured
from sinks.memory import MemorySink
from streams.batch import Batch
from streams.dead_letters.day_states import read_day_states
from streams.kafka import reader as topics
from streams.kafka.errors import BrokerUnreachable, TopicsUnusable
from streams.mapping.mapper import IdentityMapper
from streams.sources.canonical import CANONICAL
from tests.support.events import FakeRecord
from tests.support.reconciliation import DAYS, TOPIC, Clock, Desk, ref, sold

NOW = datetime(2026, 3, 20, tzinfo=UTC)
JUDGE = ExpectedDocuments(CANONICAL, IdentityMapper(Stores({}, Store())))
FIRST = date(2026, 3, 10)


class Asked(MemorySink):
    """A sink that keeps in mind for which days it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.days: list[tuple[str | None, date | None, bool]] = []

    def totals(self, store: str | None = None, day: date | None = None, *, deep: bool = False) -> list[Any]:
        self.days.append((store, day, deep))
        return [day]


@pytest.mark.parametrize(("first", "days"), [(None, 0), (FIRST, 31), (FIRST, 0), (FIRST, 32)])
def test_few_days_are_asked_for_one_by_one(first: date | None, days: int) -> None:
    sink = Asked()
    held = _held(sink, "S1", first, FIRST + timedelta(days=days), deep=True)
    single = [FIRST + timedelta(days=number) for number in range(days + 1)]
    expected: list[date | None] = [None] if first is None or days > 31 else [*single]
    assert held == expected
    assert sink.days == [("S1", day, True) for day in expected]


def test_reading_begins_two_weeks_earlier_and_then_at_the_topics_beginning() -> None:
    assert list(_start_dates(None)) == [None]
    assert list(_start_dates(FIRST)) == [FIRST, date(2026, 2, 24), None]
    assert list(_start_dates(date(1, 1, 5))) == [date(1, 1, 5), date.min, None]


@pytest.mark.parametrize(
    ("day", "arrived", "late"),
    [
        ("2026-03-09", "2026-03-12T00:00:00.001", True),
        ("2026-03-09", "2026-03-12T00:00:00.000", False),  # a day after it was over, wherever on Earth
        ("2026-03-10", "2026-03-20T00:00:00.000", False),  # was asked for
        ("2026-03-01", "2026-03-07T00:00:00.001", True),
        ("2026-03-01", "2026-03-07T00:00:00.000", False),  # long ago
    ],
)
def test_late_is_what_came_after_its_day_and_not_long_ago(day: str, arrived: str, late: bool) -> None:
    event_store = EventStore()
    at = int(datetime.fromisoformat(f"{arrived}+00:00").timestamp() * 1000)
    row = SentRow(0, 0, 0, "d", at)._replace(event_id="e", ref="r", store="S1", day=day, source="pos")
    event_store.add([row, row._replace(offset=1, event_id="f", ref="", store="", day="")])
    assert _late(event_store, FIRST) == (date.fromisoformat(day) if late else None)
    event_store.close()


def losing(monkeypatch: pytest.MonkeyPatch, lost: dict[int, int] | None = None) -> list[dict[int, tuple[int, int]]]:
    """Begin the topic's partitions at the `lost` offsets, as if retention had deleted what was before; what is read."""
    of_the_broker, read = topics.offset_ranges, topics.read_spans
    spans_read: list[dict[int, tuple[int, int]]] = []

    def offset_ranges(consumer: Any, topic: str, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        there = of_the_broker(consumer, topic, partitions)
        begins = (lost or {}) if topic == TOPIC else {}
        return {number: (min(high, max(low, begins.get(number, 0))), high) for number, (low, high) in there.items()}

    def read_spans(consumer: Any, topic: str, spans: dict[int, tuple[int, int]], *more: Any) -> Any:
        spans_read.append(spans)
        return read(consumer, topic, spans, *more)

    monkeypatch.setattr(Clock, "begins", lost or {})
    monkeypatch.setattr(fetch, "offset_ranges", offset_ranges)
    monkeypatch.setattr(fetch, "read_spans", read_spans)
    return spans_read


def test_of_the_topic_is_read_what_can_concern_the_days(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = losing(monkeypatch)
    found = reconcile(desk.settings, store="S1", first=date(2026, 3, 13), last=date(2026, 3, 13))
    assert (found.days, spans) == ([], [{1: (9, 11)}])  # two days before
    del spans[:]
    found = reconcile(desk.settings, first=date(2026, 3, 12))
    assert (found.days, found.balanced, spans) == ([], True, [{1: (5, 11), 2: (2, 3)}])


def test_all_of_the_topic_is_read_for_a_document_that_no_record_explains(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.execute(f"UPDATE documents SET business_date = '2026-03-13' WHERE external_ref = '{ref(2)}'")
    spans = losing(monkeypatch)
    found = desk.reconcile("--day", "2026-03-13", "--no-save", code=1)
    assert [each["kind"] for day in found["days"] for each in day["differences"]] == ["moved"]
    whole = {1: (0, 11), 2: (0, 3)}
    assert [each for each in spans if len(each) > 1 or each.get(1) == (9, 11)] == [{1: (9, 11)}, whole]


@pytest.mark.parametrize(("store", "times"), [("S1", 1), ("S2", 3), (None, 3)])
def test_all_of_the_topic_is_read_for_a_register_whose_close_before_was_not(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, store: str | None, times: int
) -> None:
    spans = losing(monkeypatch)
    day = date.fromisoformat(DAYS[0])  # on which a register of S2 closes
    assert reconcile(desk.settings, store=store, first=day, last=day).balanced
    assert spans == [{1: (0, 11), 2: (0, 3)}] * times


def test_documents_whose_records_have_left_the_topic_cannot_be_proved(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    losing(monkeypatch, {1: 3})
    shown = desk.run("reconcile", code=1)
    assert "the topic has lost records of 2026-03-09 and earlier days" in shown
    proof = "3.00 EUR in 1 receipt"  # of the others a later record is there
    lost = f"store S1, 2026-03-09: {proof} can't be proved: their records have left the topic"
    assert lost in shown
    assert shown.endswith(
        "5 store-days: 2 balanced, 1 incomplete, 2 unproved. Books agree as far as can be proved. "
        f"NOT PROVED: {proof}, whose records have left the topic. NOT BOOKED: 9.99 EUR in 1 receipt."
    )
    found = desk.reconcile("--day", DAYS[0], "--store", "S1", "--allow-open")
    assert (found["lost_until"], found["unjudged"], found["books"]) == (DAYS[0], 1, "not proved")
    refused = desk.run("reconcile", "sign", "--day", DAYS[0], "--store", "S1", code=2)
    assert f"the day is not balanced (not proved: {proof}): give the reason with --comment" in refused


def test_money_in_dead_letters_is_told_when_their_records_have_left_the_topic(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    losing(monkeypatch, {1: 99, 2: 99})
    found = desk.reconcile("--allow-open", "--no-save")
    assert found["unbooked"]["amounts"] == {"EUR": {"receipts": 1, "gross": "9.99"}}
    assert found["unproved"]["receipts"] == 10
    assert found["lost_until"] == f"{datetime.now(UTC):%Y-%m-%d}"
    day = next(day for day in found["days"] if day["day"] == DAYS[1] and day["store"] == "S1")
    assert [letter["letter"] for letter in day["dead_letters"]] == ["3:0 totals_mismatch"]
    (way,) = json.loads(desk.raw("explain", "13", "--json"))
    assert [step["what"] for step in way["steps"]][-1] == "now: NOT BOOKED"


def read(desk: Desk, first: date | None = None) -> tuple[fetch.TopicExtent, EventStore, list[int]]:
    """What is read of the topic, with how many records were read from time to time."""
    event_store, told = EventStore(), list[int]()
    extent = asyncio.run(read_all(desk.settings, event_store, JUDGE, NOW, first, told.append))
    return extent, event_store, told


def test_extent_is_what_the_topic_has_and_what_was_read_of_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    losing(monkeypatch, {1: 3, 2: 1})
    extent, event_store, told = read(desk)
    assert extent.begins == extent.starts == {0: 0, 1: 3, 2: 1, 3: 0}
    assert (extent.ends, told[-1]) == ({0: 0, 1: 11, 2: 3, 3: 0}, 10)
    assert extent.lost == datetime(2026, 3, 9, 13, tzinfo=UTC)
    assert [event.offset for event in event_store.events_of(ref(3))] == [3]
    assert [extent.lacks(1, offset) for offset in (0, 2, 3, 10, 11)] == [True, True, True, True, False]
    assert not extent.lacks(9, 0)
    extent, _, told = read(desk, date(2026, 3, 12))
    assert (extent.starts[1], extent.starts[0], extent.lost, told[-1]) == (5, 0, None, 7)
    assert [extent.lacks(1, offset) for offset in (2, 3, 4, 5)] == [True, False, False, True]


def test_documents_of_records_are_made_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    _, event_store, _ = read(desk)
    events = [event for number in (1, 2, 3, 11, 21) for event in event_store.events_of(ref(number))]
    made = asyncio.run(fetch.sent_documents(desk.settings, JUDGE, NOW, events))
    assert {name: document.event_id for name, document in made.items()} == {
        ref(1): made[ref(1)].event_id,
        **{ref(number): f"pos:e-{number}" for number in (2, 3, 11, 21)},
    }
    assert asyncio.run(fetch.sent_documents(desk.settings, JUDGE, NOW, [])) == {}
    first = asyncio.run(fetch.sent_documents(desk.settings, JUDGE, NOW, event_store.events_of(ref(11)) + events[:2], 1))
    assert list(first) == [ref(11)]
    losing(monkeypatch, {1: 5})
    assert set(asyncio.run(fetch.sent_documents(desk.settings, JUDGE, NOW, events))) == {ref(11), ref(21)}


def test_near_offsets_are_read_in_one_go() -> None:
    assert fetch._spans([]) == []
    assert fetch._spans([3, 4, 503, 1004]) == [(3, 504), (1004, 1005)]
    assert fetch._spans([0, 500]) == [(0, 501)]
    assert fetch._spans([0, 501]) == [(0, 1), (501, 502)]


def test_letters_closed_by_hand_are_told_with_who_and_why(desk: Desk) -> None:
    (letter,) = fetch.dead_letters(desk.settings)
    digest = letter.digest
    assert letter == (1, 8, digest, "totals_mismatch", "3:0", "", "", "")
    park(desk.settings, DeadLetterFilter(), "grace", "later")
    *_, letter = fetch.dead_letters(desk.settings)
    assert letter == (1, 8, digest, "totals_mismatch", "3:0", "parked", "grace", "later")
    assert "dead letters, parked by grace (later): totals_mismatch (1; 9.99 EUR): tillstream dlq list --all" in (
        desk.run("reconcile", "--no-save", code=1)
    )


def test_letter_that_is_resolved_makes_its_day_balanced(desk: Desk) -> None:
    resolve(desk.settings, DeadLetterFilter(), "grace", "a test sale")
    told = list(fetch.dead_letters(desk.settings))
    assert told[0][3:] == ("resolved", "3:0", "resolved", "grace", "a test sale")  # as the trail has it
    assert told[1][3:] == ("totals_mismatch", "3:0", "resolved", "grace", "a test sale")
    shown = desk.run("reconcile", "--no-save")
    decided = "Resolved by hand, not to be booked: 9.99 EUR in 1 receipt."
    assert shown.endswith(f"5 store-days: 5 balanced. Books agree. {decided} Balanced.")
    (way,) = json.loads(desk.raw("explain", "13", "--json"))
    ((end, detail),) = [(step["what"], step["detail"]) for step in way["steps"] if step["where"].startswith("action ")]
    assert (end, detail) == ("resolved", "a test sale")


def test_letters_of_other_topics_and_those_of_no_worker_are_none(desk: Desk) -> None:
    other = desk.settings.model_copy(update={"topic": "another"})
    assert list(fetch.dead_letters(other)) == []
    absent = desk.settings.model_copy(update={"dead_letter_topic": "absent", "audit_topic": "absent.audit"})
    assert list(fetch.dead_letters(absent)) == []


def test_group_that_has_read_nothing_is_at_the_beginning(desk: Desk) -> None:
    assert fetch.committed(desk.settings) == {0: 0, 1: 11, 2: 3, 3: 0}
    assert fetch.committed(desk.settings.model_copy(update={"group": "new"})) == dict.fromkeys(range(4), 0)
    with pytest.raises(TopicsUnusable, match=r"the topic absent does not exist at .*; set `topic`"):
        fetch.committed(desk.settings.model_copy(update={"topic": "absent"}))


def test_records_that_no_worker_has_come_to_wait(desk: Desk) -> None:
    desk.config.write_text(json.dumps(desk.said | {"group": "newer"}))
    desk.execute("DELETE FROM documents", "DELETE FROM deliveries")
    shown = desk.run("reconcile", "--no-save", code=1)
    assert "not booked, waiting for the worker: 24.00 EUR in 10 receipts" in shown
    narrowed = ("--store", "S2", "--day", DAYS[1])
    waits = "the day still waits for the worker (3.00 EUR in 1 receipt): it can be signed off after that"
    assert waits in desk.run("reconcile", "sign", *narrowed, code=2)


def test_reading_that_fails_names_topic_and_broker(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> Any:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    event_store = read(desk)[1]
    monkeypatch.setattr(fetch, "offset_ranges", failing)
    with pytest.raises(BrokerUnreachable, match=rf"reading {TOPIC} at 127\.0\.0\.1:\d+: "):
        read(desk)
    with pytest.raises(BrokerUnreachable, match=rf"reading {TOPIC} at 127\.0\.0\.1:\d+: "):
        asyncio.run(fetch.sent_documents(desk.settings, JUDGE, NOW, event_store.events_of(ref(11))))


def day_of(state: Any, **changes: Any) -> DayReport:
    return DayReport("S1", DAYS[0], [], state, **changes)


def test_states_are_noted_where_they_changed_and_the_topic_has_something(desk: Desk) -> None:
    days = [day_of("balanced"), DayReport("S1", DAYS[1], [], "unproved", lost=True)]
    found = ReconciliationResult(NOW, days, None)
    assert [state.state for state in update_states(desk.settings, found, "ada", save=False).values()] == [
        "balanced",
        "unproved",
    ]
    assert read_day_states(desk.settings) == {}
    update_states(desk.settings, found, "ada", save=True)
    kept = read_day_states(desk.settings)
    assert {key: [state.by for state in past] for key, past in kept.items()} == {("S1", DAYS[0]): ["ada"]}
    update_states(desk.settings, ReconciliationResult(NOW, days, None, history=kept), "grace", save=True)
    assert read_day_states(desk.settings) == kept


def test_states_and_signatures_are_noted_in_topics_that_are_there(desk: Desk) -> None:
    may_not = {"audit_topic": "absent.audit", "create_topics": False}
    with pytest.raises(TopicsUnusable, match=r"missing topics: absent\.audit; "):
        update_states(
            desk.settings.model_copy(update=may_not),
            ReconciliationResult(NOW, [day_of("balanced")], None),
            "ada",
            save=True,
        )
    desk.config.write_text(json.dumps(desk.said | may_not))
    signed = desk.run("reconcile", "sign", "--store", "S1", "--day", DAYS[2], code=2)
    assert "missing topics: absent.audit; create them, or set create_topics: true" in signed


def test_found_is_balanced_when_no_day_is_wrong_or_open() -> None:
    assert ReconciliationResult(NOW, [day_of("balanced")], None).balanced
    assert not ReconciliationResult(NOW, [day_of("open")], None).balanced
    lost = day_of("unproved", lost=True)
    assert not ReconciliationResult(NOW, [], None, unplaced=lost).balanced
    found = ReconciliationResult(NOW, [day_of("balanced"), lost], None)
    now: StatesByDay = {}
    assert unbalanced(found, now) == [lost]
    signed = current_state(lost, [], NOW, "ada").model_copy(update={"state": "signed off"})
    assert unbalanced(found, {("S1", DAYS[0]): signed}) == []


def test_sink_is_closed_when_the_work_fails(desk: Desk) -> None:
    with open_sink_and_expected(desk.settings) as (sink, expected):
        assert sink.totals()
        assert asyncio.run(expected.rows(Batch(TOPIC, 0, [FakeRecord(0, sold(1))]), NOW))[0]
    with (
        pytest.raises(SinkMisconfigured),
        open_sink_and_expected(desk.settings.model_copy(update={"sink_url": "nothing://"})),
    ):
        pass
