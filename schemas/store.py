"""`Store`: a store's time zone, cut-off and opening hours, and the business dates that follow from them."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from schemas.opening_hours import OpeningHours, parse_hours


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"{name!r} is not a time zone; use a name like Europe/Berlin") from None
    return name


def _hours_and_minutes(cutoff: Any) -> time:
    if isinstance(cutoff, time) and cutoff.tzinfo is None:
        return cutoff
    # YAML reads 4:00 without quotes as the number 240.
    if not isinstance(cutoff, str) or not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", cutoff):
        raise ValueError('a cut-off is hours and minutes of store time, in quotes: "04:00"')
    return time.fromisoformat(cutoff)


TimeZone = Annotated[str, AfterValidator(_known_zone)]
CutOff = Annotated[time, BeforeValidator(_hours_and_minutes, json_schema_input_type=str)]


class Store(BaseModel):
    """A store's own facts: the business day starts at `cutoff`, store time. A store without hours is always open."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    timezone: TimeZone = "UTC"
    cutoff: CutOff = time(0, 0)
    opening_hours: OpeningHours | None = None

    def open_at(self, moment: datetime) -> bool:
        """Return whether the store is open at an aware moment."""
        return self.opening_hours is None or parse_hours(self.opening_hours).open_at(moment.astimezone(self.zone))

    @property
    def zone(self) -> ZoneInfo:
        """The time zone (cached by zoneinfo itself)."""
        return ZoneInfo(self.timezone)


class Stores:
    """Looks stores up: the listed ones, else `default`; without a default an unlisted store is unknown."""

    def __init__(self, listed: dict[str, Store], default: Store | None) -> None:
        self._listed = listed
        self._default = default

    def find(self, store: str) -> Store | None:
        """Return the facts of `store`, or None if it is unknown."""
        return self._listed.get(store, self._default)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the listed stores."""
        return iter(self._listed)


def business_date(occurred_at: datetime, store: Store) -> date:
    """Return the store's local date, or the day before if its clock shows less than the cut-off."""
    local = occurred_at.astimezone(store.zone)
    return local.date() if local.time() >= store.cutoff else local.date() - timedelta(days=1)


def end_of_business_date(day: date, store: Store) -> datetime:
    """Return the moment, in UTC, from which on every `business_date` of the store is after `day`.

    If the clock shows the cut-off twice, it is the second time; if it skips the cut-off, at most an hour later.
    """
    try:
        cutoff = datetime.combine(day + timedelta(days=1), store.cutoff, store.zone)
        return max(cutoff.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    except OverflowError:  # the last day of the calendar
        return datetime.max.replace(tzinfo=UTC)
