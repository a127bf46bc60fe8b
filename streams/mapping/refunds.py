"""Refunds whose sale the ERP does not have yet: they wait as dead letters, for as long as a rule says."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from schemas.dead_letter import Reason
from schemas.document import ErpDocument
from schemas.mapping import RefundRule
from streams.batch import Arrival, Policy, QualityIssue, Rejection
from streams.checks import CheckedReceipt
from streams.dead_letters.record import first_failed

_MISSING = "original: not_there"
#: The detail of a refund that waits.
NOT_YET = "original: not_there_yet"


class ReceiptLookup(Protocol):
    """Looks up receipts in the ERP."""

    async def holds(self, external_refs: Sequence[str]) -> set[str]:
        """Return the references under which a document is held."""
        ...


class SortedRefunds(NamedTuple):
    """Documents to write now, arrivals whose sale is in the same round, rejections, and findings of the rule."""

    ready: list[ErpDocument]
    early: list[Arrival]
    rejections: list[Rejection]
    findings: list[QualityIssue]


async def hold_back_refunds(
    documents: list[ErpDocument],
    checked: Sequence[CheckedReceipt],
    rule: RefundRule | None,
    sink: ReceiptLookup,
    now: datetime,
) -> SortedRefunds:
    """Separate the documents that may be written from the refunds whose sale is missing.

    A refund whose sale is among `documents` is `early`: decide on it after that sale is written or refused. A refund
    that has waited long enough, counted from its first failure, is flagged or held, as the rule says.
    """
    if rule is None:
        return SortedRefunds(documents, [], [], [])
    original_of = {d.event_id: d.original_ref for d in documents if d.kind != "invoice" and d.original_ref is not None}
    if not original_of:
        return SortedRefunds(documents, [], [], [])
    held = await sink.holds(sorted(set(original_of.values())))
    coming = _coming(documents, original_of, held)
    arrivals = {receipt.arrival.id: receipt.arrival for receipt in checked}
    result = SortedRefunds([], [], [], [])
    for document in documents:
        original, arrival = original_of.get(document.event_id), arrivals[document.event_id]
        if original is None or original in held:
            result.ready.append(document)
        elif original in coming:
            result.early.append(arrival)
        elif _waits(arrival, rule, now):
            result.findings.append(_finding("wait", NOT_YET))
            result.rejections.append(_held(arrival, NOT_YET))
        elif rule.then == "flag":
            result.findings.append(_finding("flag", _MISSING))
            document.review = "; ".join(filter(None, (document.review, _MISSING)))
            result.ready.append(document)
        else:
            result.findings.append(_finding("hold", _MISSING))
            result.rejections.append(_held(arrival, _MISSING))
    return result


def _coming(documents: Sequence[ErpDocument], original_of: dict[str, str], held: set[str]) -> set[str]:
    """Return the references written in this round or after it: a sale, then its refund, then the refund's void."""
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


def _finding(policy: Policy, detail: str) -> QualityIssue:
    return QualityIssue("refunds", policy, detail)


def _held(arrival: Arrival, detail: str) -> Rejection:
    return Rejection(arrival.record, Reason.HELD_REFUND, detail, "map", arrival.event)
