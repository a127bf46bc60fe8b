"""READ FIRST. The whole way of a batch, from the bytes of one partition to documents in the ERP.

In order, and the order is the guarantee:

1. `decode`      bytes to events, as the source's contract says; what is no event is rejected. Tombstones, `day_close`
                 and what a contract skips carry no document. Schemas that this takes are fetched before; a registry
                 that is away is waited out.
2. `first_turn`  an event repeated inside the batch, or a second event of the same receipt, waits for the next round:
                 it is judged when what became of the first is known. So the outcome does not depend on how the
                 stream was cut into batches.
3. `seen.split`  records known as delivered are duplicates. The window is a cache: a miss proves nothing.
4. `check`       receipts that don't add up are rejected.
5. `to_documents` receipts to documents; unknown master data are rejected. A mapping's cleaning rules mend in 4 and 5
                 what may be mended, and reject or hold what they say. A refund whose sale the ERP does not have yet
                 waits as a dead letter, if there is a rule for it.
6. `sink.write`  THE SINK: documents become durable, each at most once. The sink knows every event it ever took, so
                 it finds the duplicates that the window missed and the conflicts. A bad world is waited out here.
7. `seen.add`    SEEN: what the sink holds is remembered, and nothing else. Then the next round.
8. `dead_letters.put`  the rejected are confirmed by the broker in the dead-letter topic, unless there are so many
                 that the fault must be ours: then nothing of this batch is acknowledged.
9. The agent in `streams.worker.app` then acknowledges the batch to Kafka: ACK.

A crash anywhere leaves the batch unacknowledged: it is read again, and 3 and 6 recognise what was done.
An exception that is no SinkUnavailable is a bug: it ends the worker, with nothing acknowledged.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Protocol

from schemas.document import ErpDocument
from schemas.store import Stores
from sinks.base import Accepted, Refused, Result
from streams.batch import Arrival, Batch, BatchOutcome, Rejection, Skipped
from streams.checks import CheckedReceipt, check
from streams.dead_letters.budget import BudgetGuard
from streams.decode import decode
from streams.mapping.documents import to_documents
from streams.mapping.mapper import Mapper
from streams.mapping.refunds import NOT_YET, without_their_sale
from streams.sources.source import Source
from streams.tracing.base import NoTracing, Tracing

#: What records without a contract are.
CANONICAL = "canonical"


class SeenRecords(Protocol):
    """The records known as delivered."""

    def split(self, partition: int, arrivals: Sequence[Arrival]) -> tuple[list[Arrival], list[Arrival]]:
        """(not known, known as delivered)"""
        ...

    def add(self, partition: int, arrivals: Sequence[Arrival]) -> None:
        """Remembers what the sink holds."""
        ...


class LineSink(Protocol):
    """The ERP, for as long as it takes: neither call raises for the world's sake."""

    async def write(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """As `Sink.write`."""
        ...

    async def holds(self, external_refs: Sequence[str]) -> set[str]:
        """As `Sink.holds`."""
        ...


class DeadLetterBox(Protocol):
    """Where the rejected go."""

    async def put(self, topic: str, partition: int, rejections: Sequence[Rejection], versions: str) -> None:
        """Returns when they are safe. `versions`: of the contract and of the mapping that they were read by."""
        ...


@dataclass
class Services:
    """What the line works with."""

    seen: SeenRecords
    sink: LineSink
    dead_letters: DeadLetterBox
    budget: BudgetGuard
    stores: Stores
    now: Callable[[], datetime]
    source: Source | None = None
    master: Callable[[], Mapper | None] = lambda: None
    tracing: Tracing = field(default_factory=NoTracing)


async def process(batch: Batch, to: Services) -> BatchOutcome:
    """Brings every record of the batch to its end. Afterwards, and only then, the batch may be acknowledged."""
    if to.source is not None:
        await to.source.prepare(batch.records)
    master = to.master()  # one version for the whole batch
    repair = mapped = None
    if master is not None:
        repair, mapped = master.repair, partial(master.document, stores=to.stores, now=to.now())
    with to.tracing.step("decode", len(batch.records)):
        arrivals, undecodable, noted = decode(batch, to.source)
    waiting, day_closes = with_document(arrivals)
    settled = BatchOutcome(noted=[*noted, *day_closes])
    rejected = undecodable
    while waiting:
        turn, waiting = first_turn(waiting)
        fresh, known = to.seen.split(batch.partition, turn)
        with to.tracing.step("check", len(fresh)):
            sound, unsound = check(fresh, to.now(), repair)
        with to.tracing.step("map", len(sound)):
            documents, unmapped = to_documents(sound, to.stores, mapped)
        if master is not None:
            documents, early, premature = await without_their_sale(documents, sound, master, to.sink, to.now())
            waiting = early + waiting
            unmapped += premature
        with to.tracing.step("write", len(documents)):
            results = await to.sink.write(documents)
        delivered, duplicates, refused = by_result(documents, results, sound)
        settled.superseded += superseded(delivered, results)
        to.seen.add(batch.partition, delivered + duplicates)
        settled.delivered += delivered
        settled.seen_in_window += known
        settled.seen_in_sink += duplicates
        rejected += unsound + unmapped + refused
    bad = {rejection.record.offset for rejection in rejected if rejection.detail != NOT_YET}  # what waits is not bad
    to.budget.spend(len(batch.records), len(bad), (record.offset in bad for record in batch.records))
    await to.dead_letters.put(batch.topic, batch.partition, rejected, versions(to.source, master))
    settled.rejected = rejected
    return settled


def versions(source: Source | None, master: Mapper | None) -> str:
    """What a record is read by: `source@version` of the contract, `name@version` of the mapping.

    Without a contract records are `canonical`; where there is neither, there is nothing to say.
    """
    if master is None:
        return source.contract.label if source is not None else ""
    return f"{source.contract.label if source is not None else CANONICAL} {master.label}"


def with_document(arrivals: Sequence[Arrival]) -> tuple[list[Arrival], list[Skipped]]:
    """The arrivals that become documents, and those that don't."""
    documents: list[Arrival] = []
    noted: list[Skipped] = []
    for arrival in arrivals:
        if arrival.event.type == "day_close":
            noted.append(Skipped(arrival.record, "day_close"))
        else:
            documents.append(arrival)
    return documents, noted


def first_turn(arrivals: Sequence[Arrival]) -> tuple[list[Arrival], list[Arrival]]:
    """(the first of each event and each receipt, the others), both in order."""
    events: set[str] = set()
    receipts: set[str] = set()
    turn: list[Arrival] = []
    later: list[Arrival] = []
    for arrival in arrivals:
        receipt = arrival.event.receipt_ref
        if arrival.id in events or receipt in receipts:
            later.append(arrival)
        else:
            turn.append(arrival)
        events.add(arrival.id)
        receipts.add(receipt)
    return turn, later


def superseded(delivered: Sequence[Arrival], results: Sequence[Result]) -> list[Arrival]:
    """Those that the sink has taken notice of only, since it holds a newer revision."""
    late = {result.event_id for result in results if isinstance(result, Accepted) and result.effect == "superseded"}
    return [arrival for arrival in delivered if arrival.id in late] if late else []


def by_result(
    documents: Sequence[ErpDocument], results: Sequence[Result], sound: Sequence[CheckedReceipt]
) -> tuple[list[Arrival], list[Arrival], list[Rejection]]:
    """(delivered, found by the sink to be delivered before, refused)"""
    arrivals = {receipt.arrival.id: receipt.arrival for receipt in sound}
    delivered: list[Arrival] = []
    duplicates: list[Arrival] = []
    refused: list[Rejection] = []
    for document, result in zip(documents, results, strict=True):
        arrival = arrivals[document.event_id]
        if isinstance(result, Refused):
            refused.append(Rejection(arrival.record, result.reason, result.detail, "write", arrival.event))
        elif result.effect == "duplicate":
            duplicates.append(arrival)
        else:
            delivered.append(arrival)
    return delivered, duplicates, refused
