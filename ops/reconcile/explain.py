"""`tillstream explain`: the trace of one receipt, with times."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from ops.dlq.listing import history
from ops.dlq.render import table_console
from ops.reconcile.compare import settle_dead_letters
from ops.reconcile.content import format_amount
from ops.reconcile.event_store import EventStore
from ops.reconcile.expected_documents import ExpectedDocuments
from ops.reconcile.fetch import committed
from ops.reconcile.rows import EventRow
from ops.reconcile.run import open_sink_and_expected, read_all
from ops.reconcile.verdict import STATUS_LOCATIONS
from schemas.document import ErpDocument
from schemas.reference import split_receipt
from sinks.base import DeliveryRecord, Sink, SupportsDeliveryHistory, SupportsErpNumbers
from streams.dead_letters.header import RecordOrigin, printable
from streams.kafka.reader import Progress, TopicRecord
from streams.settings import Settings

#: A receipt's number may be that of many registers.
MOST = 20

STATUS_LABELS = {
    "erp": "delivered: the document that the ERP should hold",
    "duplicate": "a duplicate: no action",
    "superseded": "replaced by a higher revision",
    "dead": "a dead letter",
    "held": "a dead letter, held by a cleaning rule",
    "parked": "a dead letter, parked",
    "resolved": "a dead letter, resolved by hand and not to be booked",
    "noted": "skipped: no document is due",
    "waiting": "waiting for the worker",
    "refused": "acknowledged, but today's rules would refuse it",
    "vanished": "acknowledged, but missing in both the ERP and the dead letters",
}


@dataclass
class TraceStep:
    """Something that happened to a receipt."""

    at: datetime | None
    what: str
    where: str = ""
    detail: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the step as JSON."""
        at = self.at.isoformat(timespec="milliseconds") if self.at is not None else None
        return {"at": at, "what": self.what, "where": self.where, "detail": self.detail}


@dataclass
class ReceiptTrace:
    """The trace of a receipt in order of time, and the document that the ERP holds now."""

    ref: str
    steps: list[TraceStep] = field(default_factory=list)
    document: ErpDocument | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the trace as JSON, without customer and cashier."""
        document = None if self.document is None else _document(self.document)
        return {"receipt": self.ref, "steps": [step.as_json() for step in self.steps], "document": document}


def explain(settings: Settings, target: str, progress: Progress = lambda _: None) -> list[ReceiptTrace]:
    """Trace the receipts with this number, this reference, or an event of this id.

    The whole topic is read. Raises as `ops.reconcile.run.reconcile`.
    """
    with open_sink_and_expected(settings) as (sink, expected):
        places = committed(settings)
        refs = _find_references(settings, expected, target, progress)
        return [_trace_receipt(settings, expected, sink, places, ref, progress) for ref in refs[:MOST]]


def _find_references(settings: Settings, expected: ExpectedDocuments, target: str, progress: Progress) -> list[str]:
    if split_receipt(target) is not None:
        return [target]
    event_store = EventStore()
    try:
        _read(settings, event_store, expected, target.rpartition(":")[2], progress)
        return event_store.find_references(target)
    finally:
        event_store.close()


def _read(
    settings: Settings, event_store: EventStore, expected: ExpectedDocuments, word: str, progress: Progress
) -> None:
    asyncio.run(
        read_all(
            settings, event_store, expected, datetime.now(UTC), progress=progress, only=word_filter(settings, word)
        )
    )


def word_filter(settings: Settings, word: str) -> Callable[[TopicRecord], bool]:
    """Whether a record may be about something with this word in its name, so that not all have to be decoded.

    A canonical record has the word as it is, or with escapes. A contract may map a record to anything.
    """
    encoded = word.encode()
    if settings.contract is not None or not re.fullmatch(r"[A-Za-z0-9._-]+", word):
        return lambda record: True
    return lambda record: record.value is not None and (encoded in record.value or b"\\u" in record.value)


def _trace_receipt(
    settings: Settings, expected: ExpectedDocuments, sink: Sink, places: dict[int, int], ref: str, progress: Progress
) -> ReceiptTrace:
    event_store = EventStore()
    try:
        parts = split_receipt(ref)
        number = parts[3] if parts is not None else ""
        _read(settings, event_store, expected, number, progress)
        settle_dead_letters(event_store, (), sink)
        event_store.classify(places)
        events = event_store.events_of(ref)
    finally:
        event_store.close()
    held = sink.read([ref])
    way = ReceiptTrace(ref, document=held[0] if held else None)
    for event in events:
        way.steps += _arrival(settings.topic, event)
        if event.dead_letter:
            way.steps += _letters(settings, event)
    ids = {event.event_id for event in events} | {document.event_id for document in held}
    if isinstance(sink, SupportsDeliveryHistory):
        way.steps += [_delivery(each) for each in sink.deliveries(sorted(ids))]
    way.steps.sort(key=lambda step: (step.at is None, step.at))
    way.steps.append(_now(way, events, sink.numbers([ref]).get(ref) if isinstance(sink, SupportsErpNumbers) else None))
    return way


def _arrival(topic: str, event: EventRow) -> list[TraceStep]:
    stands = f"{topic}, partition {event.partition}, offset {event.offset}"
    gross = f"{format_amount(event.gross, event.currency)} {event.currency}"
    said = f"event {event.event_id}, revision {event.revision}, {gross}"
    more = f"; today's rules: {event.reason}" if event.reason else ""
    return [
        TraceStep(_moment(event.occurred), "sold at the till", f"store {event.store}, business day {event.day}", said),
        TraceStep(_moment(event.arrived), "arrived", stands, f"{STATUS_LABELS[event.status]}{more}"),
    ]


def _letters(settings: Settings, event: EventRow) -> list[TraceStep]:
    origin = RecordOrigin(settings.topic, event.partition, event.offset, event.digest)
    letters, outcomes = history(settings, origin)
    steps = [
        TraceStep(head.last_failed, f"dead letter, attempt {head.attempts}", f"letter {head.location}",
             f"{head.reason}: {head.detail}" + (f"; read by {head.versions}" if head.versions else ""))
        for head in letters
    ]  # fmt: skip
    return steps + [
        TraceStep(done.at, f"replayed: {done.end}" if done.end not in ("parked", "resolved") else done.end,
             f"action {done.action}", " ".join(filter(None, (done.reason, done.detail))))
        for done in outcomes
    ]  # fmt: skip


def _delivery(each: DeliveryRecord) -> TraceStep:
    return TraceStep(
        each.at, f"in the ERP: {each.effect}", each.external_ref, f"{each.event_id}, revision {each.revision}"
    )


def _now(way: ReceiptTrace, events: Sequence[EventRow], number: str | None) -> TraceStep:
    document = way.document
    if document is None:
        due = any(event.status == "erp" for event in events)
        left = next((event for event in events if event.status in STATUS_LOCATIONS), None)
        if left is not None and not due:
            gross = (
                f"{format_amount(left.gross, left.currency)} {left.currency}" if left.has_gross else "an unknown amount"
            )
            return TraceStep(None, "now: NOT BOOKED", way.ref, f"{gross}, {STATUS_LOCATIONS[left.status]}")
        words = "but one is due: tillstream reconcile" if due else "and none is due" if events else ""
        return TraceStep(None, "now: the ERP holds no document", way.ref, words or "and the topic has no record of it")
    said = _document(document)
    more = ", ".join(f"{name} {said[name]}" for name in ("mapping", "company", "review") if said[name])
    booked = f"booked on {document.business_date} in store {document.store}"
    detail = f"revision {document.revision}, {said['gross']} {document.currency}, {booked}"
    named = f" {number}" if number is not None else ""
    what = f"now: the ERP holds the {document.kind.replace('_', ' ')}{named}"
    return TraceStep(None, what, way.ref, detail + (f", {more}" if more else ""))


def _document(document: ErpDocument) -> dict[str, Any]:
    names = ("external_ref", "event_id", "kind", "revision", "store", "currency", "mapping", "company", "review")
    amounts = {
        name: format_amount(getattr(document, name), document.currency) for name in ("net", "tax", "rounding", "gross")
    }
    said = {name: getattr(document, name) for name in names}
    return said | {"business_date": document.business_date.isoformat(), "lines": len(document.lines)} | amounts


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def report(ways: Sequence[ReceiptTrace]) -> None:
    """Print the traces."""
    console = table_console()
    for way in ways:
        table = Table("when (UTC)", "what", "where", "detail", title=printable(way.ref), title_justify="left", box=None)
        for step in way.steps:
            at = f"{step.at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] if step.at is not None else ""
            table.add_row(at, *map(printable, (step.what, step.where, step.detail)))
        console.print(table)
        console.print()
