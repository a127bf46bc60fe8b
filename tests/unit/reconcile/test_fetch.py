"""The facts: how far a group is, where to begin to read, and when a day is over."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from ops.reconcile import fetch
from ops.reconcile.expected_documents import ExpectedDocuments
from streams.kafka.topics import BrokerUnreachable
from streams.settings import Settings, Store, Stores


class Coordinator:
    """A consumer whose broker answers with these errors first."""

    def __init__(self, *errors: int) -> None:
        self._errors = list(errors)

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        if self._errors:
            raise KafkaException(KafkaError(self._errors.pop(0)))
        return [TopicPartition(place.topic, place.partition, 7) for place in places]

    def close(self) -> None:
        assert not self._errors


def ask(monkeypatch: pytest.MonkeyPatch, consumer: Coordinator) -> dict[int, int]:
    def there(_: Any) -> dict[str, int]:
        return {"pos.sales": 2}

    monkeypatch.setattr(fetch, "partitions_of_topics", there)
    monkeypatch.setattr(fetch, "reading_consumer", lambda *_, **__: consumer)
    return fetch.committed(Settings(broker="127.0.0.1:9", topic="pos.sales", sink_url="sqlite:///erp.db"))


def test_coordinator_that_is_being_made_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS
    waited: list[float] = []
    monkeypatch.setattr(fetch, "sleep", waited.append)
    assert ask(monkeypatch, Coordinator(*errors)) == {0: 7, 1: 7}
    assert waited == [0.2, 0.2]


def test_what_does_not_pass_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BrokerUnreachable, match="offsets of tillstream"):
        ask(monkeypatch, Coordinator(KafkaError.GROUP_AUTHORIZATION_FAILED))


class Clock:
    """A consumer that is asked for the offset at a time."""

    def offsets_for_times(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        assert all(place.offset >= 0 for place in places)  # Kafka means something else by a time below 0
        return places


@pytest.mark.parametrize(("first", "at"), [(date(1970, 1, 4), 86_400_000), (date(1960, 1, 1), 0), (date.min, 0)])
def test_reading_begins_two_days_before_any_day(first: date, at: int) -> None:
    assert fetch._starts(Clock(), "pos.sales", {0: (0, 9)}, first) == {0: at}


@pytest.mark.parametrize(
    ("day", "cutoff", "over"),
    [
        ("2026-03-10", "04:00", "2026-03-11T03:00"),
        ("2026-03-28", "02:30", "2026-03-29T01:30"),  # the clock goes from 02:00 to 03:00 at 01:00 UTC
        ("2026-10-24", "02:30", "2026-10-25T01:30"),  # it shows 02:30 at 00:30 UTC, and again
    ],
)
def test_day_is_over_when_no_sale_can_belong_to_it_any_more(day: str, cutoff: str, over: str) -> None:
    store = Store.model_validate({"timezone": "Europe/Berlin", "cutoff": cutoff})
    expected = ExpectedDocuments(Stores({"S1": store}, None), None, None)
    assert fetch.day_ends(expected, "S1", date.fromisoformat(day)) == datetime.fromisoformat(f"{over}+00:00")


@pytest.mark.parametrize("name", ["S1", "unknown"])
def test_last_day_that_there_is_never_ends(name: str) -> None:
    expected = ExpectedDocuments(
        Stores({"S1": Store.model_validate({"timezone": "America/New_York"})}, None), None, None
    )
    for day in (date(9999, 12, 30), date.max):
        assert fetch.day_ends(expected, name, day) >= datetime(9999, 12, 31, tzinfo=UTC)
