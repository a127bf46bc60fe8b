"""Opening hours: how they are written, when a store is open by them, and which stores say so."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from schemas.opening_hours import DAYS, OpeningHours, parse_hours
from schemas.store import Store, Stores
from streams.metrics import MOST_STORES, OTHER_STORES, WorkerMetrics
from streams.worker.open_stores import stores_open_now
from tests.support.mapping import table_mapper

BERLIN = ZoneInfo("Europe/Berlin")


def is_open(hours: str, local: str) -> bool:
    return parse_hours(hours).open_at(datetime.fromisoformat(local))


# 5 October 2026 is a Monday; summer time begins on 29 March and ends on 25 October.
@pytest.mark.parametrize(
    ("hours", "local", "expected"),
    [
        ("Mo-Fr 08:00-20:00", "2026-10-05T08:00", True),
        ("Mo-Fr 08:00-20:00", "2026-10-05T07:59", False),
        ("Mo-Fr 08:00-20:00", "2026-10-05T20:00", False),
        ("Mo-Fr 08:00-20:00", "2026-10-10T12:00", False),  # a Saturday
        ("Fr-Mo 8:00-20:00", "2026-10-11T12:00", True),
        ("Mo,We 08:00-12:00,14:00-18:00", "2026-10-07T13:00", False),
        ("Mo,We 08:00-12:00,14:00-18:00", "2026-10-07T14:00", True),
        ("Fr 20:00-02:00; Sa closed", "2026-10-10T01:59", True),  # Friday's night
        ("Fr 20:00-02:00; Sa closed", "2026-10-10T02:00", False),
        ("Fr 20:00-02:00", "2026-10-09T01:00", False),
        ("08:00-24:00", "2026-10-05T23:59", True),
        ("Mo-Su 08:00-20:00; Su off", "2026-10-11T12:00", False),
        ("08:00-20:00; Dec 25-26 closed", "2026-12-26T12:00", False),
        ("08:00-20:00; Dec 24-Jan 1 closed", "2027-01-01T12:00", False),
        ("08:00-20:00; Dec 24-Jan 1 closed", "2027-01-02T12:00", True),
        ("08:00-20:00; 2026 Dec 24 08:00-13:00", "2026-12-24T14:00", False),
        ("08:00-20:00; 2026 Dec 24 08:00-13:00", "2027-12-24T14:00", True),
        ("08:00-20:00; 2028 Feb 29 closed;", "2028-02-29T14:00", False),
        ("24/7", "2026-10-11T03:00", True),
    ],
)
def test_store_is_open_as_its_clock_and_the_last_rule_for_the_day_say(hours: str, local: str, expected: bool) -> None:
    assert is_open(hours, local) is expected


@pytest.mark.parametrize(
    ("hours", "message"),
    [
        ("", "'' are no opening hours; write them like 'Mo-Fr 08:00-20:00"),
        ("Montag 8-20", "'Montag 8-20' are no opening hours"),
        ("Mo-Fr 8-20", "'8-20' are no hours; write them like 08:00-20:00"),
        ("Mo-We-Fr 08:00-20:00", "'Mo-We-Fr' is no range of days"),
        ("Mo 08:00-25:00", "'08:00-25:00' are no hours"),
        ("Mo 08:00-24:30", "end at 24:00 at the latest"),
        ("Mo 24:00-08:00", "hours begin before 24:00"),
        ("Mo 08:00-08:00", "a whole day is 00:00-24:00"),
        ("Feb 30 closed", "there is no Feb 30"),
        ("2027 Feb 29 closed", "there is no Feb 29 in 2027"),
        ("Dec 26-25 closed", "'Dec 26-25 closed' ends before it begins"),
        ("2026 Dec 24-Jan 1 closed", "ends before it begins"),
        ("PH closed", "'PH closed' are no opening hours"),
    ],
)
def test_bad_hours_are_refused_with_the_reason(hours: str, message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(OpeningHours).validate_python(hours)
    assert message in str(refused.value)


spans = st.tuples(st.integers(0, 24 * 60 - 1), st.integers(1, 24 * 60)).filter(lambda span: span[0] != span[1])
weeks = st.dictionaries(st.sampled_from(DAYS), st.lists(spans, max_size=3), min_size=1)


def written(week: dict[str, list[tuple[int, int]]]) -> str:
    def clock(minutes: int) -> str:
        return f"{minutes // 60:02}:{minutes % 60:02}"

    return "; ".join(
        f"{day} {','.join(f'{clock(start)}-{clock(end)}' for start, end in spans) or 'closed'}"
        for day, spans in week.items()
    )


@given(weeks, st.datetimes(datetime.fromisoformat("2026-01-01"), datetime.fromisoformat("2027-12-31")))
def test_store_is_open_from_the_beginning_to_the_end_of_each_span(
    week: dict[str, list[tuple[int, int]]], local: datetime
) -> None:
    """The same by intervals of the clock, laid out around the moment."""
    expected = False
    for back in (0, 1):
        midnight = datetime.combine(local.date() - timedelta(days=back), time())
        for start, end in week.get(DAYS[midnight.weekday()], []):
            length = end - start if end > start else end - start + 24 * 60
            began = midnight + timedelta(minutes=start)
            expected = expected or began <= local < began + timedelta(minutes=length)
    assert parse_hours(written(week)).open_at(local) is expected


@given(weeks, st.integers(0, 59))
def test_hour_that_the_clock_shows_twice_is_open_twice_or_closed_twice(
    week: dict[str, list[tuple[int, int]]], minute: int
) -> None:
    store = Store(timezone="Europe/Berlin", opening_hours=written(week))
    first = datetime(2026, 10, 25, 0, minute, tzinfo=UTC)
    assert store.open_at(first) is store.open_at(first + timedelta(hours=1))


def test_hour_that_the_clock_leaves_out_is_no_time_to_be_open_in() -> None:
    store = Store(timezone="Europe/Berlin", opening_hours="02:00-03:00")
    minutes = [datetime(2026, 3, 28, 23, tzinfo=UTC) + timedelta(minutes=n) for n in range(23 * 60)]
    assert not any(store.open_at(moment) for moment in minutes)


@pytest.mark.parametrize(("day", "minutes"), [("2026-03-29", 540), ("2026-10-25", 660), ("2026-03-28", 600)])
def test_night_in_which_clocks_change_is_shorter_or_longer(day: str, minutes: int) -> None:
    store = Store(timezone="Europe/Berlin", opening_hours="22:00-08:00")
    noon = datetime.fromisoformat(day + "T12:00").replace(tzinfo=BERLIN).astimezone(UTC)
    assert sum(store.open_at(noon - timedelta(minutes=n)) for n in range(1, 24 * 60)) == minutes


def test_store_without_hours_is_always_open() -> None:
    assert Store().open_at(datetime(2026, 12, 25, 3, tzinfo=UTC))


NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)
MORNINGS = Store(opening_hours="08:00-11:00")
ALWAYS = Store(opening_hours="24/7")


def test_stores_of_the_settings_and_those_heard_of_say_whether_they_are_open() -> None:
    listed = Stores({"S1": MORNINGS, "S2": ALWAYS, "S3": Store()}, ALWAYS)
    assert stores_open_now(["S2", "S4"], listed, NOON) == {"S1": False, "S2": True, "S4": True}


def test_hours_of_the_table_of_stores_go_before_those_of_the_settings() -> None:
    rows = [
        {"store": "S1", "opening_hours": "24/7"},
        {"store": "S2", "timezone": "America/New_York"},
        {"store": "S3", "timezone": "UTC", "opening_hours": "13:00-15:00"},
    ]
    listed = Stores({"S1": MORNINGS, "S2": MORNINGS}, None)
    found = stores_open_now([], table_mapper(listed, stores=rows).stores, NOON)
    assert found == {"S1": True, "S2": True, "S3": False}  # at noon it is 8 o'clock in New York


def shown(metrics: WorkerMetrics, store: str) -> float | None:
    return metrics.registry.get_sample_value("tillstream_store_open", {"store": store})


def test_stores_are_open_closed_or_gone() -> None:
    metrics = WorkerMetrics()
    metrics.note_open({"S1": True, "S2": False, "S3": True})
    assert [shown(metrics, store) for store in ("S1", "S2", "S3")] == [1, 0, 1]
    metrics.note_open({"S1": False, "S2": True})
    assert [shown(metrics, store) for store in ("S1", "S2", "S3")] == [0, 1, None]


def test_stores_with_hours_have_the_series_that_the_cap_allows() -> None:
    metrics = WorkerMetrics()
    names = [f"S{number}" for number in range(MOST_STORES + 5)]
    metrics.note_open(dict.fromkeys(names, True))
    for name in names:
        metrics.note_store(name, 1.0)
    series = {
        family.name: {sample.labels["store"] for sample in family.samples}
        for family in metrics.registry.collect()
        if family.name.startswith("tillstream_store_")
    }
    assert len(series["tillstream_store_open"]) == MOST_STORES
    assert series["tillstream_store_newest_event_timestamp_seconds"] == {*series["tillstream_store_open"], OTHER_STORES}
