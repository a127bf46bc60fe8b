"""Tryton: sales at a point of sale, by JSON-RPC and a small Tryton module of this project (`deploy/tryton/module`).

A call delivers a list of documents in one transaction of Tryton's: known documents are recognised, sales are created
and processed (`done`), and every event is recorded, so that nothing is left half done, and repetitions are recognised.
Posting, which takes ten times as long, is a stage of its own: `sinks.tryton.posting`.

One transaction at a time delivers to a company: calls of this process take turns here, those of others get a 503
response and retry. More than one writer is safe, and no faster.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from threading import Lock
from typing import Any

from sqlalchemy import URL

from schemas.dead_letter import Reason
from schemas.document import ErpDocument, from_json
from schemas.reference import unescaped_reference
from sinks.base import (
    Accepted,
    DocumentDigest,
    DocumentsRefused,
    PreflightFinding,
    Refused,
    Result,
    SinkUnavailable,
    StoreDay,
    in_conflict,
    write_bisecting,
)
from sinks.erp.delivery_log import DeliveryEntry, DeliveryLog, State
from sinks.storable import require_exact_numbers, require_storable_text
from sinks.store_days import as_held, prints_of, totals_of
from sinks.tryton import checks
from sinks.tryton.documents import ROUNDING, UnbookableDocument, item_codes, to_sale
from sinks.tryton.master_data import SALE, CompanyFacts, TrytonMasterData
from sinks.tryton.rpc import TrytonClient

#: Documents per call: more are hardly quicker, and the lock is held longer.
BATCH = 100
_READ = 500
_ENTRY = ["external_ref", "revision", "number", "state", "till_corrected_by"]

#: The delivery log's names of a sale's states.
STATES: dict[str, State] = {"open": "created", "done": "confirmed", "posted": "posted", "cancelled": "refused"}


class TrytonSink:
    """A company in Tryton: that of the user whom the URL names.

    `point` names the point of sale for stores that have none of their own, `rounding` the article that cash rounding is
    booked on.
    """

    compared = (
        "of each sale the till's net, tax and gross, which it came to when it was processed, its day and store; all "
        "else is the document that the sale carries: not the sale's lines, payments and party"
    )

    def __init__(self, url: URL, ledger: DeliveryLog, *, point: str | None = None, rounding: str = ROUNDING) -> None:
        self.client = TrytonClient(url)
        self.master = TrytonMasterData(self.client)
        self.ledger = ledger
        self._point = point
        self._rounding = rounding
        self._one_writer = Lock()

    def write(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """As in the protocol, in calls of `BATCH` documents."""
        return [result for part in _parts(documents, BATCH) for result in self._write(part)]

    def rehearse(self, documents: Sequence[ErpDocument]) -> list[Result]:
        """As in the protocol: the transactions of `write`, rolled back."""
        return [result for part in _parts(documents, BATCH) for result in self._deliver(part, rehearse=True)]

    def read(self, external_refs: Sequence[str]) -> list[ErpDocument]:
        """As in the protocol."""
        return sorted(self._documents(external_refs), key=lambda document: document.external_ref)

    def holds(self, external_refs: Sequence[str]) -> set[str]:
        """As in the protocol."""
        old = [ref for ref in external_refs if unescaped_reference(ref) is not None]
        held = {row["external_ref"] for row in self._search(external_refs, ["external_ref"])}
        return held | {d.external_ref for d in self._documents(old)}

    def _documents(self, external_refs: Sequence[str]) -> Iterator[ErpDocument]:
        """Return the documents held under these references, or under their unescaped form."""
        wanted = set(external_refs)
        old = {ref for ref in map(unescaped_reference, wanted) if ref is not None}
        for row in self._search([*wanted, *old], ["till_document"]) if wanted else ():
            document = from_json(row["till_document"].encode())
            if document.external_ref in wanted:  # another receipt may have had the same reference
                yield document

    def numbers(self, external_refs: Sequence[str]) -> dict[str, str]:
        """As in `Numbering`."""
        return self.ledger.numbers(external_refs)

    def ping(self) -> None:
        """As in the protocol; reloads the master data."""
        self.master.facts(no_older_than=0)

    def check(self, *, apply: bool = False) -> list[PreflightFinding]:
        """As in the protocol; there is nothing that could be applied from here."""
        return checks.findings(self.client, self.master, self._point, self._rounding)

    def totals(self, store: str | None = None, day: date | None = None, *, deep: bool = False) -> list[StoreDay]:
        """As in the protocol, from the sales that count."""
        return totals_of(self._held(store, day), deep=deep)

    def prints(self, store: str, day: date) -> list[DocumentDigest]:
        """As in the protocol, from the sales that count."""
        return prints_of(self._held(store, day))

    def _held(self, store: str | None, day: date | None) -> Iterator[ErpDocument]:
        """Return the documents of all sales that were not corrected or cancelled, `as_held`."""
        domain: list[Any] = [["till_corrected_by", "=", None], ["state", "!=", "cancelled"]]
        domain += [["till_store", "=", store]] if store is not None else []
        domain += [["date", "=", day]] if day is not None else []
        currency = self.master.facts().currency
        for row in self._sales(domain, ["till_document", "till_store", "date", "till_net", "till_tax", "till_gross"]):
            money = {name: row[f"till_{name}"] for name in ("net", "tax", "gross")}
            yield as_held(row["till_document"], row["till_store"], row["date"], currency, **money)

    def close(self) -> None:
        """As in the protocol."""
        self.client.close()
        self.ledger.close()

    def entries(self) -> Iterator[DeliveryEntry]:
        """Return Tryton's sales as entries of the delivery log, which can be rebuilt from them."""
        return map(_entry_of_row, self._sales([["till_corrected_by", "=", None]], _ENTRY))

    def entries_of(self, external_refs: Sequence[str]) -> list[DeliveryEntry]:
        """As `entries`, of these documents."""
        current = [row for row in self._search(external_refs, _ENTRY) if row["till_corrected_by"] is None]
        return [_entry_of_row(row) for row in current]

    def _own(self) -> list[list[Any]]:
        """Documents, of this company."""
        return [["company", "=", self.master.context()["company"]], ["till_document", "!=", None]]

    def _sales(self, domain: list[Any], fields: list[str]) -> Iterator[dict[str, Any]]:
        """All that the domain is true of, piece by piece."""
        last, order = 0, [["id", "ASC"]]
        while True:
            piece = [*self._own(), *domain, ["id", ">", last]]
            rows = self.client.call(f"{SALE}search_read", piece, 0, _READ, order, fields, self.master.context())
            yield from rows
            if len(rows) < _READ:
                return
            last = rows[-1]["id"]

    def _search(self, external_refs: Sequence[str], fields: list[str]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for part in _parts(sorted(set(external_refs)), _READ):
            domain = [*self._own(), ["external_ref", "in", part]]
            rows += self.client.call(f"{SALE}search_read", domain, 0, None, None, fields, self.master.context())
        return rows

    def _write(self, documents: Sequence[ErpDocument]) -> list[Result]:
        self.ledger.attempt([(d.external_ref, d.revision) for d in documents if _is_storable(d)])
        try:
            return self._deliver(documents)
        except SinkUnavailable as error:
            self.ledger.fail([d.external_ref for d in documents if _is_storable(d)], f"{error.kind}: {error}")
            raise

    def _deliver(self, documents: Sequence[ErpDocument], *, rehearse: bool = False) -> list[Result]:
        results: dict[str, Result] = {}
        storable = []
        for document in documents:
            try:
                require_storable_text([document])
                require_exact_numbers([document])
                storable.append(document)
            except DocumentsRefused as refused:
                results[document.event_id] = Refused(document.event_id, Reason.REFUSED_BY_SINK, refused.detail)
        asked = self._asked(storable)

        def send(part: Sequence[ErpDocument]) -> list[Result]:
            return self._send(part, asked, rehearse)

        for document, result in zip(storable, write_bisecting(storable, send) if storable else [], strict=True):
            results[document.event_id] = result
            if not rehearse and isinstance(result, Refused):
                self._note_refusal(document, result)
        return [results[d.event_id] for d in documents]

    def _asked(self, documents: Sequence[ErpDocument]) -> dict[str, dict[str, Any] | UnbookableDocument]:
        """By event, the sale that a document becomes, or why it can't."""
        if not documents:
            return {}
        books = _NeededMasterData(self.master, self.master.facts(), self._point, self._rounding)
        items = {}
        for day in {d.business_date for d in documents}:
            codes = {code for d in documents if d.business_date == day for code in item_codes(d)}
            items[day] = self.master.items(codes | {self._rounding}, day)
        asked: dict[str, dict[str, Any] | UnbookableDocument] = {}
        for document in documents:
            try:
                asked[document.event_id] = to_sale(document, books, items[document.business_date])
            except UnbookableDocument as fault:
                asked[document.event_id] = fault
        return asked

    def _send(
        self, documents: Sequence[ErpDocument], asked: dict[str, dict[str, Any] | UnbookableDocument], rehearse: bool
    ) -> list[Result]:
        rows = []
        for d in documents:
            sale = asked[d.event_id]
            row = {"event_id": d.event_id, "external_ref": d.external_ref, "revision": d.revision, "content": d.content}
            if (unescaped := unescaped_reference(d.external_ref)) is not None:
                parts = {name: getattr(d, name) for name in ("source", "store", "register_id", "receipt", "kind")}
                row["before"] = {"external_ref": unescaped, "parts": parts}
            rows.append(row | {"sale": None if isinstance(sale, UnbookableDocument) else sale})
        with self._one_writer:
            answers = self.client.call(f"{SALE}till_deliver", rows, rehearse, self.master.context())
        if not rehearse:
            held = [(d, answer) for d, (_, *answer) in zip(documents, answers, strict=True) if answer[1] is not None]
            self.ledger.note(_entry(d.external_ref, *answer) for d, answer in held)
        return [_result(d, effect, asked[d.event_id]) for d, (effect, *_) in zip(documents, answers, strict=True)]

    def _note_refusal(self, document: ErpDocument, refusal: Refused) -> None:
        """Nothing is held under the document's reference, or the held document stays."""
        (entry,) = self.ledger.find([document.external_ref])
        error = f"{refusal.reason.value}: {refusal.detail}"
        if entry.state in ("new", "refused"):
            self.ledger.note([DeliveryEntry(document.external_ref, document.revision, "refused", last_error=error)])


class _NeededMasterData:
    """The master data that a document needs."""

    def __init__(self, master: TrytonMasterData, facts: CompanyFacts, default_point: str | None, rounding: str) -> None:
        self.currency, self.digits, self.price_digits = facts.currency, facts.digits, facts.price_digits
        self.rounding = rounding
        self._master = master
        self._default_point = default_point

    def point(self, code: str) -> int | None:
        return self._master.point(code, self._default_point)

    def method(self, code: str) -> int | None:
        return self._master.method(code)


def _entry(external_ref: str, number: str | None, state: str, revision: int) -> DeliveryEntry:
    error = "cancelled in Tryton" if state == "cancelled" else None
    return DeliveryEntry(external_ref, revision, STATES[state], number, last_error=error)


def _entry_of_row(row: dict[str, Any]) -> DeliveryEntry:
    return _entry(row["external_ref"], row["number"], row["state"], row["revision"])


def _result(document: ErpDocument, effect: str, asked: dict[str, Any] | UnbookableDocument) -> Result:
    if effect in ("conflicting_duplicate", "conflicting_receipt"):
        return in_conflict(document, Reason(effect))
    if isinstance(asked, UnbookableDocument) and effect == "unwritable":
        return Refused(document.event_id, asked.reason, asked.detail)
    return Accepted(document.event_id, effect)  # type: ignore[arg-type]  # the module's effects are the sinks' own


def _is_storable(document: ErpDocument) -> bool:
    try:
        require_storable_text([document])
    except DocumentsRefused:
        return False
    return True


def _parts(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
