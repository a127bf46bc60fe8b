"""The sums that decide whether a store's day is complete: receipts not booked, not proved, or closed by a person."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from ops.reconcile.content import format_amount
from ops.reconcile.rows import UnbookedSum

#: Statuses of receipts that are on their way or stuck: a day that has any of them is not complete.
OPEN_STATUSES = ("dead", "held", "parked", "waiting")


@dataclass
class ReceiptAmount:
    """Receipts in one currency; `returned` is the part of `gross` below 0."""

    receipts: int = 0
    gross: Decimal = Decimal(0)
    returned: Decimal = Decimal(0)


@dataclass
class CurrencySums:
    """Receipts and their gross by currency; currencies are never added up.

    `unknown` counts records whose amount can't be read. `booked_otherwise` counts dead letters of receipts that are
    booked in another version.
    """

    amounts: dict[str, ReceiptAmount] = field(default_factory=dict)
    unknown: int = 0
    booked_otherwise: int = 0

    def __bool__(self) -> bool:
        return bool(self.count)

    @property
    def count(self) -> int:
        """The number of receipts, and of records without a known receipt."""
        return sum(amount.receipts for amount in self.amounts.values()) + self.unknown + self.booked_otherwise

    @property
    def receipts(self) -> int:
        """The number of receipts whose amount is known."""
        return sum(amount.receipts for amount in self.amounts.values())

    def add(self, currency: str, receipts: int, gross: Decimal, returned: Decimal | None = None) -> None:
        """Add receipts in one currency."""
        if receipts:
            amount = self.amounts.setdefault(currency, ReceiptAmount())
            amount.receipts += receipts
            amount.gross += gross
            amount.returned += min(gross, Decimal(0)) if returned is None else returned

    def absorb(self, other: "CurrencySums") -> None:
        """Add other sums."""
        for currency, amount in other.amounts.items():
            self.add(currency, amount.receipts, amount.gross, amount.returned)
        self.unknown += other.unknown
        self.booked_otherwise += other.booked_otherwise

    def as_json(self) -> dict[str, Any]:
        """Return the sums as JSON."""
        return {
            "receipts": self.receipts,
            "amounts": {
                currency: {"receipts": amount.receipts, "gross": format_amount(amount.gross, currency)}
                for currency, amount in sorted(self.amounts.items())
            },
            "records_of_unknown_amount": self.unknown,
            "dead_letters_of_booked_receipts": self.booked_otherwise,
        }

    def in_words(self) -> str:
        """Return the sums as text: "825.92 USD in 13 receipts, and 2 records of unknown amount"."""
        parts = [_in_words(amount, currency) for currency, amount in sorted(self.amounts.items())]
        if self.unknown:
            records = "record" if self.unknown == 1 else "records"
            parts.append(f"{self.unknown:,} {records} of unknown amount")
        if self.booked_otherwise:
            of = (
                "dead letter of a receipt that is"
                if self.booked_otherwise == 1
                else "dead letters of receipts that are"
            )
            parts.append(f"{self.booked_otherwise:,} {of} booked in another version")
        return ", ".join(parts[:-1]) + (", and " if len(parts) > 1 else "") + parts[-1] if parts else "nothing"


def _in_words(amount: ReceiptAmount, currency: str) -> str:
    words = f"{format_amount(amount.gross, currency)} {currency} in {amount.receipts:,} receipt"
    words += "" if amount.receipts == 1 else "s"
    sold = amount.gross - amount.returned
    if sold and amount.returned:  # they would cancel each other
        words += f" ({format_amount(sold, currency)} sold, {format_amount(amount.returned, currency)} returned)"
    return words


def by_status(rows: Iterable[UnbookedSum]) -> dict[str, CurrencySums]:
    """Return the sums of a store's day by status."""
    sums: dict[str, CurrencySums] = {}
    for row in rows:
        of_status = sums.setdefault(row.status, CurrencySums())
        of_status.add(row.currency, row.receipts, row.gross, row.returned)
        of_status.unknown += row.unknown
        of_status.booked_otherwise += row.booked_otherwise
    return sums


def sum_of(sums: Iterable[CurrencySums]) -> CurrencySums:
    """Return the total of all sums."""
    total = CurrencySums()
    for addend in sums:
        total.absorb(addend)
    return total
