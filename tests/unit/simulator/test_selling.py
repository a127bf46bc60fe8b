"""`sell` against librdkafka's own mock broker, and against brokers that don't answer."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import Any

import pytest
from confluent_kafka import Producer

from ops.simulator.tills import ConfirmedTally, EventPace, SimulatedRecord, sell, till_producer, traffic
from schemas.dead_letter import Reason

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def records(seed: int = 1) -> Iterator[SimulatedRecord]:
    return traffic(seed, lambda: NOON)


def mock_cluster() -> Producer:
    return till_producer("mock:9092", {"test.mock.num.brokers": 1, "log_level": 3})


def record(kind: Any, value: bytes = b"v", reason: Reason | None = None, type_: Any = "sale") -> SimulatedRecord:
    return SimulatedRecord(b"S001", value, kind, reason, Decimal("1.10"), "S001", type_)


class StoppingClock:
    """Time that passes only while somebody waits for it; an Event that is never set."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wait(self, timeout: float) -> bool:
        self.now += timeout
        return False

    def is_set(self) -> bool:
        return False


class InstantProducer:
    """Confirms at once."""

    def produce(self, topic: str, value: bytes, key: bytes, on_delivery: Callable[[None, None], None]) -> None:
        on_delivery(None, None)

    def poll(self, timeout: float) -> int:
        return 0

    def flush(self, timeout: float) -> int:
        return 0


def test_tally_counts_what_the_broker_confirmed() -> None:
    tally = ConfirmedTally()
    sell(mock_cluster(), "pos.sales", records(), None, threading.Event(), tally, limit=2_000)
    made = list(islice(records(), 2_000))
    assert (tally.sent, tally.failed.total()) == (2_000, 0)
    assert tally.fresh == tally.documents == sum(one.kind == "fresh" for one in made)
    assert tally.resent == sum(one.kind == "resent" for one in made)
    assert tally.broken.total() == sum(one.kind == "broken" for one in made)
    assert sum(tally.gross.values()) == sum(one.gross for one in made if one.kind == "fresh")
    assert set(tally.gross) == {"S001", "S002", "S003", "S004"}


def test_unanswered_records_are_failed_not_sent() -> None:
    tally = ConfirmedTally()
    nobody = till_producer("127.0.0.1:1", {"log_level": 0})
    sell(nobody, "pos.sales", records(), None, threading.Event(), tally, limit=20, flush_seconds=0.1)
    assert (tally.sent, tally.failed) == (0, {"_PURGE_QUEUE": 20})
    assert tally.gross == {}


def test_full_queue_is_waited_for_and_stop_ends_it() -> None:
    stop, tally = threading.Event(), ConfirmedTally()
    nobody = till_producer("127.0.0.1:1", {"log_level": 0, "queue.buffering.max.messages": 5})
    timer = threading.Timer(0.3, stop.set)
    timer.start()
    sell(nobody, "pos.sales", records(), None, stop, tally, flush_seconds=0.1)
    timer.join()
    assert (tally.sent, tally.failed.total()) == (0, 5)


def test_stop_ends_selling_with_everything_confirmed() -> None:
    stop, tally = threading.Event(), ConfirmedTally()
    timer = threading.Timer(0.3, stop.set)
    timer.start()
    sell(mock_cluster(), "pos.sales", records(), 200, stop, tally)
    timer.join()
    assert 0 < tally.sent < 80
    assert tally.failed.total() == 0


def test_pace_is_kept() -> None:
    clock: Any = StoppingClock()
    producer: Any = InstantProducer()
    sell(producer, "pos.sales", records(), 50, clock, ConfirmedTally(), limit=500, monotonic=clock.monotonic)
    assert clock.now == pytest.approx(499 / 50, abs=0.01)


def test_backlog_of_more_than_a_second_is_forgotten() -> None:
    clock: Any = StoppingClock()
    pace = EventPace(10, clock.monotonic)
    clock.now = 60.0
    due_at_once = 0
    while pace.ahead() <= 0:
        pace.advance()
        due_at_once += 1
    assert due_at_once == pytest.approx(12, abs=1)


def test_repetition_of_a_failed_event_is_its_first_arrival() -> None:
    tally = ConfirmedTally()
    tally.fail(record("fresh"), "_MSG_TIMED_OUT")
    tally.confirm(record("resent"))
    tally.confirm(record("resent"))
    assert (tally.fresh, tally.resent, tally.gross) == (1, 1, {"S001": Decimal("1.10")})
    assert tally.failed == {"_MSG_TIMED_OUT": 1}


def test_broken_records_and_day_closes_are_no_documents() -> None:
    tally = ConfirmedTally()
    tally.confirm(record("broken", reason=Reason.INVALID_JSON))
    tally.confirm(record("fresh", type_="day_close")._replace(gross=Decimal(0)))
    assert (tally.sent, tally.fresh, tally.day_closes, tally.documents) == (2, 1, 1, 0)
    assert tally.broken == {Reason.INVALID_JSON: 1}
    assert sum(tally.gross.values()) == 0
