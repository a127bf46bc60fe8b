"""Business dates: a moment has one, and it ends at one moment, whatever the store's clock does."""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.store import Store, business_date, end_of_business_date

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Asia/Shanghai")
#: By how much an end may be late: clocks skip an hour at most, and Lord Howe's half an hour.
SLACK = timedelta(hours=2)


@given(
    at=st.integers(946_684_800, 2_145_830_400).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    zone=st.sampled_from(ZONES),
    cutoff=st.times().map(lambda given: given.replace(second=0, microsecond=0)),
)
def test_moment_is_before_the_end_of_its_business_date_and_not_before_that_of_the_day_before(
    at: datetime, zone: str, cutoff: time
) -> None:
    store = Store(timezone=zone, cutoff=cutoff)
    day = business_date(at, store)
    assert at < end_of_business_date(day, store)
    assert end_of_business_date(day - timedelta(days=1), store) - SLACK <= at


@given(
    day=st.dates(date(2000, 1, 1), date(2037, 12, 30)),
    zone=st.sampled_from(ZONES),
    cutoff=st.times().map(lambda given: given.replace(second=0, microsecond=0)),
    later=st.timedeltas(timedelta(), timedelta(days=2)),
)
def test_no_moment_after_the_end_has_the_business_date(day: date, zone: str, cutoff: time, later: timedelta) -> None:
    store = Store(timezone=zone, cutoff=cutoff)
    end = end_of_business_date(day, store)
    assert business_date(end + later, store) > day
    assert business_date(end - SLACK, store) <= day


@pytest.mark.parametrize(
    ("day", "end"),
    [
        (date(2026, 10, 24), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),  # 02:30 comes twice
        (date(2026, 3, 28), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),  # 02:30 never comes
        (date(2026, 7, 1), datetime(2026, 7, 2, 0, 30, tzinfo=UTC)),
        (date.max, datetime.max.replace(tzinfo=UTC)),
    ],
)
def test_end_of_a_business_date_when_the_clock_changes(day: date, end: datetime) -> None:
    assert end_of_business_date(day, Store(timezone="Europe/Berlin", cutoff=time(2, 30))) == end
