"""The scope of a comparison: its days, when they end, and how much of them is left in the topic."""

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
    """The scope of a comparison.

    `ends` returns the end of a store's business day. `lost` is the latest arrival of a record that the topic has lost.
    `whole`: the topic was read from its beginning. Only `store` and the days from `first` to `last` are reported, if
    given. `doubtful` days are compared in full even if their sums agree, since differences were found there before.
    `deep`: search the ERP for parts without a document. `sent` returns the documents that receipts' records map to, by
    reference.
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
        """Return whether the store's day is in scope."""
        if day == NOWHERE:
            return self.store is None and (self.first, self.last) == (date.min, date.max)
        return self.store in (None, store) and self.first <= as_date(day) <= self.last

    def is_over(self, store: str, day: str) -> bool:
        """Return whether the business day is over."""
        return self.ends(store, as_date(day)) <= self.now

    def arrivals(self) -> tuple[int, int]:
        """Return when records of these days can arrive, in any time zone: from, to, in milliseconds since 1970."""
        since = (self.first.toordinal() - _EPOCH) * _DAY - 14 * _HOUR
        return since, (self.last.toordinal() + 1 - _EPOCH) * _DAY + 12 * _HOUR

    def reaches(self, store: str, day: str) -> bool:
        """Return whether the topic has the whole day: it began after the last lost record arrived."""
        if self.lost is None or day == NOWHERE:
            return True
        number = as_date(day).toordinal()
        return number > 1 and self.ends(store, date.fromordinal(number - 1)) > self.lost
