"""`tillstream explain`: one receipt's whole way, with its times."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from ops.dlq.listing import history
from ops.dlq.render import table_console
from ops.reconcile.compare import settle_letters
from ops.reconcile.content import in_places
from ops.reconcile.event_store import EventStore
from ops.reconcile.expected_documents import ExpectedDocuments
from ops.reconcile.fetch import committed
from ops.reconcile.rows import EventRow
from ops.reconcile.run import opened, read_all
from ops.reconcile.verdict import WHERE
from schemas.document import ErpDocument
from schemas.reference import split_receipt
from sinks.base import DeliveryRecord, Sink, SupportsDeliveryHistory, SupportsErpNumbers
from streams.dead_letters.header import RecordOrigin, printable
from streams.kafka.reader import Progress, TopicRecord
from streams.settings import Settings

#: A receipt's number may be that of many registers.
MOST = 20

FATES = {
    "erp": "delivered: the document that the ERP should hold",
    "duplicate": "a duplicate: nothing was done",
    "superseded": "replaced by a higher revision",
    "dead": "a dead letter",
    "held": "a dead letter, held by a cleaning rule",
    "parked": "a dead letter, parked",
    "resolved": "a dead letter that a person has decided not to book",
    "noted": "no document is made of it",
    "waiting": "waits for a worker",
    "refused": "acknowledged, but today's rules would refuse it",
    "vanished": "acknowledged, but it should be a dead letter, and is none",
}


@dataclass
class TraceStep:
    """Something that happened to a receipt."""

    at: datetime | None
    what: str
    where: str = ""
    detail: str = ""

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        at = self.at.isoformat(timespec="milliseconds") if self.at is not None else None
        return {"at": at, "what": self.what, "where": self.where, "detail": self.detail}


@dataclass
class ReceiptTrace:
    """A receipt's way, in order of time, and the document that the ERP holds of it now."""

    ref: str
    steps: list[TraceStep] = field(default_factory=list)
    document: ErpDocument | None = None

    def as_json(self) -> dict[str, Any]:
        """For machines; no customer and no cashier are in it."""
        document = None if self.document is None else _document(self.document)
        return {"receipt": self.ref, "steps": [step.as_json() for step in self.steps], "document": document}


def explain(settings: Settings, target: str, progress: Progress = lambda _: None) -> list[ReceiptTrace]:
    """The ways of the receipts that are meant: by number, by reference, or by the id of an event of theirs.

    The whole topic is read. Raises as `office.reconcile`.
    """
    with opened(settings) as (sink, judge):
        places = committed(settings)
        refs = _refs(settings, judge, target, progress)
        return [_way(settings, judge, sink, places, ref, progress) for ref in refs[:MOST]]


def _refs(settings: Settings, judge: ExpectedDocuments, target: str, progress: Progress) -> list[str]:
    if split_receipt(target) is not None:
        return [target]
    book = EventStore()
    try:
        _read(settings, book, judge, target.rpartition(":")[2], progress)
        return book.meant(target)
    finally:
        book.close()


def _read(settings: Settings, book: EventStore, judge: ExpectedDocuments, word: str, progress: Progress) -> None:
    asyncio.run(read_all(settings, book, judge, datetime.now(UTC), progress=progress, only=has_word(settings, word)))


def has_word(settings: Settings, word: str) -> Callable[[TopicRecord], bool]:
    """Whether a record may be about something with this word in its name, so that not all have to be decoded.

    A canonical record has the word as it is, or with escapes. What a contract makes of a record may be anything.
    """
    plain = word.encode()
    if settings.contract is not None or not re.fullmatch(r"[A-Za-z0-9._-]+", word):
        return lambda record: True
    return lambda record: record.value is not None and (plain in record.value or b"\\u" in record.value)


def _way(
    settings: Settings, judge: ExpectedDocuments, sink: Sink, places: dict[int, int], ref: str, progress: Progress
) -> ReceiptTrace:
    book = EventStore()
    try:
        parts = split_receipt(ref)
        number = parts[3] if parts is not None else ""
        _read(settings, book, judge, number, progress)
        settle_letters(book, (), sink)
        book.judge(places)
        facts = book.about(ref)
    finally:
        book.close()
    held = sink.read([ref])
    way = ReceiptTrace(ref, document=held[0] if held else None)
    for fact in facts:
        way.steps += _arrival(settings.topic, fact)
        if fact.letter:
            way.steps += _letters(settings, fact)
    ids = {fact.event_id for fact in facts} | {document.event_id for document in held}
    if isinstance(sink, SupportsDeliveryHistory):
        way.steps += [_delivery(each) for each in sink.deliveries(sorted(ids))]
    way.steps.sort(key=lambda step: (step.at is None, step.at))
    way.steps.append(_now(way, facts, sink.numbers([ref]).get(ref) if isinstance(sink, SupportsErpNumbers) else None))
    return way


def _arrival(topic: str, fact: EventRow) -> list[TraceStep]:
    stands = f"{topic}, partition {fact.partition}, offset {fact.offset}"
    said = f"event {fact.event_id}, revision {fact.revision}, {in_places(fact.gross, fact.currency)} {fact.currency}"
    more = f"; today's rules: {fact.reason}" if fact.reason else ""
    return [
        TraceStep(_moment(fact.occurred), "sold at the till", f"store {fact.store}, business day {fact.day}", said),
        TraceStep(_moment(fact.arrived), "arrived", stands, f"{FATES[fact.fate]}{more}"),
    ]


def _letters(settings: Settings, fact: EventRow) -> list[TraceStep]:
    origin = RecordOrigin(settings.topic, fact.partition, fact.offset, fact.digest)
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


def _now(way: ReceiptTrace, facts: Sequence[EventRow], number: str | None) -> TraceStep:
    document = way.document
    if document is None:
        due = any(fact.fate == "erp" for fact in facts)
        left = next((fact for fact in facts if fact.fate in WHERE), None)
        if left is not None and not due:
            gross = f"{in_places(left.gross, left.currency)} {left.currency}" if left.has_gross else "an unknown amount"
            return TraceStep(None, "now: NOT BOOKED", way.ref, f"{gross}, {WHERE[left.fate]}")
        words = "and it should hold one: tillstream reconcile" if due else "and there should be none" if facts else ""
        return TraceStep(
            None, "now: the ERP holds no document", way.ref, words or "nor did the topic have anything of it"
        )
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
        name: in_places(getattr(document, name), document.currency) for name in ("net", "tax", "rounding", "gross")
    }
    said = {name: getattr(document, name) for name in names}
    return said | {"business_date": document.business_date.isoformat(), "lines": len(document.lines)} | amounts


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def report(ways: Sequence[ReceiptTrace]) -> None:
    """Prints them."""
    console = table_console()
    for way in ways:
        table = Table("when (UTC)", "what", "where", "detail", title=printable(way.ref), title_justify="left", box=None)
        for step in way.steps:
            at = f"{step.at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] if step.at is not None else ""
            table.add_row(at, *map(printable, (step.what, step.where, step.detail)))
        console.print(table)
        console.print()
