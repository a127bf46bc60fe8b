"""Rows of the event store: events, registers' totals and dead letters; and the rows of its answers."""

import json
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

#: The store and the day of a record that can't be read.
NOWHERE = ""


class SentRow(NamedTuple):
    """An event of the topic, or a record without an event. Amounts and quantities are scaled as in `sinks.storable`.

    `place` numbers the events of one record. `digest` is that of the record, as in a dead letter's origin. `skipped`
    is the reason why no document is due. `reason` is why today's rules would refuse the event; then `gross` is the
    amount that the event states, and the other amounts are 0. `has_gross`: the amount can be read. `print` and
    `personal` are digests of the document due.
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
    """A register's own total of its sales since the total before."""

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
    """A dead letter of the topic. `end` is the last action on it, if any, `by` whom, and `why`."""

    partition: int
    offset: int
    digest: str
    reason: str
    place: str
    end: str
    by: str = ""
    why: str = ""


class DeadEventRow(NamedTuple):
    """An event with a dead letter. `row` is its row id in the event store, the rest is as in `SentRow`."""

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
    """An event of a receipt with its status."""

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
    """Receipts of one status that are not in the ERP, of a store's day in one currency.

    `receipts` and `gross` count each receipt once, by its latest revision. `returned` is the part of `gross` below 0.
    `unknown` counts those whose amount can't be read, `booked_otherwise` dead letters of receipts that are booked in
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
    """Return tenders by kind as a row holds them."""
    return json.dumps(tenders, ensure_ascii=False)


def as_date(day: str) -> date:
    """Parse the day of a row."""
    return date.fromisoformat(day)


def milliseconds(moment: datetime) -> int:
    """Return a moment in milliseconds since 1970, as rows hold it."""
    return int(moment.timestamp() * 1000)
