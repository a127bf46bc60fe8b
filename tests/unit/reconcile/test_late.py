"""Which days a reconciliation of some days only has to look at as well."""

from datetime import UTC, date, datetime

import pytest

from ops.reconcile.event_store import EventStore
from ops.reconcile.rows import SentRow, milliseconds
from ops.reconcile.run import _late

FIRST = date(2026, 3, 10)


@pytest.mark.parametrize(
    ("day", "arrived", "late"),
    [
        ("2026-03-09", "2026-03-10T09:00", None),  # a store in another time zone, or with a late cut-off
        ("2026-03-09", "2026-03-12T09:00", date(2026, 3, 9)),
        ("2026-02-01", "2026-03-12T09:00", date(2026, 2, 1)),
        ("2026-02-01", "2026-02-12T09:00", None),  # and was looked at then
        ("2026-03-10", "2026-03-20T09:00", None),  # is looked at anyway
        ("", "2026-03-12T09:00", None),  # can't be read
    ],
)
def test_day_of_which_something_came_late_is_told(day: str, arrived: str, late: date | None) -> None:
    event_store = EventStore()
    at = milliseconds(datetime.fromisoformat(arrived).replace(tzinfo=UTC))
    event_store.add(
        [SentRow(0, 0, 0, "d", at, store="S1", day=day), SentRow(0, 1, 0, "e", 0, store="S1", day="2026-03-08")]
    )
    assert _late(event_store, FIRST) == late
    event_store.close()


def test_no_day_is_too_far_away_to_be_late() -> None:
    event_store = EventStore()
    days = enumerate(("0001-01-01", "9999-12-30"))
    event_store.add([SentRow(0, place, 0, "d", 10**15, store="S1", day=day) for place, day in days])
    assert _late(event_store, date.max) == date.min
    event_store.close()
