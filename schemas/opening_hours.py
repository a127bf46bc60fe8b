"""A store's opening hours as a line of text: `Mo-Fr 08:00-20:00; Sa 09:00-13:00,15:00-02:00; Dec 25-26 closed`.

It is the part of OpenStreetMap's `opening_hours` that stores need: days of the week, dates with or without a year,
`closed` (or `off`), and `24/7`. Times are local. The last rule that names a day
applies; a day that no rule names is closed. Hours that end at or before their beginning end the day after, and belong
to the day on which they begin, whatever the rules say of the next one.
"""

import re
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field

DAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
MIDNIGHT = 24 * 60  # minutes
_A_LEAP_YEAR = 2024
_DAY, _MONTH = "|".join(DAYS), "|".join(MONTHS)
_RULE = re.compile(
    rf"(?:(?P<weekdays>(?:{_DAY})(?:[-,](?:{_DAY}))*) "
    rf"|(?:(?P<year>\d{{4}}) )?(?P<month>{_MONTH}) (?P<day>\d\d?)(?:-(?:(?P<to_month>{_MONTH}) )?(?P<to_day>\d\d?))? )?"
    r"(?P<hours>closed|off|[\d:,-]+)"
)
_SPAN = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)-([01]?\d|2[0-4]):([0-5]\d)")

#: From and to, in minutes after the day's midnight; more than `MIDNIGHT` is the day after.
Span = tuple[int, int]
#: Month and day.
Day = tuple[int, int]


class HoursRule(NamedTuple):
    """The hours of some days: of the week, or from one date to another, in one year or in every one."""

    spans: tuple[Span, ...]
    weekdays: frozenset[int] = frozenset()
    first: Day | None = None
    last: Day | None = None
    year: int | None = None

    def holds_on(self, day: date) -> bool:
        """Whether it names the day."""
        if self.first is None or self.last is None:
            return day.weekday() in self.weekdays
        here = (day.month, day.day)
        after, before = self.first <= here, here <= self.last
        within = (after and before) if self.first <= self.last else (after or before)  # over the turn of the year
        return within and self.year in (None, day.year)


class HoursRules(NamedTuple):
    """The rules, in their order."""

    rules: tuple[HoursRule, ...]

    def open_at(self, local: datetime) -> bool:
        """Whether the store is open when its clock shows `local`."""
        minute = local.hour * 60 + local.minute
        today, yesterday = local.date(), local.date() - timedelta(days=1)
        return any(start <= minute < end for start, end in self.on(today)) or any(
            start <= minute + MIDNIGHT < end for start, end in self.on(yesterday)
        )

    def on(self, day: date) -> tuple[Span, ...]:
        """Return the hours that begin on the day."""
        return next((rule.spans for rule in reversed(self.rules) if rule.holds_on(day)), ())


@lru_cache(4096)  # stores share their hours
def parse_hours(text: str) -> HoursRules:
    """Parse opening hours. Raises ValueError with the fault."""
    return HoursRules(tuple(_rule(" ".join(part.split())) for part in text.strip().removesuffix(";").split(";")))


def _rule(text: str) -> HoursRule:
    if text == "24/7":
        return HoursRule(((0, MIDNIGHT),), frozenset(range(7)))
    found = _RULE.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{text!r} are no opening hours; write them like 'Mo-Fr 08:00-20:00; Sa 09:00-13:00; Dec 25 closed', "
            "or '24/7'"
        )
    spans = () if found["hours"] in ("closed", "off") else tuple(map(_span, found["hours"].split(",")))
    if found["month"] is None:
        return HoursRule(spans, _weekdays(found["weekdays"] or "Mo-Su"))
    year = int(found["year"]) if found["year"] else None
    first = _date(found["month"], found["day"], year)
    last = _date(found["to_month"] or found["month"], found["to_day"] or found["day"], year)
    if last < first and (year is not None or found["to_month"] is None):
        raise ValueError(f"{text!r} ends before it begins")
    return HoursRule(spans, first=first, last=last, year=year)


def _span(text: str) -> Span:
    found = _SPAN.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} are no hours; write them like 08:00-20:00, with 24:00 as the latest end")
    from_hour, from_minute, to_hour, to_minute = map(int, found.groups())
    start, end = from_hour * 60 + from_minute, to_hour * 60 + to_minute
    if start >= MIDNIGHT or end > MIDNIGHT:
        raise ValueError(
            f"{text!r}: hours begin before 24:00 and end at 24:00 at the latest; 22:00-02:00 ends the day after"
        )
    if start == end:
        raise ValueError(f"{text!r} begins and ends at the same time; a whole day is 00:00-24:00")
    return start, end if end > start else end + MIDNIGHT


def _weekdays(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        names = part.split("-")
        if len(names) > 2:
            raise ValueError(f"{part!r} is no range of days; write it like Mo-Fr")
        first, last = DAYS.index(names[0]), DAYS.index(names[-1])
        days |= {day % 7 for day in range(first, last + 1 if last >= first else last + 8)}
    return frozenset(days)


def _date(month: str, day: str, year: int | None) -> Day:
    number = MONTHS.index(month) + 1
    try:
        date(year or _A_LEAP_YEAR, number, int(day))
    except ValueError:
        raise ValueError(f"there is no {month} {day}{f' in {year}' if year is not None else ''}") from None
    return number, int(day)


def _readable(text: str) -> str:
    parse_hours(text)
    return text


OpeningHours = Annotated[
    str,
    Field(
        description="as OpenStreetMap writes them, by the clock in the store: days that are not named are closed",
        examples=["Mo-Fr 08:00-20:00; Sa 09:00-13:00,15:00-02:00; Dec 25-26 closed", "24/7"],
    ),
    AfterValidator(_readable),
]
