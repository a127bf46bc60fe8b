"""Turn records of the source topic into rows, with the decoding, checks and mapping of the pipeline."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256

from ops.reconcile.rows import NOWHERE, CloseRow, SentRow, milliseconds, tenders_text
from schemas.document import ErpDocument
from schemas.money import NotMoney, minor_digits, parse_minor
from schemas.sale import SaleEvent, line_content
from schemas.store import Store, business_date
from sinks.base import DocumentsRefused
from sinks.digests import personal_print_of, print_of
from sinks.storable import AMOUNT_PLACES, FINE_PLACES, to_scaled
from streams.batch import Arrival, Batch, Record
from streams.dead_letters.header import DIGITS
from streams.decode import decode
from streams.mapping.documents import KINDS
from streams.mapping.mapper import Mapper
from streams.pipeline import evaluate, split_day_closes
from streams.sources.canonical import RecordSource


class ExpectedDocuments:
    """The documents that today's rules expect from records, without a mapping's codes: no amount depends on them."""

    def __init__(self, source: RecordSource, mapper: Mapper) -> None:
        self._source = source
        self._mapper = mapper
        self._without_codes = mapper.without_codes()

    async def rows(self, batch: Batch, now: datetime) -> tuple[list[SentRow], list[CloseRow]]:
        """Return a row for each event and each record without one, and the registers' totals."""
        await self._source.prepare(batch.records)
        arrivals, undecodable, skipped = decode(batch, self._source)
        places: Counter[int] = Counter()
        digests = {record.offset: sha256(record.value or b"").hexdigest()[:DIGITS] for record in batch.records}

        def bare(record: Record) -> SentRow:
            places[record.offset] += 1
            place = places[record.offset] - 1
            return SentRow(batch.partition, record.offset, place, digests[record.offset], record.timestamp)

        rows = [bare(part.record)._replace(skipped=part.why) for part in skipped]
        for each in undecodable:
            row = bare(each.record)._replace(reason=each.reason.value)
            rows.append(row if each.event is None else self._stated(row, each.event))
        receipts, day_closes = split_day_closes(arrivals)
        closes: list[CloseRow] = []
        for arrival in day_closes:
            row = self._stated(bare(arrival.record)._replace(skipped="day_close"), arrival.event)
            rows.append(row._replace(gross=0))
            closes += self._close(arrival)
        for arrival in receipts:  # one at a time: a batch may have an event more than once
            row = bare(arrival.record)
            _, documents, rejections, _ = evaluate([arrival], self._without_codes, now)
            rows += [self._expected(row, arrival.event, document) for document in documents]
            reasons = [rejection.reason.value for rejection in rejections]
            rows += [self._stated(row._replace(reason=reason), arrival.event) for reason in reasons]
        return rows, closes

    async def documents(self, batch: Batch, now: datetime) -> list[ErpDocument]:
        """Return the documents due for the batch's events."""
        await self._source.prepare(batch.records)
        arrivals, _, _ = decode(batch, self._source)
        receipts, _ = split_day_closes(arrivals)
        return evaluate(receipts, self._without_codes, now).documents

    def _expected(self, row: SentRow, event: SaleEvent, document: ErpDocument) -> SentRow:
        try:
            return self._due(self._stated(row, event, document.content), document)
        except DocumentsRefused as refused:
            return self._stated(row._replace(reason=refused.detail), event)

    def _due(self, row: SentRow, document: ErpDocument) -> SentRow:
        tenders: Counter[str] = Counter()
        for payment in document.payments:
            tenders[payment.kind] += to_scaled(payment.amount, AMOUNT_PLACES)
        return row._replace(
            lines=len(document.lines),
            quantity=sum(to_scaled(line.quantity, FINE_PLACES) for line in document.lines),
            net=to_scaled(document.net, AMOUNT_PLACES),
            tax=to_scaled(document.tax, AMOUNT_PLACES),
            gross=to_scaled(document.gross, AMOUNT_PLACES),
            has_gross=1,
            tenders=tenders_text(tenders),
            print=print_of(self._mapper.with_descriptions(document)),
            personal=personal_print_of(document),
        )

    def _stated(self, row: SentRow, event: SaleEvent, content: str | None = None) -> SentRow:
        """Fill in the fields that the event states, whether or not they add up. Pass `content` if it is known."""
        gross = _stated_gross(event)
        return row._replace(
            event_id=event.identity,
            ref=event.receipt_ref,
            revision=event.revision,
            content=event.content(map(line_content, event.lines)) if content is None else content,
            source=event.source,
            store=event.store,
            register=event.register_id,
            receipt=event.receipt,
            day=self._day(event),
            occurred=milliseconds(event.occurred_at),
            currency=event.currency,
            gross=gross or 0,
            has_gross=gross is not None,
        )

    def _close(self, arrival: Arrival) -> Sequence[CloseRow]:
        event = arrival.event
        said = (event.source, event.store, event.register_id, self._day(event))
        printed = (event.currency, _stated_gross(event) or 0, event.receipt, event.revision)
        return [CloseRow(arrival.id, *said, milliseconds(event.occurred_at), *printed)]

    def _day(self, event: SaleEvent) -> str:
        store = self.store(event.store)
        try:
            at = event.occurred_at
            return (at.astimezone(UTC).date() if store is None else business_date(at, store)).isoformat()
        except OverflowError:  # in the year 1, or 9999
            return NOWHERE

    def store(self, name: str) -> Store | None:
        """Return the store's time zone and cut-off, or None if the store is unknown."""
        return self._mapper.stores.find(name)


def _stated_gross(event: SaleEvent) -> int | None:
    """Return the printed gross, signed and scaled as a document's; None if it is not an amount."""
    digits = minor_digits(event.currency)
    if digits is None:
        return None
    try:
        minor = parse_minor(event.totals["gross"], digits)
    except NotMoney:
        return None
    sign = KINDS[event.type][1] if event.type in KINDS else 1
    if event.type == "void" and event.original is not None and event.original.get("type") == "return":
        sign = 1
    return sign * to_scaled(Decimal(minor).scaleb(-digits), AMOUNT_PLACES)
