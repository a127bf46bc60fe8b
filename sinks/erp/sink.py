"""Write documents to an ERP behind an API: the algorithm that `sinks.erpnext.sink` and `sinks.odoo.sink` share.

The ERP is the truth. Its invoices carry the means to recognise them: a key that is unique there, made of the
receipt and its revision, and the document itself. Writing a batch:

1. Look up which revisions of the receipts are there, and decide, as every sink does, which documents are new.
2. Create drafts of the new ones, in list calls, halved where the ERP refuses one. The unique key ensures that a
   draft is created once, even if other writers do the same at the same time.
3. Look up again. Invoices of other writers are visible now: the newest revision continues and withdraws older
   ones, an older one withdraws itself. The ERP's own sums must be the document's, to the cent, or nothing is posted.
4. Post. Then record the outcome.

Every step finds the results of an earlier attempt and continues from there, so a crash costs nothing but time. Nothing
is read from the ledger. `sinks.erp.event_log` knows the events that have no invoice of their own, and each event's
content; that a receipt is booked is for the ERP alone to say.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from threading import Lock
from typing import Literal, Protocol, TypeVar

from pydantic import ValidationError

from schemas.dead_letter import Reason
from schemas.document import ErpDocument, from_json
from schemas.reference import unescaped_reference
from sinks.base import (
    Accepted,
    DocumentDigest,
    DocumentsRefused,
    Effect,
    PreflightFinding,
    Refused,
    Result,
    SinkUnavailable,
    StoreDay,
    in_conflict,
    same_or_conflict,
    write_bisecting,
)
from sinks.erp.delivery_log import DeliveryEntry, DeliveryLog
from sinks.erp.event_log import EventLog
from sinks.storable import require_exact_numbers, require_storable_text
from sinks.store_days import prints_of, totals_of

Part = TypeVar("Part")
BookingState = Literal["created", "posted", "cancelled"]


class DocumentExists(DocumentsRefused):
    """Raised by a system: one of the documents has been created by another writer meanwhile."""


@dataclass(frozen=True, slots=True)
class ErpBooking:
    """An invoice of ours in the ERP. `receipt` and `event` are digests; amounts are the ERP's own sums."""

    name: str
    receipt: str
    revision: int
    event: str
    content: str
    state: BookingState
    net: Decimal
    tax: Decimal
    gross: Decimal


class ErpSystem(Protocol):
    """An ERP, call by call. All calls raise SinkUnavailable."""

    #: Documents per list call.
    batch: int
    #: Bookings that are posted in one call, all or none.
    post_batch: int

    def find(self, receipts: Sequence[str]) -> list[ErpBooking]:
        """All bookings of these receipts (digests), cancelled ones too."""
        ...

    def documents(self, receipts: Sequence[str], *, posted: bool = True) -> list[tuple[ErpBooking, str]]:
        """Return the bookings of these receipts, only those that are `posted` or all, with the document as JSON."""
        ...

    def require_bookable(self, document: ErpDocument) -> None:
        """Check that the document can become an invoice. Raises DocumentsRefused."""
        ...

    def create(self, documents: Sequence[ErpDocument]) -> None:
        """Drafts of all documents, or of none. Raises DocumentsRefused, AlreadyThere."""
        ...

    def withdraw(self, booking: ErpBooking) -> None:
        """Delete a draft, cancel a posted invoice. Raises DocumentsRefused."""
        ...

    def post(self, bookings: Sequence[ErpBooking]) -> None:
        """Post all, or none. Raises DocumentsRefused."""
        ...

    def booked(self, store: str | None, day: date | None) -> Iterator[ErpDocument]:
        """Return the documents of all posted bookings, `as_held` there, of this store and day where stated, in any
        order."""
        ...

    def ping(self) -> None:
        """Check that the ERP answers."""
        ...

    def check(self, *, apply: bool) -> list[PreflightFinding]:
        """As `Sink.check`."""
        ...

    def close(self) -> None:
        """Give all connections back."""
        ...


class ErpSink:
    """A sink in an ERP. Calls of this process take turns."""

    compared = (
        "of each posted invoice the ERP's own net, tax, gross, currency, day and store; all else is the document that "
        "was attached when it was booked: not the invoice's lines, taxes by rate, payments and customer"
    )

    def __init__(self, system: ErpSystem, ledger: DeliveryLog, events: EventLog) -> None:
        self.system = system
        self.ledger = ledger
        self._events = events
        self._one_writer = Lock()

    def write(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """As in the protocol, in list calls of the system's `batch`."""
        with self._one_writer:
            return [result for part in _parts(documents, self.system.batch) for result in self._write(part)]

    def rehearse(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """As in the protocol, but for what only the ERP's own rules would refuse."""
        decided = self._decide(documents)
        return [
            Accepted(d.event_id, result) if isinstance(result, str) else result
            for d, result in zip(documents, decided, strict=True)
        ]

    def _write(self, documents: Sequence[ErpDocument]) -> list[Result]:
        decided = dict(zip([d.event_id for d in documents], self._decide(documents), strict=True))  # 1
        todo = [d for d in documents if isinstance(decided[d.event_id], str)]
        self.ledger.attempt([(d.external_ref, d.revision) for d in todo])
        try:
            booked = {result.event_id: result for result in self._book(todo)}
        except SinkUnavailable as outage:
            self.ledger.fail([d.external_ref for d in todo], f"{outage.kind}: {outage}")
            raise
        results: list[Result] = []
        for d in documents:
            found = decided[d.event_id]
            own = booked.get(d.event_id)
            results.append(Accepted(d.event_id, found) if isinstance(found, str) and own is None else own or found)  # type: ignore[arg-type]  # one of the three
        self._write_down(documents, results)
        return results

    def _write_down(self, documents: Sequence[ErpDocument], results: list[Result]) -> None:
        noted = [
            (d, r)
            for d, r in zip(documents, results, strict=True)
            if isinstance(r, Accepted) or r.reason is Reason.CONFLICTING_RECEIPT
        ]
        self._events.note([d for d, _ in noted], [r for _, r in noted])
        pairs = zip(documents, results, strict=True)
        refused = [(d, r) for d, r in pairs if isinstance(r, Refused) and _is_storable(d)]
        states = {entry.external_ref: entry.state for entry in self.ledger.find([d.external_ref for d, _ in refused])}
        self.ledger.note(
            DeliveryEntry(d.external_ref, d.revision, "refused", last_error=f"{r.reason.value}: {r.detail}")
            for d, r in refused
            if states.get(d.external_ref) in ("new", "refused")
        )

    # ---- 1

    def _decide(self, documents: Sequence[ErpDocument]) -> list[Effect | Result]:
        """Return the result of each document, or the effect that booking it will have."""
        decided: dict[int, Effect | Result] = {}
        storable = [(place, d) for place, d in enumerate(documents) if _is_storable(d)]
        event_ids = [d.event_id for _, d in storable]
        delivered = self._events.delivered(event_ids)
        refused_before = self._events.refused(event_ids)
        found = self._find([d for _, d in storable])
        for place, d in storable:
            bookings = found[digest(d.external_ref)]
            said = next((b.content for b in bookings if b.event == digest(d.event_id) and b.state != "created"), None)
            conflict = (d.event_id, d.content) in refused_before
            decided[place] = self._decide_one(d, bookings, delivered.get(d.event_id, said), conflict)
        unstorable = {
            d.event_id: Refused(d.event_id, Reason.REFUSED_BY_SINK, "text: NUL or no Unicode") for d in documents
        }
        return [decided.get(place, unstorable[d.event_id]) for place, d in enumerate(documents)]

    def _decide_one(
        self, d: ErpDocument, bookings: list[ErpBooking], delivered: str | None, refused_before: bool
    ) -> Effect | Result:
        if delivered == d.content and all(b.state == "created" for b in bookings):
            delivered = None  # the ERP has lost it, as by a restored backup: the ERP is the truth
        if delivered is not None:
            reason = Reason.CONFLICTING_RECEIPT if refused_before else Reason.CONFLICTING_DUPLICATE
            return same_or_conflict(d, delivered, reason)
        held = max((b for b in bookings if b.state != "cancelled"), key=lambda b: b.revision, default=None)
        if held is not None and held.revision > d.revision:
            return in_conflict(d, Reason.CONFLICTING_RECEIPT) if refused_before else Accepted(d.event_id, "superseded")
        if held is not None and held.revision == d.revision:
            result = same_or_conflict(d, held.content, Reason.CONFLICTING_RECEIPT)
            if held.state == "posted" or isinstance(result, Refused):
                return result
        try:
            require_exact_numbers([d])
            self.system.require_bookable(d)
        except DocumentsRefused as refused:
            return Refused(d.event_id, Reason.REFUSED_BY_SINK, refused.detail)
        return "replaced" if any(b.state == "posted" for b in bookings) else "written"

    def _find(self, documents: Sequence[ErpDocument]) -> dict[str, list[ErpBooking]]:
        found: dict[str, list[ErpBooking]] = defaultdict(list)
        for part in _parts(documents, self.system.batch):
            for booking in bookings_of(self.system, [d.external_ref for d in part]):
                found[booking.receipt].append(booking)
        return found

    # ---- 2 to 4

    def _book(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """Return the outcomes of documents that are not posted yet, except for those that went as decided."""
        if not documents:
            return []
        before = self._find(documents)
        new = [d for d in documents if _own(d, before) is None]
        results = _bisecting(new, self.system.batch, self._create)  # 2
        refused = {result.event_id for result in results}
        after = self._find(documents)
        ready: list[tuple[ErpDocument, ErpBooking]] = []
        for d in documents:
            if d.event_id not in refused:
                result = self._clear_the_way(d, after)  # 3
                results += [result] if isinstance(result, Accepted | Refused) else []
                ready += [(d, result)] if isinstance(result, ErpBooking) else []
        bookings = {d.event_id: booking for d, booking in ready}

        def post(part: Sequence[ErpDocument]) -> None:
            self.system.post([bookings[d.event_id] for d in part])

        not_posted = _bisecting([d for d, _ in ready], self.system.post_batch, post)  # 4
        for result in not_posted:
            self.system.withdraw(bookings[result.event_id])
        failed = {result.event_id for result in not_posted}
        self.ledger.note(
            DeliveryEntry(d.external_ref, d.revision, "posted", b.name) for d, b in ready if d.event_id not in failed
        )
        return results + not_posted

    def _create(self, documents: Sequence[ErpDocument]) -> None:
        try:
            self.system.create(documents)
        except DocumentExists:
            if len(documents) == 1:
                raise SinkUnavailable("lock", "another writer has just created the same invoice", 0.2) from None
            raise

    def _clear_the_way(self, d: ErpDocument, found: dict[str, list[ErpBooking]]) -> ErpBooking | Result:
        """Return the draft that may be posted now, with nothing else of its receipt in the way."""
        own = _own(d, found)
        if own is None:
            raise SinkUnavailable("lock", "an invoice has disappeared while it was booked", 0.2)
        others = [b for b in found[digest(d.external_ref)] if b.state != "cancelled" and b != own]
        try:
            if (own.net, own.tax, own.gross) != (d.net, d.tax, d.gross):
                raise DocumentsRefused(
                    f"the ERP's sums differ: net {own.net}, tax {own.tax}, gross {own.gross} instead of {d.net}, "
                    f"{d.tax}, {d.gross}"
                )
            if any(b.revision > d.revision for b in others):
                self.system.withdraw(own)
                return Accepted(d.event_id, "superseded")
            for older in others:
                self.system.withdraw(older)
        except DocumentsRefused as refused:
            self.system.withdraw(own)
            return Refused(d.event_id, Reason.REFUSED_BY_SINK, _without_names(refused.detail, d))
        return own

    # ---- reading

    def read(self, external_refs: Sequence[str]) -> list[ErpDocument]:
        """As in the protocol."""
        wanted = set(external_refs)
        receipts = sorted({digest(ref) for ref in wanted | _unescaped(wanted)})
        found = (
            from_json(text.encode())
            for part in _parts(receipts, self.system.batch)
            for _, text in self.system.documents(part)
        )
        return sorted((d for d in found if d.external_ref in wanted), key=lambda document: document.external_ref)

    def holds(self, external_refs: Sequence[str]) -> set[str]:
        """As in the protocol."""
        names = {digest(ref): ref for ref in external_refs}
        return {
            names[booking.receipt]
            for part in _parts(sorted(external_refs), self.system.batch)
            for booking in bookings_of(self.system, part)
            if booking.state == "posted"
        }

    def totals(self, store: str | None = None, day: date | None = None, *, deep: bool = False) -> list[StoreDay]:
        """As in the protocol, from the bookings."""
        return totals_of(self.system.booked(store, day), deep=deep)

    def prints(self, store: str, day: date) -> list[DocumentDigest]:
        """As in the protocol, from the bookings."""
        return prints_of(self.system.booked(store, day))

    def numbers(self, external_refs: Sequence[str]) -> dict[str, str]:
        """As in `Numbering`."""
        return self.ledger.numbers(external_refs)

    def ping(self) -> None:
        """As in the protocol."""
        self.system.ping()

    def check(self, *, apply: bool = False) -> list[PreflightFinding]:
        """As in the protocol: nothing is written to the ERP, apart from our own fields where `apply` is given."""
        return self.system.check(apply=apply)

    def close(self) -> None:
        """As in the protocol."""
        self.system.close()
        self.ledger.close()
        self._events.close()


def digest(name: str) -> str:
    """Return a name of any length and spelling, as an ERP can hold and compare it."""
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:32]


def bookings_of(system: ErpSystem, external_refs: Sequence[str]) -> list[ErpBooking]:
    """Return all bookings of these receipts, cancelled ones too.

    Those that were made under a reference without escapes come as if they had been made under today's: they are the
    receipt's where their own document says so, and not where another receipt had the same reference.
    """
    wanted = {digest(ref) for ref in external_refs}
    found = system.find(sorted(wanted)) if wanted else []
    old = sorted(map(digest, _unescaped(external_refs)))
    for booking, text in system.documents(old, posted=False) if old else ():
        try:
            receipt = digest(from_json((text or "").encode()).external_ref)
        except ValidationError:
            raise SinkUnavailable("corrupt", f"the invoice {booking.name} has lost its document") from None
        found += [replace(booking, receipt=receipt)] if receipt in wanted else []
    return found


def _unescaped(external_refs: Collection[str]) -> set[str]:
    return {ref for ref in map(unescaped_reference, external_refs) if ref is not None}


def key_of(document: ErpDocument) -> str:
    """Return the name of a document's invoice; it never changes."""
    return f"TS-{digest(document.external_ref)}-{document.revision}"


def _is_storable(document: ErpDocument) -> bool:
    """Whether a database can hold its texts."""
    try:
        require_storable_text([document])
    except DocumentsRefused:
        return False
    return True


def _own(document: ErpDocument, found: dict[str, list[ErpBooking]]) -> ErpBooking | None:
    own = (b for b in found[digest(document.external_ref)] if b.revision == document.revision and b.state == "created")
    return next(own, None)


def _bisecting(
    documents: Sequence[ErpDocument], batch: int, call: Callable[[Sequence[ErpDocument]], None]
) -> list[Result]:
    """Call with all documents, in chunks, halved where the ERP refuses. Return the refusals."""

    def write(part: Sequence[ErpDocument]) -> list[Result]:
        try:
            call(part)
        except DocumentsRefused as refused:
            if len(part) == 1:
                raise DocumentsRefused(_without_names(refused.detail, part[0])) from None
            raise
        return [Accepted(d.event_id, "written") for d in part]

    results = [result for part in _parts(documents, batch) for result in write_bisecting(part, write)]
    return [result for result in results if isinstance(result, Refused)]


def _without_names(detail: str, document: ErpDocument) -> str:
    """Return an ERP's words without the people that they are about."""
    for name in (document.customer_id, document.customer_code, document.cashier):
        detail = detail.replace(name, "…") if name else detail
    return detail


def _parts(rows: Sequence[Part], size: int) -> Iterator[Sequence[Part]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
