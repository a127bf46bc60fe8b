"""What the tills send, made from a seed, and what must come of a topic's records, whatever happened on their way.

`due` knows nothing of how Tillstream works: it reads the records of a topic in the order of each partition and applies
the rules a user would state. A record that is broken on purpose says so in a header of its own, `till.fault`.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from random import Random
from typing import Any

from ops.simulator.faults import FAULTS
from ops.simulator.receipts import SimulatedReceipt, compact, header, pay, ring_up
from schemas.dead_letter import Reason
from schemas.sale import EventType
from tests.support.topics import Headers, Record

FAULT = "till.fault"
Sending = tuple[bytes | None, bytes | None, Headers]

#: Fixed, so that a seed gives the same bytes on every day.
OPENING = datetime(2026, 3, 10, 6, 0, tzinfo=UTC)


class Stream:
    """An endless stream: events `pace` seconds apart, receipts numbered from `first`.

    All records of one receipt have one key, and so one partition, which keeps their order.

    Receipts whose events are in conflict are not revised as well: what a crash makes of the two together depends on
    when it happens (the conflicting event is a dead letter, or superseded by the revision).
    """

    def __init__(self, random: Random, opening: datetime = OPENING, *, pace: float = 30, first: int = 1) -> None:
        self._random = random
        self._opening = opening
        self._pace = pace
        self._numbers = count(first)
        self._sent: list[Sending] = []
        self._plain: list[SimulatedReceipt] = []
        self._contested: list[SimulatedReceipt] = []
        self._revised: list[tuple[SimulatedReceipt, set[int]]] = []  # with the revisions sent

    def take(self, most: int) -> list[Sending]:
        """The next `most` records."""
        before = len(self._sent)
        while len(self._sent) < before + most:
            self._sent.append(self._next())
        return self._sent[before:]

    def _next(self) -> Sending:
        makers = {
            self._sale: 52,
            self._return_or_void: 12,
            self._again: 12,
            self._again_in_other_bytes: 2,
            self._revision: 8,
            self._conflicting_event: 2,
            self._conflicting_receipt: 1,
            self._same_receipt_as_another_event: 1,
            self._broken: 7,
            self._tombstone: 2,
            self._day_close: 1,
        }
        (maker,) = self._random.choices(list(makers), list(makers.values()))
        return maker()

    def _sale(self) -> Sending:
        receipt = self._ring_up()
        self._plain.append(receipt)
        return self._record(receipt, receipt.event())

    def _return_or_void(self) -> Sending:
        if not self._plain:
            return self._sale()
        kind: EventType = self._random.choice(("return", "void"))
        sold = self._random.choice(self._plain)
        receipt = replace(self._ring_up(), type=kind, store=sold.store, original=(sold.register, sold.number))
        return self._record(receipt, receipt.event())

    def _again(self) -> Sending:
        """Byte for byte, whatever it was; more often something recent."""
        if not self._sent:
            return self._sale()
        key, value, headers = self._sent[-int(len(self._sent) ** self._random.random())]
        return key, value, [header for header in headers if header[0] == FAULT] + self._trace()

    def _again_in_other_bytes(self) -> Sending:
        receipt = self._earlier()
        if receipt is None:
            return self._sale()
        return self._key(receipt), json.dumps(receipt.event(), indent=1, sort_keys=True).encode(), self._trace()

    def _revision(self) -> Sending:
        """Another version of a receipt: the newest, or one that a newer one has overtaken."""
        if self._plain and (not self._revised or self._random.random() < 0.6):
            self._revised.append((self._pop_plain(), {0}))
        if not self._revised:
            return self._sale()
        receipt, sent = self._random.choice(self._revised)
        revision = self._random.choice([number for number in range(max(sent) + 3) if number not in sent])
        sent.add(revision)
        event = self._rung_up_anew(receipt).event() | {"revision": revision}
        return self._record(receipt, event | {"event_id": f"{event['event_id']}-{revision}"})

    def _conflicting_event(self) -> Sending:
        """An id that was used before, for something else."""
        receipt = self._earlier()
        return self._sale() if receipt is None else self._record(receipt, self._rung_up_anew(receipt).event())

    def _conflicting_receipt(self) -> Sending:
        """A receipt number that was used before, by another event, for something else."""
        receipt = self._earlier()
        if receipt is None:
            return self._sale()
        return self._record(receipt, self._rung_up_anew(receipt).event() | {"event_id": f"other-{self._count()}"})

    def _same_receipt_as_another_event(self) -> Sending:
        receipt = self._earlier()
        if receipt is None:
            return self._sale()
        return self._record(receipt, receipt.event() | {"event_id": f"twin-{self._count()}"})

    def _broken(self) -> Sending:
        receipt = self._ring_up()
        name = self._random.choice(list(FAULTS))
        value = FAULTS[name].spoil(receipt.event(), self._random)
        return self._key(receipt), value, [(FAULT, name.encode()), *self._trace()]

    def _tombstone(self) -> Sending:
        return str(self._count()).encode(), None, self._trace()

    def _day_close(self) -> Sending:
        number = self._count()
        event = header("day_close", "S1", "1", f"Z{number}", self._time(number))
        return str(number).encode(), compact(event | {"totals": {"gross": "0.00"}}), self._trace()

    def _earlier(self) -> SimulatedReceipt | None:
        """A receipt that is not revised, and won't be."""
        if self._plain and (not self._contested or self._random.random() < 0.7):
            self._contested.append(self._pop_plain())
        return self._random.choice(self._contested) if self._contested else None

    def _pop_plain(self) -> SimulatedReceipt:
        return self._plain.pop(self._random.randrange(len(self._plain)))

    def _ring_up(self) -> SimulatedReceipt:
        number = self._count()
        lines = ring_up(self._random)
        tenders = pay(self._random, sum(line.amount for line in lines))
        store, register = f"S{self._random.randint(1, 5)}", str(self._random.randint(1, 3))
        return SimulatedReceipt("sale", store, register, str(number), self._time(number), "K01", lines, tenders)

    def _rung_up_anew(self, receipt: SimulatedReceipt) -> SimulatedReceipt:
        """The same receipt with one line more, paid by card."""
        lines = receipt.lines + ring_up(self._random)[:1]
        return replace(receipt, lines=lines, tenders=(("card", sum(line.amount for line in lines)),))

    def _record(self, receipt: SimulatedReceipt, event: dict[str, Any]) -> Sending:
        return self._key(receipt), compact(event), self._trace()

    def _key(self, receipt: SimulatedReceipt) -> bytes:
        return f"{receipt.store}/{receipt.register}/{receipt.number}".encode()

    def _trace(self) -> Headers:
        return [("trace", self._random.randbytes(4)), ("trace", b"")]

    def _time(self, number: int) -> str:
        return (self._opening + timedelta(seconds=number * self._pace)).isoformat(timespec="milliseconds")

    def _count(self) -> int:
        return next(self._numbers)


@dataclass(frozen=True)
class Held:
    """A document, as far as it is compared: money signed from the store's side."""

    event_id: str
    revision: int
    kind: str
    day: date
    gross: Decimal
    lines: int
    gross_of_lines: Decimal
    paid: Decimal


@dataclass
class Due:
    """What must have come of the records: documents by receipt, the events whose effect is known, dead letters."""

    documents: dict[str, Held] = field(default_factory=dict)
    events: set[str] = field(default_factory=set)
    dead: dict[tuple[int, int], Reason] = field(default_factory=dict)

    def takings(self) -> list[tuple[str, date, int, Decimal]]:
        """(store, business day, documents, gross), in that order: what the tills say of it."""
        sums: dict[tuple[str, date], list[Decimal]] = {}
        for ref, document in self.documents.items():
            sums.setdefault((ref.split("/")[1], document.day), []).append(document.gross)
        return [(store, day, len(amounts), sum(amounts, Decimal(0))) for (store, day), amounts in sorted(sums.items())]


_KINDS = {"sale": ("invoice", 1), "return": ("credit_note", -1), "void": ("cancellation", -1)}


def due(records: Iterable[Record]) -> Due:
    """What must have come of `records`."""
    outcome = Due()
    contents: dict[str, Any] = {}  # by event
    held: dict[str, Any] = {}  # by receipt, of the newest revision
    refused: list[tuple[str, Any]] = []  # for their receipt: they stay so
    for record in sorted(records, key=lambda record: (record.partition, record.offset)):
        place = record.partition, record.offset
        fault = dict(record.headers).get(FAULT)
        if record.value is None:
            continue
        if fault is not None:
            outcome.dead[place] = FAULTS[fault.decode()].reason
            continue
        event = json.loads(record.value)
        if event["type"] == "day_close":
            continue
        event_id = f"{event['source']}:{event.pop('event_id')}"
        ref = "/".join(event[name] for name in ("source", "store", "register", "receipt", "type"))
        revision = event.get("revision", 0)
        before = outcome.documents.get(ref)
        if (event_id, event) in refused:
            outcome.dead[place] = Reason.CONFLICTING_RECEIPT
        elif event_id in contents:
            if contents[event_id] != event:
                outcome.dead[place] = Reason.CONFLICTING_DUPLICATE
        elif before is not None and before.revision == revision and held[ref] != event:
            outcome.dead[place] = Reason.CONFLICTING_RECEIPT
            refused.append((event_id, event))
        else:
            contents[event_id] = event
            outcome.events.add(event_id)
            if before is None or before.revision < revision:
                held[ref] = event
                outcome.documents[ref] = _document(event_id, revision, event)
    return outcome


def _document(event_id: str, revision: int, event: dict[str, Any]) -> Held:
    kind, sign = _KINDS[event["type"]]
    lines = sum((Decimal(line["amount"]) for line in event["lines"]), Decimal(0))
    paid = sum((Decimal(tender["amount"]) for tender in event["tenders"]), Decimal(0))
    gross = Decimal(event["totals"]["gross"])
    day = datetime.fromisoformat(event["occurred_at"]).date()  # all stores' days are those of UTC
    return Held(event_id, revision, kind, day, sign * gross, len(event["lines"]), sign * lines, sign * paid)
