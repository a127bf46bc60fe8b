"""Refunds whose sale the ERP does not have yet: they wait for it, outside of the line, for as long as a rule says."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from schemas.dead_letter import Reason
from schemas.document import ErpDocument
from schemas.mapping import RefundRule
from streams.batch import Arrival, Rejection
from streams.checks import CheckedReceipt
from streams.dead_letters.record import first_failed
from streams.mapping.mapper import Mapper

_MISSING = "original: not_there"
#: What is said of a refund that waits.
NOT_YET = "original: not_there_yet"


class ReceiptLookup(Protocol):
    """Knows what the ERP has."""

    async def holds(self, external_refs: Sequence[str]) -> set[str]:
        """Those of the references under which a document is held."""
        ...


async def without_their_sale(
    documents: Sequence[ErpDocument],
    sound: Sequence[CheckedReceipt],
    master: Mapper,
    sink: ReceiptLookup,
    now: datetime,
) -> tuple[list[ErpDocument], list[Arrival], list[Rejection]]:
    """(what may be written, what its own batch has the sale of, what has to wait or has waited in vain)

    A refund whose sale is among `documents` is judged when that one is written, or is not. One that has waited long
    enough, counted from its first failure, is flagged or held, as the rule says.
    """
    rule = master.rules.refunds
    if rule is None:
        return list(documents), [], []
    original_of = {d.event_id: d.original_ref for d in documents if d.kind != "invoice" and d.original_ref is not None}
    if not original_of:
        return list(documents), [], []
    held = await sink.holds(sorted(set(original_of.values())))
    coming = _coming(documents, original_of, held)
    arrivals = {receipt.arrival.id: receipt.arrival for receipt in sound}
    ready: list[ErpDocument] = []
    early: list[Arrival] = []
    premature: list[Rejection] = []
    for document in documents:
        original, arrival = original_of.get(document.event_id), arrivals[document.event_id]
        if original is None or original in held:
            ready.append(document)
        elif original in coming:
            early.append(arrival)
        elif _waits(arrival, rule, now):
            master.found["refunds", "wait"] += 1
            premature.append(_held(arrival, NOT_YET))
        elif rule.then == "flag":
            master.found["refunds", "flag"] += 1
            document.review = "; ".join(filter(None, (document.review, _MISSING)))
            ready.append(document)
        else:
            master.found["refunds", "hold"] += 1
            premature.append(_held(arrival, _MISSING))
    return ready, early, premature


def _coming(documents: Sequence[ErpDocument], original_of: dict[str, str], held: set[str]) -> set[str]:
    """What is written now, or after it: a refund comes after its sale, and what takes the refund back after that."""
    coming: set[str] = set()
    size = -1
    while len(coming) > size:
        size = len(coming)
        for document in documents:
            original = original_of.get(document.event_id)
            if original is None or original in held or original in coming:
                coming.add(document.external_ref)
    return coming


def _waits(arrival: Arrival, rule: RefundRule, now: datetime) -> bool:
    since = first_failed(arrival.record.headers) or now
    return now - since < timedelta(minutes=rule.wait_minutes)


def _held(arrival: Arrival, detail: str) -> Rejection:
    return Rejection(arrival.record, Reason.HELD_REFUND, detail, "map", arrival.event)
