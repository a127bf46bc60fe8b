"""Simulated traffic: records of some stores' tills, valid, repeated and broken, in a fixed order."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from random import Random
from typing import Literal, NamedTuple

from ops.simulator.faults import FAULTS
from ops.simulator.receipts import SimulatedReceipt, compact, header, money, pay, ring_up
from schemas.dead_letter import Reason
from schemas.sale import EventType

Clock = Callable[[], datetime]

_FARTHEST = 200  # events of the same store between an event and its repetition
_REMEMBERED = 500  # sales per store that may still come back


class SimulatedRecord(NamedTuple):
    """One record for Kafka with its expected outcome.

    `key` is the store's id, `reason` the expected reason of a broken record's dead letter. `gross` is the receipt's
    value to the store: returns and voids are negative, a day's close is 0. For a broken record it is the amount that
    the till rang up (for a reused id, that of the second content), whatever the bytes say.
    """

    key: bytes
    value: bytes
    kind: Literal["fresh", "resent", "broken"]
    reason: Reason | None
    gross: Decimal
    store: str
    type: EventType


@dataclass(frozen=True)
class TrafficShares:
    """The shares of each kind of record; the rest are valid sales.

    Repetitions come later than their originals, so a short run has fewer of them.
    """

    resent: float = 0.05
    broken: float = 0.01
    returned: float = 0.03
    voided: float = 0.005

    def __post_init__(self) -> None:
        if self.resent > 0.4 or sum((self.resent, self.broken, self.returned, self.voided)) > 1:
            raise ValueError("at most 40 % can be sent again, and the shares must leave room for each other")


def traffic(
    seed: int,
    clock: Clock,
    *,
    stores: int = 4,
    registers: int = 3,
    first_receipt: int = 1,
    zone: tzinfo = UTC,
    shares: TrafficShares = TrafficShares(),
    day_close: bool = False,
) -> Iterator[SimulatedRecord]:
    """Endless traffic of the stores S001, S002, …: the same arguments and clock readings give the same bytes.

    - Receipt numbers run per register from `first_receipt`, and event ids follow from them. A second run into
      the same topic needs another `first_receipt`, or its receipts conflict with those of the first.
    - A repetition is byte-identical and comes after 1 to 200 other records of its store.
    - Returns and voids refer to an earlier sound sale of the same store, each sale at most once.
    - `clock` must be aware; `occurred_at` is printed in `zone`. With `day_close`, each register that sold
      anything closes its day when the date in `zone` has changed, before the store's next new receipt.
    """
    rng = Random(seed)  # noqa: S311 - simulation
    markets: list[_SimulatedStore] = []
    for number in range(1, stores + 1):
        numbers = {str(register): first_receipt for register in range(1, registers + 1)}
        markets.append(_SimulatedStore(f"S{number:03d}", numbers, rng, zone, shares, day_close))
    while True:
        yield rng.choice(markets).next(clock())


@dataclass(slots=True, eq=False)
class _SimulatedStore:
    """`numbers` are the registers' next receipts, `position` counts the turns, `takings` are in cents."""

    name: str
    numbers: dict[str, int]
    rng: Random
    zone: tzinfo
    shares: TrafficShares
    day_close: bool
    sold: list[SimulatedReceipt] = field(default_factory=list)
    position: int = 0
    repetitions: dict[int, SimulatedRecord] = field(default_factory=dict)
    takings: Counter[str] = field(default_factory=Counter)
    closes: deque[SimulatedRecord] = field(default_factory=deque)
    day: date | None = None

    def next(self, now: datetime) -> SimulatedRecord:
        """Return the store's next record: a repetition that is due, a day's close, or something new."""
        local = now.astimezone(self.zone)
        if self.day_close and self.day != local.date():
            self.close(local)
        sent = self.repetitions.pop(self.position, None)
        if sent is None and self.closes:
            sent = self.closes.popleft()
        elif sent is None:
            sent = self.new(local.isoformat(timespec="milliseconds"))
        self.position += 1
        return sent

    def new(self, at: str) -> SimulatedRecord:
        shares = self.shares
        # Repetitions take turns of their own: the other shares are parts of what remains.
        draw = self.rng.random() * (1 - shares.resent)
        if draw < shares.broken:
            return self.broken(at)
        draw -= shares.broken
        kind: EventType = "sale"
        if self.sold and draw < shares.returned + shares.voided:
            kind = "return" if draw < shares.returned else "void"
        sent = self.fresh(self.sale(at) if kind == "sale" else self.taken_back(kind, at))
        if self.rng.random() < shares.resent / (1 - shares.resent - shares.broken):
            self.repeat_later(sent)
        return sent

    def fresh(self, receipt: SimulatedReceipt) -> SimulatedRecord:
        if receipt.type == "sale":
            self.remember(receipt)
        gross = receipt.gross if receipt.type == "sale" else -receipt.gross
        return self.record(compact(receipt.event()), None, gross, receipt.type)

    def broken(self, at: str) -> SimulatedRecord:
        """Return a sale that is spoilt on its way. Its number is used up and its money is in the drawer."""
        fault = self.rng.choice([None, *FAULTS.values()])
        if fault is None and self.sold:
            return self.conflict()
        receipt = self.sale(at)
        reason, spoil = fault or FAULTS["cut_off"]
        return self.record(spoil(receipt.event(), self.rng), reason, receipt.gross, "sale")

    def conflict(self) -> SimulatedRecord:
        """Return an earlier event's id again, with one line more: valid in itself, in conflict with the earlier."""
        earlier = self.rng.choice(self.sold)
        lines = earlier.lines + ring_up(self.rng)[:1]
        again = replace(earlier, lines=lines, tenders=(("card", sum(line.amount for line in lines)),))
        return self.record(compact(again.event()), Reason.CONFLICTING_DUPLICATE, again.gross, "sale")

    def record(self, value: bytes, reason: Reason | None, gross: int, kind: EventType) -> SimulatedRecord:
        state: Literal["fresh", "broken"] = "broken" if reason else "fresh"
        return SimulatedRecord(self.name.encode(), value, state, reason, Decimal(money(gross)), self.name, kind)

    def repeat_later(self, sent: SimulatedRecord) -> None:
        """Give the record a free turn of the store; near ones are likelier, as with a till that retries."""
        while True:
            turn = self.position + 1 + int((_FARTHEST + 1) ** self.rng.random())
            if turn not in self.repetitions:
                self.repetitions[turn] = sent._replace(kind="resent")
                return

    def sale(self, at: str) -> SimulatedReceipt:
        lines = ring_up(self.rng)
        gross = sum(line.amount for line in lines)
        customer = f"C{self.rng.randrange(5000):05d}" if self.rng.random() < 0.3 else None
        register, number = self.turn(gross)
        tenders = pay(self.rng, gross)
        return SimulatedReceipt("sale", self.name, register, number, at, self.cashier(), lines, tenders, customer)

    def taken_back(self, kind: EventType, at: str) -> SimulatedReceipt:
        """Return some lines of an earlier sale (all of them for a void), at the prices paid."""
        sale = self.sold.pop(self.rng.randrange(len(self.sold)))
        count = len(sale.lines) if kind == "void" else self.rng.randint(1, len(sale.lines))
        lines = tuple(self.rng.sample(sale.lines, count)) if kind == "return" else sale.lines
        gross = sum(line.amount for line in lines)
        tenders = sale.tenders if kind == "void" else ((self.rng.choice(("cash", "card")), gross),)
        register, number = self.turn(-gross)
        return replace(
            sale,
            type=kind,
            register=register,
            number=number,
            occurred_at=at,
            cashier=self.cashier(),
            lines=lines,
            tenders=tenders,
            original=(sale.register, sale.number),
        )

    def turn(self, gross: int) -> tuple[str, str]:
        """Return a register and its next number; the register's takings change by `gross`."""
        register = self.rng.choice(list(self.numbers))
        number = self.numbers[register]
        self.numbers[register] = number + 1
        self.takings[register] += gross
        return register, str(number)

    def cashier(self) -> str:
        return f"K{self.rng.randint(1, 20):02d}"

    def remember(self, sale: SimulatedReceipt) -> None:
        self.sold.append(sale)
        if len(self.sold) > _REMEMBERED:
            del self.sold[0]

    def close(self, local: datetime) -> None:
        """Queue the Z totals of the day that ended: everything a register printed, including receipts broken later."""
        for register, gross in sorted(self.takings.items()):
            at = local.isoformat(timespec="milliseconds")
            event = header("day_close", self.name, register, f"Z{self.day:%Y%m%d}", at)
            event["totals"] = {"gross": money(gross)}
            self.closes.append(self.record(compact(event), None, 0, "day_close"))
        self.takings.clear()
        self.day = local.date()
