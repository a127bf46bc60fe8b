"""Compare the event store with the ERP, a store's day at a time, and explain each difference.

If a day's sums agree, its documents are not fetched. If its sums (or with `deep` its digests) differ, or it was
recorded as different before, the documents are fetched in short form, one line each, and matched with the receipts.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date

from ops.reconcile.completeness import by_status
from ops.reconcile.content import (
    changes,
    describe_changed_sums,
    describe_parts,
    find_original,
    in_words,
    matches_dead_letter,
    matches_digest,
)
from ops.reconcile.differences import of_document, of_receipt, repair_of
from ops.reconcile.event_store import EventStore
from ops.reconcile.register_totals import registers
from ops.reconcile.rows import NOWHERE, DeadLetterRow, EventRow, Key, ReceiptFigures, as_date
from ops.reconcile.scope import ReconciliationScope
from ops.reconcile.store_day import CurrencyTotals, DayDifference, DayReport, Kind, State
from schemas.document import ErpDocument
from sinks.base import DocumentDigest, Sink, StoreDay, SupportsDeliveryHistory, SupportsOrphanCheck, SupportsRevoke

#: The day that lists records without a store and a day.
_NO_STORE = ("", NOWHERE)


def settle_dead_letters(
    event_store: EventStore, letters: Iterable[DeadLetterRow], sink: Sink, most: int = 1_000
) -> None:
    """Add the dead letters, and mark those as delivered whose receipt the ERP holds exactly as their record has it."""
    event_store.add_dead_letters(letters)
    asked = list(event_store.dead_events())
    for start in range(0, len(asked), most):
        part = asked[start : start + most]
        held = {document.external_ref: document for document in sink.read([each.ref for each in part])}
        event_store.mark_delivered(
            each.row for each in part if each.ref in held and matches_dead_letter(each, held[each.ref])
        )


def compare(
    event_store: EventStore, sink: Sink, held: Sequence[StoreDay], scope: ReconciliationScope
) -> list[DayReport]:
    """Return a report on every store's day that was sent or that the ERP holds.

    `held` must have been fetched before the topic was read.
    """
    accounts = _accounts(event_store, held)
    gaps, noted, arrived, unbooked = (
        event_store.gaps(),
        event_store.skipped(),
        event_store.last_arrivals(),
        event_store.unbooked(),
    )
    more = defaultdict(list)
    for difference in registers(event_store, whole=scope.whole and scope.lost is None):
        more[difference.store, difference.day].append(difference)
    orphans = _orphans(event_store, sink, scope)
    if orphans or _NO_STORE in scope.doubtful:  # it may be settled now
        accounts = {_NO_STORE: accounts.pop(_NO_STORE, []), **accounts}
        more[_NO_STORE] += orphans
    days: list[DayReport] = []
    for (store, name), of_day in accounts.items():
        if not scope.wants(store, name):
            continue
        day = DayReport(
            store, name, of_day, "open", gaps=gaps.get((store, name), []), arrived=arrived.get((store, name), 0)
        )
        day.dead_letters = list(event_store.dead_letters(store, name))
        day.skipped = noted.get((store, name), {})
        day.unbooked = by_status(unbooked.get((store, name), ()))
        day.lost = not scope.reaches(store, name)
        day.differences = explain(event_store, sink, day, scope) + more[store, name]
        day.state = _state(day, scope)
        days.append(day)
    return days


def unplaced(event_store: EventStore, scope: ReconciliationScope) -> DayReport | None:
    """Return the records without a known store or day that arrived within the requested days.

    Records with an implausible time count as records without a day. Return None if all days are requested (these
    records form a day of their own then), or if all of these records are settled.
    """
    if scope.store is None and (scope.first, scope.last) == (date.min, date.max):
        return None
    since, until = scope.arrivals()
    found = DayReport(NOWHERE, NOWHERE, [], "balanced")
    places = {
        key: sums
        for key, sums in event_store.unbooked((since, until), scope.first, scope.last).items()
        if key[1] == NOWHERE
    }
    found.unbooked = by_status(
        one
        for (store, _), sums in places.items()
        for one in sums
        if scope.store is None or store in (scope.store, NOWHERE)
    )
    for event in event_store.due(NOWHERE, NOWHERE):
        if event.status == "vanished" and since <= event.arrived <= until:
            found.differences.append(of_receipt(event, "vanished", event.reason or "no dead letter"))
    found.dead_letters = [
        event for event in event_store.dead_letters(NOWHERE, NOWHERE) if since <= event.arrived <= until
    ]
    found.state = _state(found, scope)
    return found if found.unbooked or found.differences else None


def _accounts(event_store: EventStore, held: Sequence[StoreDay]) -> dict[tuple[str, str], list[CurrencyTotals]]:
    counts, due = event_store.counts_by_status(), event_store.due_figures()
    in_erp: dict[Key, StoreDay] = {(each.store, each.business_date.isoformat(), each.currency): each for each in held}
    accounts: dict[tuple[str, str], list[CurrencyTotals]] = {}
    for key in sorted({*counts, *in_erp}):
        store, day, currency = key
        account = CurrencyTotals(currency, counts.get(key, {}), due.get(key, ReceiptFigures()))
        if key in in_erp:
            account.held = figures_of(in_erp[key])
        accounts.setdefault((store, day), []).append(account)
    return accounts


def figures_of(day: StoreDay) -> ReceiptFigures:
    """Return the ERP's sums as figures."""
    money = (day.net, day.tax, day.gross)
    prints = (day.digest, day.personal, day.unremembered)
    return ReceiptFigures(day.documents, day.lines, day.quantity, *money, day.tenders, *prints)


def _state(day: DayReport, scope: ReconciliationScope) -> State:
    if day.day != NOWHERE and not scope.is_over(day.store, day.day):
        return "open"
    if day.books == "differ":
        return "differs"
    if day.books == "not proved":
        return "unproved"
    return "balanced" if day.is_complete else "incomplete"


def explain(event_store: EventStore, sink: Sink, day: DayReport, scope: ReconciliationScope) -> list[DayDifference]:
    """Return the differences of a day, record by record."""
    agrees = all(account.agrees for account in day.accounts)
    if agrees and not day.count("vanished", "refused") and (day.store, day.day) not in scope.doubtful:
        return []
    if day.lost and not day.count("erp", "refused", "waiting", "vanished"):
        for account in day.accounts:  # the topic has nothing of it any more: its documents need not be fetched
            day.unproved.add(account.currency, account.held.receipts, account.held.gross)
        return []
    found: list[DayDifference] = []
    held = {each.external_ref: each for each in _digests(sink, day)}
    events: dict[str, EventRow] = {}
    held_by_ref: dict[str, DocumentDigest | None] = {}
    for event in event_store.due(day.store, day.day):
        document = held.pop(event.ref, None) if event.status != "vanished" else None
        if event.status == "vanished":
            found.append(of_receipt(event, "vanished", event.reason or "no dead letter"))
        elif event.status != "waiting":
            events[event.ref] = event
            held_by_ref[event.ref] = document
            if document is not None and day.lost and document.revision > event.revision:
                day.unproved.add(document.currency, 1, document.gross)  # from an earlier record that is lost
                continue
            found += (
                _explain_pair(event, document, sink, event_store, day)
                if document is not None
                else _explain_absent(event, sink)
            )
    unsent = _explain_unsent(event_store, sink, list(held.values()), day, scope)
    found += _without_unprovable(event_store, list(held.values()), unsent, day) if day.lost else unsent
    _add_leftovers(found, sink)
    return _with_changes(found, events, held_by_ref, sink, day, scope)


#: The kinds of difference that a document shows if its record has left the topic.
_KINDS_OF_LOST_RECORDS: tuple[Kind, ...] = ("only_in_erp", "other_content")


def _without_unprovable(
    event_store: EventStore, documents: Sequence[DocumentDigest], unsent: Sequence[DayDifference], day: DayReport
) -> list[DayDifference]:
    """Return the differences without those of documents that can't be proved, since their records left the topic."""
    by_ref = defaultdict(list)
    for each in unsent:
        by_ref[each.ref].append(each)
    found: list[DayDifference] = []
    for document in documents:
        of_it = by_ref[document.external_ref]
        if _may_be_lost(event_store, document) and all(each.kind in _KINDS_OF_LOST_RECORDS for each in of_it):
            day.unproved.add(document.currency, 1, document.gross)
        else:
            found += of_it
    return found


def _may_be_lost(event_store: EventStore, document: DocumentDigest) -> bool:
    """Return whether the document may come from a record that has left the topic: no record in it explains it."""
    return not any(
        event.status in ("erp", "refused", "waiting") for event in event_store.events_of(document.external_ref)
    )


def _digests(sink: Sink, day: DayReport) -> list[DocumentDigest]:
    return [] if day.day == NOWHERE else sink.prints(day.store, as_date(day.day))


def _explain_pair(
    event: EventRow, document: DocumentDigest, sink: Sink, event_store: EventStore, day: DayReport
) -> list[DayDifference]:
    """Compare a receipt with the document of the same reference and day."""
    if event.reason:
        return [of_receipt(event, "refused_today", event.reason, document)]
    if _is_the_same(event, document, event_store, day):
        if document.remembered:
            return []
        return [of_receipt(event, "orphaned", f"the ERP has no record that it took {document.event_id}", document)]
    if document.revision < event.revision:
        revisions = f"revision {document.revision} instead of {event.revision}"
        return [
            _with_delivery(
                of_receipt(event, "older_revision", f"{revisions}: event {event.event_id}", document), event, sink
            )
        ]
    other = document.content != event.content and document.digest != event.print
    if other or document.revision != event.revision:
        how = "a dead letter, replayed with a patch" if event.dead_letter else f"from {document.event_id}"
        return [of_receipt(event, "other_content", how, document)]
    if document.currency != event.currency:
        return [of_receipt(event, "altered", f"currency {document.currency} instead of {event.currency}", document)]
    return [of_receipt(event, "altered", "", document)]


def _is_the_same(event: EventRow, document: DocumentDigest, event_store: EventStore, day: DayReport) -> bool:
    """Return whether the document comes from the receipt, or from another event with the same content."""
    if document.currency != event.currency or document.personal not in (None, event.personal):
        return False
    if document.digest == event.print:
        return True
    if any(twin.print == document.digest for twin in event_store.same_content_events(event)):
        day.account(event.currency).accept(event.print, document.digest)
        return True
    return False


def _with_changes(
    found: Sequence[DayDifference],
    events: dict[str, EventRow],
    prints: dict[str, DocumentDigest | None],
    sink: Sink,
    day: DayReport,
    scope: ReconciliationScope,
    most: int = 500,
) -> list[DayDifference]:
    """Return the differences, with the fields that were altered, and without those that turn out not to differ."""
    altered = {each.ref: each for each in found if each.kind == "altered" and not each.detail}
    refs = list(altered)
    dropped: set[str] = set()
    for start in range(0, len(refs), most):
        part = refs[start : start + most]
        documents = {document.external_ref: document for document in sink.read(part)}
        sent = scope.sent([events[ref] for ref in part])
        for ref in part:
            said = prints[ref]
            assert said is not None  # it is altered
            document = documents.get(ref)
            if document is not None and ref in sent and matches_digest(document, said):
                was = sent[ref]
                if day.lost and said.remembered:  # an earlier event with the same content may be lost
                    was = replace(was, event_id=document.event_id)
                changed = changes(was, document)
                if not changed and said.remembered:
                    dropped.add(ref)
                    day.account(events[ref].currency).accept(events[ref].print, said.digest)
            else:
                changed = describe_changed_sums(events[ref], document) if document is not None else []
                if altered[ref].held != events[ref].gross:
                    changed.insert(0, "gross")
            altered[ref].detail = in_words(changed) or "its parts differ, the gross is the same"
    return [each for each in found if each.ref not in dropped or each.kind != "altered"]


def _explain_absent(event: EventRow, sink: Sink) -> list[DayDifference]:
    elsewhere = sink.read([event.ref])
    for document in elsewhere:
        where = f"in the ERP on {document.business_date} in store {document.store}, in {document.currency}"
        if document.revision < event.revision:
            revisions = f"revision {document.revision} instead of {event.revision}; {where}: event {event.event_id}"
            return [_with_delivery(of_receipt(event, "older_revision", revisions), event, sink)]
        return [of_receipt(event, "moved", where)]
    if event.reason:
        return [of_receipt(event, "vanished", event.reason)]
    return [_with_delivery(of_receipt(event, "missing", f"event {event.event_id}"), event, sink)]


def _with_delivery(absent: DayDifference, event: EventRow, sink: Sink) -> DayDifference:
    """Add that the ERP remembers the delivery: it must forget the event before it takes it again."""
    if isinstance(sink, SupportsDeliveryHistory) and (delivered := sink.deliveries([event.event_id])):
        since = "deleted" if absent.kind == "missing" else "undone"
        absent.detail += f" was delivered at {delivered[-1].at:%Y-%m-%d %H:%M:%S} UTC, and {since} in the ERP since"
        if isinstance(sink, SupportsRevoke):
            absent.repair += " --revoke"
    return absent


def _add_leftovers(found: Sequence[DayDifference], sink: Sink) -> None:
    """Add the leftovers of missing documents to their details: they would block the same document."""
    absent = {each.ref: each for each in found if each.kind in ("missing", "vanished")}
    if not absent or not isinstance(sink, SupportsOrphanCheck):
        return
    for fragment in sink.fragments(list(absent)):
        each = absent[fragment.external_ref]
        if words := describe_parts(fragment):
            each.detail += f"; {words} of it are left"
            if each.kind == "missing" and isinstance(sink, SupportsRevoke) and "--revoke" not in each.repair:
                each.repair += " --revoke"


def _orphans(event_store: EventStore, sink: Sink, scope: ReconciliationScope) -> list[DayDifference]:
    """Return parts without a document in the ERP, under references for which no document is due.

    If the topic has lost its beginning, older deliveries may have had documents that somebody has archived since.
    """
    if not (scope.deep or _NO_STORE in scope.doubtful) or not scope.wants(*_NO_STORE):
        return []
    if not isinstance(sink, SupportsOrphanCheck):
        return []
    found: list[DayDifference] = []
    for fragment in sink.fragments():
        if any(
            event.status in ("erp", "refused", "waiting", "vanished")
            for event in event_store.events_of(fragment.external_ref)
        ):
            continue  # its own day says that the document is missing
        words = [word for word in (describe_parts(fragment),) if word]
        if fragment.deliveries and scope.whole and scope.lost is None:
            words.append(f"{fragment.deliveries} remembered as delivered")
        if words:
            detail = f"no document, but {', '.join(words)}"
            repair = repair_of("orphaned", "", "", fragment.external_ref)
            found.append(DayDifference("orphaned", "", NOWHERE, "", fragment.external_ref, detail, repair=repair))
    return found


def _explain_unsent(
    event_store: EventStore,
    sink: Sink,
    documents: Sequence[DocumentDigest],
    day: DayReport,
    scope: ReconciliationScope,
    most: int = 500,
) -> list[DayDifference]:
    """Explain the documents for which no receipt was due on this day."""
    found: list[DayDifference] = []
    strange: list[DocumentDigest] = []
    for document in documents:
        known = event_store.events_of(document.external_ref)
        due = next((event for event in known if event.status in ("erp", "refused", "waiting")), None)
        if due is not None and (due.status == "waiting" or due.revision > document.revision):
            continue  # it will be replaced; or its own day says so
        if due is not None:
            found.append(of_document(document, day, "moved", f"sent as of {due.day} in store {due.store}"))
        elif known:
            how = f"sent, and became a dead letter: {known[0].dead_letter}"
            found.append(of_document(document, day, "other_content", how))
        else:
            strange.append(document)
    for start in range(0, len(strange), most):
        part = strange[start : start + most]
        read = {document.external_ref: document for document in sink.read([each.external_ref for each in part])}
        for each in part:
            found += _explain_unknown(event_store, each, read.get(each.external_ref), day, scope)
    return found


def _explain_unknown(
    event_store: EventStore,
    document: DocumentDigest,
    read: ErpDocument | None,
    day: DayReport,
    scope: ReconciliationScope,
) -> list[DayDifference]:
    """Explain a document whose reference no till sent: a copy if its whole content was sent under another one."""
    original = find_original(event_store, document, read)
    if original is not None:
        return [of_document(document, day, "doubled", f"a copy of {original.ref}")]
    if not scope.is_over(day.store, day.day):
        return []  # it may have been sent since the topic was read
    detail = f"event {document.event_id}"
    for other in event_store.receipts_with_content(document.content):
        detail += f"; it has the content hash of {other.ref}, but other content"
        break
    return [of_document(document, day, "only_in_erp", detail)]
