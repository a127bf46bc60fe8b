"""The guarantee, searched for holes: any stream, cut in any way, under crashes between any two steps.

Hypothesis sends records, starts, steps and kills workers, moves the partition while the old owner goes on (a zombie),
takes the window, the clock and the sink away, and resets the offsets. After each of that the promises of
docs/explanation/delivery.md are held against what is there; at the end the outcome is that of a run without any crash.

The long version (`make faults`) tries more and longer histories.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import pytest
import structlog
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Column, Connection, make_url, select

from schemas.dead_letter import Reason
from schemas.document import ErpDocument
from sinks.base import Result
from sinks.memory import MemorySink
from sinks.sql import reads
from sinks.sql.tables import deliveries, documents
from sinks.sqlite.sink import SqliteSink
from streams.batch import Batch
from streams.dead_letters.record import reason_of
from streams.metrics import WorkerMetrics
from streams.pipeline import process
from tests.faults.conftest import LONG
from tests.faults.stepwise import STRIKES, Surroundings, Worker
from tests.support.events import FakeRecord, event
from tests.support.line import Line

#: No event is dated later; a worker's clock that is a day behind an event takes it for implausible.
LAST_DAY = datetime(2026, 3, 13, 12, 0, tzinfo=UTC)
CLOCKS = [LAST_DAY + timedelta(hours=hours) for hours in (-20, 0, 13, 24, 100, 10_000)]
RUNS = count(1)


@dataclass(frozen=True)
class Sale:
    """What an event says; all but `id` is its content."""

    id: str | None
    receipt: int
    revision: int = 0
    price: int = 150
    cashier: str = "Ada"
    day: int = 13

    def identity(self) -> str:
        return self.id or f"S1/R1/{self.receipt}/sale/{self.revision}"

    def gross(self) -> Decimal:
        return Decimal(2 * self.price).scaleb(-2)

    def says_the_same_as(self, other: "Sale") -> bool:
        return replace(self, id=None) == replace(other, id=None)

    def value(self, source: str, **changes: Any) -> bytes:
        gross = str(self.gross())
        plain = event(
            source=source,
            receipt=str(self.receipt),
            revision=self.revision,
            cashier=self.cashier,
            occurred_at=f"2026-03-{self.day}T12:00:00Z",
            lines=[{"sku": "A", "quantity": "2", "unit_price": str(self.gross() / 2), "tax_rate": "19"}],
            tenders=[{"kind": "cash", "amount": gross}],
            totals={"gross": gross},
        )
        if self.id is None:
            del plain["event_id"]
        else:
            plain["event_id"] = self.id
        return json.dumps(plain | changes).encode()


@dataclass(frozen=True)
class Sent:
    """A record of the topic: a sale, or a reason why it is none, or neither (a tombstone or a day_close)."""

    value: bytes | None
    sale: Sale | None = None
    fault: Reason | None = None


#: What a sale can be followed by: another one made from it. `n` is a number that nothing else has, so that two events
#: say the same only where that is meant.
FOLLOWERS: dict[str, Callable[[Sale, int], Sale]] = {
    "new": lambda sale, n: Sale(f"e-{n}", receipt=n, day=10 + n % 4),
    "nameless": lambda sale, n: Sale(None, receipt=n, day=10 + n % 4),
    "again": lambda sale, n: sale,
    "revised": lambda sale, n: replace(sale, id=f"e-{n}", revision=sale.revision + 1, price=150 + n),
    "outdated": lambda sale, n: replace(sale, id=f"e-{n}", revision=max(0, sale.revision - 1), price=150 + n),
    "conflicting in money": lambda sale, n: replace(sale, price=150 + n),
    "conflicting in a field": lambda sale, n: replace(sale, cashier=f"C-{n}"),
    "colliding": lambda sale, n: replace(sale, id=f"e-{n}", price=150 + n),
    "under another id": lambda sale, n: replace(sale, id=f"e-{n}"),
    "under another receipt": lambda sale, n: replace(sale, receipt=n),
}
FAULTS: dict[str, tuple[Reason, dict[str, Any]]] = {
    "totals": (Reason.TOTALS_MISMATCH, {"totals": {"gross": "9.99"}, "tenders": []}),
    "currency": (Reason.UNKNOWN_CURRENCY, {"currency": "EUX"}),
    "time": (Reason.IMPLAUSIBLE_TIME, {"occurred_at": "2029-03-10T12:00:00Z"}),
    "type": (Reason.SCHEMA_MISMATCH, {"type": "gift"}),
}
KINDS = st.sampled_from([*FOLLOWERS, *FOLLOWERS, *FAULTS, "json", "in other bytes", "day_close", "tombstone"])


def sent(kind: str, sale: Sale, number: int, source: str) -> Sent:
    """A record of that kind, made from an earlier sale."""
    if kind == "tombstone":
        return Sent(None)
    if kind == "json":
        return Sent(b"{", fault=Reason.INVALID_JSON)
    if kind == "day_close":
        return Sent(sale.value(source, type="day_close", event_id=f"close-{number}", lines=[], tenders=[]))
    if kind in FAULTS:
        reason, changes = FAULTS[kind]
        return Sent(sale.value(source, **changes), fault=reason)
    if kind == "in other bytes":
        return Sent(b" " + sale.value(source, unknown=number).replace(b'":', b'" : '), sale)
    made = FOLLOWERS[kind](sale, number)
    return Sent(made.value(source), made)


@dataclass
class Verdicts:
    """What must become of each record of a topic, as docs/explanation/delivery.md has it, without a word from the
    product."""

    rejected: dict[int, Reason]  # by offset
    taken: dict[str, Sale]  # by event id: each has its one effect
    ids: dict[int, str]  # event id of each record that is no dead letter, by offset

    @classmethod
    def on(cls, log: list[Sent]) -> "Verdicts":
        rejected: dict[int, Reason] = {}
        taken: dict[str, Sale] = {}
        ids: dict[int, str] = {}
        newest: dict[int, Sale] = {}
        refused: set[Sale] = set()
        for offset, record in enumerate(log):
            sale = record.sale
            if record.fault is not None:
                rejected[offset] = record.fault
            if sale is None:
                continue
            first, held = taken.get(sale.identity()), newest.get(sale.receipt)
            in_conflict = held and held.revision == sale.revision and not sale.says_the_same_as(held)
            if sale in refused or (first is None and in_conflict):
                rejected[offset] = Reason.CONFLICTING_RECEIPT
                refused.add(sale)  # and stays so, whatever comes after
            elif first is not None and not sale.says_the_same_as(first):
                rejected[offset] = Reason.CONFLICTING_DUPLICATE
            else:
                ids[offset] = sale.identity()
                taken.setdefault(sale.identity(), sale)
                if held is None or held.revision < sale.revision:
                    newest[sale.receipt] = sale
        return cls(rejected, taken, ids)


class Guarantee(RuleBasedStateMachine):
    """On a sink that subclasses name."""

    sink: ClassVar[Any]

    def __init__(self) -> None:
        super().__init__()
        self.source = f"run-{next(RUNS)}"  # one database serves all runs
        self.runner = asyncio.Runner()
        self.around = Surroundings(self.sink, lambda ids: ids <= self.sink.delivered(self.source), METRICS, LAST_DAY)
        self.sink.before_commit = self.around.die_in_transaction
        self.sent: list[Sent] = []
        self.verdicts = Verdicts.on([])
        self.owner = Worker(self.around, slice(None))
        self.zombies: list[Worker] = []
        self.held: dict[str, ErpDocument] | None = None  # what was read, until a worker does something
        self.delivered_now: set[str] | None = None

    # what happens

    @rule(kinds=st.lists(st.tuples(KINDS, st.integers(0, 50)), min_size=1, max_size=5))
    def send(self, kinds: list[tuple[str, int]]) -> None:
        for kind, place in kinds:
            number = len(self.sent)
            sales = [record.sale for record in self.sent if record.sale] or [Sale("e", receipt=0)]
            record = sent(kind, sales[-1 - place % len(sales)], number, self.source)
            self.sent.append(record)
            self.around.log.append(FakeRecord(number, record.value))
            self.verdicts = Verdicts.on(self.sent)

    @rule(
        who=st.integers(0, 2),
        records=st.integers(1, 6),
        gates=st.integers(0, 8),
        dies=st.sampled_from([*STRIKES, None, None, None]),
        outages=st.lists(st.sampled_from(["before", "after"]), max_size=2),
    )
    def begin(self, who: int, records: int, gates: int, dies: str | None, outages: list[str]) -> None:
        """A batch, up to some gate. The next writes, whoever makes them, fail before or after their commit."""
        self.around.outages = outages
        if self.owner.dead:
            self.move_partition(slice(None))
        free = [w for w in self.workers() if w.at is None and not w.dead and w.position < len(self.around.log)]
        if free:
            worker = free[who % len(free)]
            self.run(worker.begin(records, dies))
            self.pass_gates(worker, gates)

    @rule(who=st.integers(0, 2), gates=st.integers(1, 8))
    def go_on(self, who: int, gates: int) -> None:
        busy = self.busy()
        if busy:
            self.pass_gates(busy[who % len(busy)], gates)

    @rule(who=st.integers(0, 2))
    def kill(self, who: int) -> None:
        busy = self.busy()
        if busy:
            self.run(busy[who % len(busy)].kill())

    @rule(who=st.integers(0, 2))
    def commit(self, who: int) -> None:
        """Kafka fences a zombie's commit off; the guarantee does not lean on it."""
        settled_to = self.workers()[who % len(self.workers())].settled_to
        if settled_to is not None:
            self.around.committed = settled_to

    @rule(window=st.sampled_from([slice(None), slice(0), slice(0, 2), slice(2, None), slice(1, 3)]))
    def move_partition(self, window: slice) -> None:
        """A new owner, whose window recovers that part of the changelog; the old one goes on unless it is dead."""
        self.zombies = [worker for worker in [self.owner, *self.zombies] if not worker.dead][:2]
        self.owner = Worker(self.around, window)

    @precondition(lambda self: self.around.committed > 0)
    @rule()
    def reset_offsets(self) -> None:
        self.around.committed = 0
        self.move_partition(slice(None))

    @rule(now=st.sampled_from(CLOCKS))
    def set_clock(self, now: datetime) -> None:
        self.around.now = now

    # what holds, at any time

    @invariant()
    def promises_hold(self) -> None:
        self.nothing_is_acknowledged_that_has_not_come_to_its_end()
        self.each_event_has_one_effect()
        self.each_receipt_is_the_newest_revision_that_was_delivered()
        self.each_dead_letter_is_a_rejected_record_with_its_reason()

    def nothing_is_acknowledged_that_has_not_come_to_its_end(self) -> None:
        dead = {offset for offset, _ in self.letters()}
        delivered = self.delivered()
        for offset in range(self.around.committed):
            if offset in self.verdicts.rejected:
                assert offset in dead, f"offset {offset} is acknowledged, rejected, and no dead letter"
            elif offset in self.verdicts.ids:
                assert self.event_id(offset) in delivered, f"offset {offset} is acknowledged and not in the sink"

    def each_event_has_one_effect(self) -> None:
        assert max(self.around.effects.values(), default=1) == 1
        held = [document.event_id for document in self.documents().values()]
        assert len(held) == len(set(held))

    def each_receipt_is_the_newest_revision_that_was_delivered(self) -> None:
        delivered, newest = self.delivered(), dict[str, Sale]()
        for identity, sale in self.verdicts.taken.items():
            ref = self.ref(sale)
            if f"{self.source}:{identity}" in delivered and (ref not in newest or sale.revision > newest[ref].revision):
                newest[ref] = sale
        documents = self.documents()
        assert documents.keys() == newest.keys()
        for ref, sale in newest.items():
            document = documents[ref]
            assert document.event_id == f"{self.source}:{sale.identity()}"
            assert (document.revision, document.cashier) == (sale.revision, sale.cashier)
            assert document.gross == sum(line.gross for line in document.lines) == sale.gross()
            assert [payment.amount for payment in document.payments] == [sale.gross()]

    def each_dead_letter_is_a_rejected_record_with_its_reason(self) -> None:
        for letter, (offset, reason) in zip(self.around.letters, self.letters(), strict=True):
            assert reason == self.verdicts.rejected.get(offset), f"offset {offset}: {reason}"
            assert letter.value == self.sent[offset].value

    # the end

    @rule()
    def drain(self) -> None:
        """Without a further crash everything comes to its end, and it is that of a run without any fault."""
        self.move_partition(slice(None))
        while self.owner.position < len(self.around.log):
            self.run(self.owner.begin(6))
            while self.owner.at is not None:
                self.run(self.owner.go_on())
            self.commit(0)
        assert dict(self.letters()) == self.verdicts.rejected
        assert self.outcome_without_a_crash() == (self.documents(), self.verdicts.rejected)

    def teardown(self) -> None:
        try:
            self.drain()
            self.promises_hold()
        finally:
            self.runner.close()

    def outcome_without_a_crash(self) -> tuple[dict[str, ErpDocument], dict[int, Reason | None]]:
        """All records in one batch, on a line of their own."""
        line = Line(now=self.around.now)
        self.runner.run(process(Batch("pos.sales", 0, self.around.log), line.services))
        assert isinstance(line.sink, MemorySink)
        return line.sink.documents, {int(offset): reason for offset, reason in letters_of(line.letters)}

    # what is there

    def run(self, work: Any) -> None:
        self.held = self.delivered_now = None
        with structlog.testing.capture_logs():
            self.runner.run(work)

    def pass_gates(self, worker: Worker, gates: int) -> None:
        for _ in range(gates):
            if worker.at is not None:
                self.run(worker.go_on())

    def workers(self) -> list[Worker]:
        return [self.owner, *self.zombies]

    def busy(self) -> list[Worker]:
        return [worker for worker in self.workers() if worker.at is not None]

    def ref(self, sale: Sale) -> str:
        return f"{self.source}/S1/R1/{sale.receipt}/sale"

    def event_id(self, offset: int) -> str:
        return f"{self.source}:{self.verdicts.ids[offset]}"

    def documents(self) -> dict[str, ErpDocument]:
        if self.held is None:
            self.held = {document.external_ref: document for document in self.sink.held(self.source)}
        return self.held

    def letters(self) -> list[tuple[int, Reason | None]]:
        return letters_of(self.around.letters)

    def delivered(self) -> set[str]:
        """The ids of the events that the sink holds."""
        if self.delivered_now is None:
            self.delivered_now = self.sink.delivered(self.source)
        return self.delivered_now


def letters_of(letters: list[Any]) -> list[tuple[int, Reason | None]]:
    """(offset, reason) of dead letters."""
    return [(int(dict(letter.headers)["__connect.errors.offset"]), reason_of(letter.headers)) for letter in letters]


METRICS = WorkerMetrics()


class OpenMemorySink(MemorySink):
    """Shows what it holds of one source."""

    before_commit = staticmethod(lambda: None)

    def held(self, source: str) -> list[ErpDocument]:
        return self.read([ref for ref, document in self.documents.items() if document.source == source])

    def delivered(self, source: str) -> set[str]:
        return {event_id for event_id in self.contents if event_id.startswith(f"{source}:")}


class OpenSqliteSink(SqliteSink):
    """Shows what it holds of one source, and calls `before_commit` in the transaction."""

    before_commit = staticmethod(lambda: None)

    def _deliver(self, *arguments: Any) -> list[Result]:
        results = super()._deliver(*arguments)
        self.before_commit()
        return results

    def held(self, source: str) -> list[ErpDocument]:
        with self._connection() as connection:
            return reads.documents(connection, self._keys(connection, documents.c.external_ref, f"{source}/"))

    def delivered(self, source: str) -> set[str]:
        with self._connection() as connection:
            return set(self._keys(connection, deliveries.c.event_id, f"{source}:"))

    def _keys(self, connection: Connection, key: Column[str], prefix: str) -> list[str]:
        """By the index: the tables hold all runs."""
        return list(connection.execute(select(key).where(key.between(prefix, prefix + "\U0010ffff"))).scalars())


@pytest.fixture(params=["memory", "sqlite"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """An empty sink."""
    if request.param == "memory":
        yield OpenMemorySink()
        return
    made = OpenSqliteSink(make_url(f"sqlite:///{tmp_path}/erp.sqlite"))
    made.check(apply=True)
    yield made
    made.close()


def test_no_order_of_crashes_breaks_the_guarantee(sink: Any, random: Random) -> None:
    machine = type("GuaranteeOn" + type(sink).__name__, (Guarantee,), {"sink": sink})
    run_state_machine_as_test(
        seed(random.randrange(2**32))(machine),
        settings=settings(
            deadline=None,
            max_examples=1_000 if LONG else 100,
            stateful_step_count=80 if LONG else 40,
            suppress_health_check=list(HealthCheck),
        ),
    )
