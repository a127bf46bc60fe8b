"""What a comparison is made by: which days, when they are over, and what the topic still has of them."""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from ops.reconcile.rows import NOWHERE, EventRow, as_date
from schemas.document import ErpDocument

_EPOCH = date(1970, 1, 1).toordinal()
_HOUR = 3_600_000
_DAY = 24 * _HOUR


@dataclass
class ReconciliationScope:
    """What a comparison is made by.

    `ends`: when a store's business day is over. `lost`: until then records arrived that the topic has lost since.
    `whole`: it was read from its beginning. Only `store`, and the days from `first` to `last`, are told of, if stated.
    `doubtful`: days that are looked into even if their sums agree, as more was found of them before. `deep`: parts
    without a document are looked for. `sent` gives the documents of receipts again, by reference, from their records.
    """

    now: datetime
    ends: Callable[[str, date], datetime]
    lost: datetime | None = None
    whole: bool = True
    store: str | None = None
    first: date = date.min
    last: date = date.max
    doubtful: Container[tuple[str, str]] = ()
    deep: bool = True
    sent: Callable[[Sequence[EventRow]], dict[str, ErpDocument]] = lambda events: {}

    def wants(self, store: str, day: str) -> bool:
        """Whether the store's day is to be told of."""
        if day == NOWHERE:
            return self.store is None and (self.first, self.last) == (date.min, date.max)
        return self.store in (None, store) and self.first <= as_date(day) <= self.last

    def is_over(self, store: str, day: str) -> bool:
        """Whether the business day is."""
        return self.ends(store, as_date(day)) <= self.now

    def arrivals(self) -> tuple[int, int]:
        """Return from when to when, in milliseconds since 1970, records of these days arrive, wherever on Earth."""
        since = (self.first.toordinal() - _EPOCH) * _DAY - 14 * _HOUR
        return since, (self.last.toordinal() + 1 - _EPOCH) * _DAY + 12 * _HOUR

    def reaches(self, store: str, day: str) -> bool:
        """Whether the topic has all of the store's day: it began after the last record arrived that is lost."""
        if self.lost is None or day == NOWHERE:
            return True
        number = as_date(day).toordinal()
        return number > 1 and self.ends(store, date.fromordinal(number - 1)) > self.lost
