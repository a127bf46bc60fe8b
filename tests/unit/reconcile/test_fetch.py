"""The facts: where to begin to read, and when a day is over."""

from datetime import UTC, date, datetime

import pytest
from confluent_kafka import TopicPartition

from ops.reconcile import fetch
from ops.reconcile.expected_documents import ExpectedDocuments
from schemas.store import Store, Stores
from streams.mapping.mapper import IdentityMapper
from streams.sources.canonical import CANONICAL


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
    expected = ExpectedDocuments(CANONICAL, IdentityMapper(Stores({"S1": store}, None)))
    assert fetch.day_ends(expected, "S1", date.fromisoformat(day)) == datetime.fromisoformat(f"{over}+00:00")


@pytest.mark.parametrize("name", ["S1", "unknown"])
def test_last_day_that_there_is_never_ends(name: str) -> None:
    expected = ExpectedDocuments(
        CANONICAL, IdentityMapper(Stores({"S1": Store.model_validate({"timezone": "America/New_York"})}, None))
    )
    for day in (date(9999, 12, 30), date.max):
        assert fetch.day_ends(expected, name, day) >= datetime(9999, 12, 31, tzinfo=UTC)
