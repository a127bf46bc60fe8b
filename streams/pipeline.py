"""READ FIRST. The whole path of a batch, from the bytes of one partition to documents in the ERP.

In order, and the order is the guarantee:

1. `decode`      bytes to events, as the source's contract says; records that are not valid events are rejected.
                 Tombstones, `day_close` and records that a contract skips have no document. The schemas needed for
                 this are fetched first; if the registry is unavailable, this waits for it.
2. `first_turn`  an event repeated inside the batch, or a second event of the same receipt, waits for the next round,
                 after the first one is settled. So the outcome does not depend on how the stream was cut into batches.
3. `seen.split`  records known as delivered are duplicates. The window is a cache: a miss proves nothing.
4. `evaluate`    receipts that don't add up are rejected, the others become documents; unknown master data are
                 rejected. A mapping's cleaning rules repair, reject, hold or flag receipts here. A refund whose sale
                 the ERP does not have yet waits as a dead letter, if there is a rule for it.
5. `sink.write`  THE SINK: documents become durable, each at most once. The sink knows every event it ever took, so
                 it finds the duplicates that the window missed and the conflicts. While it is unavailable, this waits.
6. `seen.add`    SEEN: remember the events that the sink holds, and nothing else. Then the next round.
7. `dead_letters.put`  the broker confirms the rejected records in the dead-letter topic, unless there are more than
                 the budget allows, so that the fault is probably ours: then nothing of this batch is acknowledged.
8. The agent in `streams.worker.app` then acknowledges the batch to Kafka: ACK.

A crash anywhere leaves the batch unacknowledged: it is read again, and 3 and 5 recognise the events already written.
An exception other than SinkUnavailable is a bug: it ends the worker, with nothing acknowledged.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from schemas.document import ErpDocument
from sinks.base import Accepted, Refused, Result
from streams.batch import Arrival, Batch, BatchOutcome, QualityIssue, Rejection, Skipped
from streams.checks import CheckedReceipt, check
from streams.dead_letters.budget import BudgetGuard
from streams.decode import decode
from streams.mapping.mapper import Mapper
from streams.mapping.refunds import NOT_YET, hold_back_refunds
from streams.sources.canonical import CANONICAL, RecordSource
from streams.tracing.base import NoTracing, Tracing


class SeenRecords(Protocol):
    """The records known as delivered."""

    def split(self, partition: int, arrivals: Sequence[Arrival]) -> tuple[list[Arrival], list[Arrival]]:
        """Return (not known, known as delivered)."""
        ...

    def add(self, partition: int, arrivals: Sequence[Arrival]) -> None:
        """Remember arrivals that the sink holds."""
        ...


class LineSink(Protocol):
    """The ERP. Both calls wait until it answers; neither raises SinkUnavailable."""

    async def write(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """As `Sink.write`."""
        ...

    async def holds(self, external_refs: Sequence[str]) -> set[str]:
        """As `Sink.holds`."""
        ...


class DeadLetterBox(Protocol):
    """The destination of rejected records."""

    async def put(self, topic: str, partition: int, rejections: Sequence[Rejection], versions: str) -> None:
        """Return when they are durable. `versions` are those of the contract and the mapping that processed them."""
        ...


def ignore_findings(findings: Sequence[QualityIssue]) -> None:
    """Count nothing."""


_NO_TRACING = NoTracing()


@dataclass
class Services:
    """The collaborators of the line."""

    seen: SeenRecords
    sink: LineSink
    dead_letters: DeadLetterBox
    budget: BudgetGuard
    mapper: Callable[[], Mapper]
    now: Callable[[], datetime]
    source: RecordSource = CANONICAL
    tracing: Tracing = field(default_factory=NoTracing)
    count_findings: Callable[[Sequence[QualityIssue]], None] = ignore_findings


class Evaluation(NamedTuple):
    """Checked receipts, their documents, rejections of the others, and the issues that the cleaning rules found."""

    checked: list[CheckedReceipt]
    documents: list[ErpDocument]
    rejections: list[Rejection]
    findings: list[QualityIssue]


async def process(batch: Batch, services: Services) -> BatchOutcome:
    """Settle every record of the batch. Afterwards, and only then, the batch may be acknowledged."""
    source, mapper = services.source, services.mapper()  # one version for the whole batch
    await source.prepare(batch.records)
    with services.tracing.step("decode", len(batch.records)):
        arrivals, rejected, skipped = decode(batch, source)
    waiting, day_closes = split_day_closes(arrivals)
    outcome = BatchOutcome(skipped=[*skipped, *(Skipped(close.record, "day_close") for close in day_closes)])
    while waiting:
        turn, waiting = first_turn(waiting)
        fresh, known = services.seen.split(batch.partition, turn)
        checked, documents, rejections, findings = evaluate(fresh, mapper, services.now(), services.tracing)
        refunds = await hold_back_refunds(documents, checked, mapper.refunds, services.sink, services.now())
        waiting = refunds.early + waiting
        with services.tracing.step("write", len(refunds.ready)):
            results = await services.sink.write(refunds.ready)
        delivered, duplicates, refused = by_result(refunds.ready, results, checked)
        outcome.superseded += superseded(delivered, results)
        services.seen.add(batch.partition, delivered + duplicates)
        outcome.delivered += delivered
        outcome.seen_in_window += known
        outcome.seen_in_sink += duplicates
        outcome.findings += findings + refunds.findings
        rejected += rejections + refunds.rejections + refused
    bad = {rejection.record.offset for rejection in rejected if rejection.detail != NOT_YET}  # waiting is not bad
    services.budget.spend(len(batch.records), len(bad), (record.offset in bad for record in batch.records))
    await services.dead_letters.put(batch.topic, batch.partition, rejected, versions(source, mapper))
    services.count_findings(outcome.findings)
    outcome.rejected = rejected
    return outcome


def evaluate(arrivals: Sequence[Arrival], mapper: Mapper, now: datetime, tracing: Tracing = _NO_TRACING) -> Evaluation:
    """Check the arrivals and map those that add up to documents. Nothing is written, remembered or counted.

    The worker, `tillstream map`, dry runs and the reconciliation all evaluate receipts by this function.
    """
    with tracing.step("check", len(arrivals)):
        checked, failed = check(arrivals, now, mapper.repair)
    with tracing.step("map", len(checked)):
        documents, unmapped, findings = mapper.map(checked, now)
    return Evaluation(checked, documents, failed + unmapped, findings)


def versions(source: RecordSource, mapper: Mapper) -> str:
    """Return the versions that processed a record: `source@version` of the contract, `name@version` of the mapping.

    Without a contract the source is `canonical`; without either the text is empty.
    """
    if mapper.label:
        return f"{source.label} {mapper.label}"
    return "" if source.is_canonical else source.label


def split_day_closes(arrivals: Sequence[Arrival]) -> tuple[list[Arrival], list[Arrival]]:
    """Return (receipts, day closes). A day close has no document."""
    receipts: list[Arrival] = []
    day_closes: list[Arrival] = []
    for arrival in arrivals:
        if arrival.event.type == "day_close":
            day_closes.append(arrival)
        else:
            receipts.append(arrival)
    return receipts, day_closes


def first_turn(arrivals: Sequence[Arrival]) -> tuple[list[Arrival], list[Arrival]]:
    """Return (the first of each event and each receipt, the others), both in order."""
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
    """Return the arrivals that the sink only recorded, since it holds a newer revision."""
    late = {result.event_id for result in results if isinstance(result, Accepted) and result.effect == "superseded"}
    return [arrival for arrival in delivered if arrival.id in late] if late else []


def by_result(
    documents: Sequence[ErpDocument], results: Sequence[Result], checked: Sequence[CheckedReceipt]
) -> tuple[list[Arrival], list[Arrival], list[Rejection]]:
    """Return (delivered, duplicates found by the sink, refused)."""
    arrivals = {receipt.arrival.id: receipt.arrival for receipt in checked}
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
