"""What the book has rows of: events, registers' totals, dead letters; and what is asked of it."""

import json
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

#: Where a record stands that can't be read: no store and no day are known of it.
NOWHERE = ""


class SentRow(NamedTuple):
    """An event of the topic, or a record that is none. Amounts and quantities are scaled as `sinks.storable` does.

    `place` counts the events of one record. `digest` is that of the record, as a dead letter's origin has it.
    `reason` is why the line of today would not take it; then `gross` is what the event states, and the other
    amounts are 0; `has_gross` says whether an amount can be read at all. `print` and `personal` are those of the
    document it makes.
    """

    partition: int
    offset: int
    place: int
    digest: str
    arrived: int
    skipped: str = ""
    reason: str = ""
    event_id: str = ""
    ref: str = ""
    revision: int = 0
    content: str = ""
    source: str = ""
    store: str = NOWHERE
    register: str = ""
    receipt: str = ""
    day: str = NOWHERE
    occurred: int = 0
    currency: str = ""
    lines: int = 0
    quantity: int = 0
    net: int = 0
    tax: int = 0
    gross: int = 0
    tenders: str = "{}"
    has_gross: int = 0
    print: int = 0
    personal: int = 0


class CloseRow(NamedTuple):
    """A register's own total of what it sold since the one before."""

    event_id: str
    source: str
    store: str
    register: str
    day: str
    occurred: int
    currency: str
    gross: int
    receipt: str = ""
    revision: int = 0


class DeadLetterRow(NamedTuple):
    """A dead letter of the topic; `end` is what was done about it last, if anything, `by` whom, and `why`."""

    partition: int
    offset: int
    digest: str
    reason: str
    place: str
    end: str
    by: str = ""
    why: str = ""


class DeadEventRow(NamedTuple):
    """An event with a dead letter; `row` is its place in the book, the rest as in `SentRow`."""

    row: int
    ref: str
    event_id: str
    revision: int
    content: str
    reason: str
    currency: str
    gross: Decimal
    print: str
    personal: str


class EventRow(NamedTuple):
    """A row of the book about a receipt, with what became of it."""

    ref: str
    event_id: str
    revision: int
    content: str
    store: str
    day: str
    currency: str
    gross: Decimal
    status: str
    reason: str
    dead_letter: str
    partition: int
    offset: int
    digest: str
    arrived: int
    occurred: int
    lines: int
    quantity: Decimal
    net: Decimal
    tax: Decimal
    tenders: dict[str, Decimal]
    print: str
    personal: str
    has_gross: bool
    closed_by: str
    closed_why: str


class UnbookedSum(NamedTuple):
    """Receipts of one fate that are not in the ERP, of a store's day in one currency.

    `receipts` and `gross` count each receipt once, by its latest revision. `returned` is the part of `gross` below 0.
    `unknown` counts those whose amount can't be read, and `otherwise` the dead letters of receipts that are booked in
    another version: their amount is in neither.
    """

    store: str
    day: str
    currency: str
    status: str
    receipts: int
    gross: Decimal
    returned: Decimal
    unknown: int
    booked_otherwise: int


@dataclass
class ReceiptFigures:
    """Sums over receipts; `digest`, `personal` and `unremembered` as in `sinks.base.StoreDay`."""

    receipts: int = 0
    lines: int = 0
    quantity: Decimal = Decimal(0)
    net: Decimal = Decimal(0)
    tax: Decimal = Decimal(0)
    gross: Decimal = Decimal(0)
    tenders: dict[str, Decimal] = field(default_factory=dict)
    digest: str | None = None
    personal: str | None = None
    unremembered: int = 0


Key = tuple[str, str, str]


def tenders_text(tenders: dict[str, int]) -> str:
    """Tenders by kind as a row holds them."""
    return json.dumps(tenders, ensure_ascii=False)


def as_date(day: str) -> date:
    """A row's day."""
    return date.fromisoformat(day)


def milliseconds(moment: datetime) -> int:
    """A moment as rows hold it."""
    return int(moment.timestamp() * 1000)
