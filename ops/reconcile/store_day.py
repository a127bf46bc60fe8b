"""The report on a store's business day, and its two answers: do the books agree, and is everything booked?"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from ops.reconcile.completeness import OPEN_STATUSES, CurrencySums, sum_of
from ops.reconcile.rows import EventRow, ReceiptFigures
from sinks.digests import added, from_digits

#: `open`: the business day is not over. Of one that is over: `differs`: the books do not agree. `unproved`: that
#: can't be proved for all of it. `incomplete`: they agree, but not all of it is booked. `balanced`: they agree,
#: and all of it is booked. `signed off`: a person has taken it as it is.
State = Literal["open", "differs", "unproved", "incomplete", "balanced", "signed off"]
#: Whether tills and ERP agree on the booked receipts: the first of the two questions about a day.
Books = Literal["agree", "differ", "not proved"]
Kind = Literal[
    "missing", "only_in_erp", "doubled", "altered", "older_revision", "other_content", "moved", "vanished",
    "refused_today", "register", "orphaned"
]  # fmt: skip

MEANING: dict[Kind, str] = {
    "missing": "sent and acknowledged, but not in the ERP",
    "only_in_erp": "in the ERP, but no till sent it",
    "doubled": "in the ERP a second time, under another reference",
    "altered": "what the ERP holds is not what the till sent",
    "older_revision": "the ERP holds an earlier revision than the till sent",
    "other_content": "the ERP holds something else under this reference",
    "moved": "the ERP holds it on another day or in another store",
    "vanished": "sent and acknowledged, but neither in the ERP nor a dead letter",
    "refused_today": "in the ERP, but today's rules would refuse it: its amounts can't be compared",
    "orphaned": "parts without a document are in the ERP, or a document without its delivery",
    "register": "the register's own total is not that of the receipts it sent: some never came, or can't be read",
}


@dataclass
class DayDifference:
    """One thing on which tills and ERP disagree, and the command that repairs it."""

    kind: Kind
    store: str
    day: str
    currency: str
    ref: str
    detail: str
    place: str = ""
    sent: Decimal | None = None
    held: Decimal | None = None
    repair: str = ""


@dataclass
class CurrencyTotals:
    """A store's day in one currency. `counts` has events and gross by status. `due` and `held` are sums."""

    currency: str
    counts: dict[str, tuple[int, Decimal]] = field(default_factory=dict)
    due: ReceiptFigures = field(default_factory=ReceiptFigures)
    held: ReceiptFigures = field(default_factory=ReceiptFigures)
    #: The difference between the digest of `due` and that of equivalent documents: see `accept`.
    shift: int = 0
    #: How many such documents there are.
    accepted: int = 0

    @property
    def agrees(self) -> bool:
        """Whether the sums are the same; and the digests, where the ERP's were asked for."""
        if self.held.receipts and self.held.digest is not None:
            if self.due.digest is None or self.held.unremembered:
                return False
            if added([from_digits(self.due.digest), self.shift]) != from_digits(self.held.digest):
                return False
            if self.held.personal not in (None, self.due.personal):
                return False
        return _sums(self.due) == _sums(self.held)

    def accept(self, due: str, held: str) -> None:
        """Count a document with the print `held` for the one with the print `due`: nothing that was sent differs."""
        self.shift += from_digits(held) - from_digits(due)
        self.accepted += 1

    def count(self, *statuses: str) -> int:
        """Events with one of these fates; all of them without."""
        return sum(count for status, (count, _) in self.counts.items() if not statuses or status in statuses)


@dataclass
class DayReport:
    """The report on a store's business day. `skipped`: the number of events without a document, by reason.

    `unbooked`: the receipts that are not in the ERP, by status. `lost`: the topic has lost records that may be of this
    day; `unproved`: the documents whose records have left it.
    """

    store: str
    day: str
    accounts: list[CurrencyTotals]
    state: State
    differences: list[DayDifference] = field(default_factory=list)
    dead_letters: list[EventRow] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    arrived: int = 0
    unbooked: dict[str, CurrencySums] = field(default_factory=dict)
    lost: bool = False
    unproved: CurrencySums = field(default_factory=CurrencySums)

    @property
    def books(self) -> Books:
        """Whether tills and ERP agree on the booked receipts."""
        if self.differences:
            return "differ"
        # Sums that differ without a document that does: something was written meanwhile, or is on its way.
        settled = bool(self.count("waiting")) or all(account.agrees for account in self.accounts)
        return "agree" if settled and not self.lost else "not proved"

    @property
    def not_booked(self) -> CurrencySums:
        """The receipts in dead letters, held, parked or waiting."""
        return sum_of(sums for status, sums in self.unbooked.items() if status in OPEN_STATUSES)

    @property
    def resolved(self) -> CurrencySums:
        """The receipts that a person has decided not to book."""
        return self.unbooked.get("resolved", CurrencySums())

    @property
    def is_complete(self) -> bool:
        """Whether all of the day is booked: the second question."""
        return not self.not_booked and not self.lost

    @property
    def is_wrong(self) -> bool:
        """Whether somebody has to look at it: the books don't agree, or it is not complete.

        While a day is not over, bookings during the run are not a reason.
        """
        racing = self.state == "open" and not self.lost
        return not self.is_complete or self.books == "differ" or (self.books == "not proved" and not racing)

    def account(self, currency: str) -> CurrencyTotals:
        """Return the day in this currency."""
        return next(account for account in self.accounts if account.currency == currency)

    def count(self, *statuses: str) -> int:
        """As `CurrencyTotals.count`, in all currencies."""
        return sum(account.count(*statuses) for account in self.accounts)


def _sums(figures: ReceiptFigures) -> tuple[Any, ...]:
    tenders = {kind: amount for kind, amount in figures.tenders.items() if amount}
    return (figures.receipts, figures.lines, figures.quantity, figures.net, figures.tax, figures.gross, tenders)
