"""Build differences, of a receipt or of a document, with the command that repairs them."""

from ops.reconcile.rows import EventRow
from ops.reconcile.store_day import DayDifference, DayReport, Kind
from sinks.base import DocumentDigest


def of_receipt(event: EventRow, kind: Kind, detail: str, document: DocumentDigest | None = None) -> DayDifference:
    """Return the difference of a receipt from its document, if there is one."""
    place = f"{event.partition}:{event.offset}"
    held = document.gross if document is not None else None
    subject = event.ref or place
    repair = repair_of(kind, event.store, event.day, subject)
    sent = None if not event.ref else event.gross
    return DayDifference(kind, event.store, event.day, event.currency, subject, detail, place, sent, held, repair)


def of_document(document: DocumentDigest, day: DayReport, kind: Kind, detail: str) -> DayDifference:
    """Return the difference of a document that the ERP should not hold on this day."""
    repair = repair_of(kind, day.store, day.day, document.external_ref)
    return DayDifference(
        kind, day.store, day.day, document.currency, document.external_ref, detail, held=document.gross, repair=repair
    )


def repair_of(kind: Kind, store: str, day: str, ref: str) -> str:
    """Return the command that repairs a difference. `store` and `day` may be empty."""
    where = f" --store {store} --day {day}" if store and day else ""
    if kind in ("missing", "older_revision", "vanished"):
        return f"tillstream reconcile repair{where}"
    if kind in ("altered", "other_content", "doubled", "orphaned"):
        return f"tillstream reconcile repair{where} --revoke"
    return f"tillstream explain {ref}"  # a person has to say which side is right
