"""The book of what was sent against what the ERP holds, a store's day at a time, explained to the record.

A day whose sums agree is not looked into: its documents stay where they are. A day whose sums (or, `deep`, whose
digests) differ is, and one that was noted as different before: its documents come in short, a line each, and are laid
beside the receipts of the book.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date

from ops.reconcile.completeness import by_fate
from ops.reconcile.content import (
    came_of,
    changed_sums,
    changes,
    in_words,
    is_as_read,
    original_of,
    parts_in_words,
)
from ops.reconcile.differences import of_document, of_receipt, repair_of
from ops.reconcile.event_store import EventStore
from ops.reconcile.register_totals import registers
from ops.reconcile.rows import NOWHERE, DeadLetterRow, EventRow, Key, ReceiptFigures, as_date
from ops.reconcile.scope import ReconciliationScope
from ops.reconcile.store_day import CurrencyTotals, DayDifference, DayReport, Kind, State
from schemas.document import ErpDocument
from sinks.base import DocumentDigest, Sink, StoreDay, SupportsDeliveryHistory, SupportsOrphanCheck, SupportsRevoke

#: Where what has no store and no day is told of.
_NO_STORE = ("", NOWHERE)


def settle_letters(book: EventStore, letters: Iterable[DeadLetterRow], sink: Sink, most: int = 1_000) -> None:
    """Puts the dead letters in. Those whose receipt the ERP holds, just as their record says, came through."""
    book.add_letters(letters)
    asked = list(book.lettered())
    for start in range(0, len(asked), most):
        part = asked[start : start + most]
        held = {document.external_ref: document for document in sink.read([each.ref for each in part])}
        book.came_through(each.row for each in part if each.ref in held and came_of(each, held[each.ref]))


def compare(book: EventStore, sink: Sink, held: Sequence[StoreDay], terms: ReconciliationScope) -> list[DayReport]:
    """Every store's day that was sent, or that the ERP holds. `held` was asked for before the topic was read."""
    accounts = _accounts(book, held)
    gaps, noted, arrived, unbooked = book.gaps(), book.noted(), book.arrived_last(), book.unbooked()
    more = defaultdict(list)
    for difference in registers(book, whole=terms.whole and terms.lost is None):
        more[difference.store, difference.day].append(difference)
    orphans = _orphans(book, sink, terms)
    if orphans or _NO_STORE in terms.doubtful:  # which may be settled now
        accounts = {_NO_STORE: accounts.pop(_NO_STORE, []), **accounts}
        more[_NO_STORE] += orphans
    days: list[DayReport] = []
    for (store, name), of_day in accounts.items():
        if not terms.wants(store, name):
            continue
        day = DayReport(
            store, name, of_day, "open", gaps=gaps.get((store, name), []), arrived=arrived.get((store, name), 0)
        )
        day.letters = list(book.dead(store, name))
        day.noted = noted.get((store, name), {})
        day.unbooked = by_fate(unbooked.get((store, name), ()))
        day.lost = not terms.reaches(store, name)
        day.differences = explain(book, sink, day, terms) + more[store, name]
        day.state = _state(day, terms)
        days.append(day)
    return days


def unplaced(book: EventStore, terms: ReconciliationScope) -> DayReport | None:
    """Return the records of which no store or no day is known, and that arrived within the days that are asked for.

    Nor is a day known of a record whose time is not plausible.

    None if all days are asked for (they are a day of their own then), or if all of these records are settled.
    """
    if terms.store is None and (terms.first, terms.last) == (date.min, date.max):
        return None
    since, until = terms.arrivals()
    found = DayReport(NOWHERE, NOWHERE, [], "balanced")
    places = {
        key: sums for key, sums in book.unbooked((since, until), terms.first, terms.last).items() if key[1] == NOWHERE
    }
    stores = {NOWHERE} if terms.store is None else {NOWHERE, terms.store}
    found.unbooked = by_fate(
        one for key, sums in places.items() for one in sums if terms.store is None or key[0] in stores
    )
    for fact in book.due(NOWHERE, NOWHERE):
        if fact.fate == "vanished" and since <= fact.arrived <= until:
            found.differences.append(of_receipt(fact, "vanished", fact.reason or "no dead letter"))
    found.letters = [fact for fact in book.dead(NOWHERE, NOWHERE) if since <= fact.arrived <= until]
    found.state = _state(found, terms)
    return found if found.unbooked or found.differences else None


def _accounts(book: EventStore, held: Sequence[StoreDay]) -> dict[tuple[str, str], list[CurrencyTotals]]:
    counts, due = book.counts(), book.figures()
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
    """What the ERP holds, as figures."""
    money = (day.net, day.tax, day.gross)
    prints = (day.digest, day.personal, day.unremembered)
    return ReceiptFigures(day.documents, day.lines, day.quantity, *money, day.tenders, *prints)


def _state(day: DayReport, terms: ReconciliationScope) -> State:
    if day.day != NOWHERE and not terms.is_over(day.store, day.day):
        return "open"
    if day.books == "differ":
        return "differs"
    if day.books == "not proved":
        return "unproved"
    return "balanced" if day.is_complete else "incomplete"


def explain(book: EventStore, sink: Sink, day: DayReport, terms: ReconciliationScope) -> list[DayDifference]:
    """On what a day differs, record by record."""
    agrees = all(account.agrees for account in day.accounts)
    if agrees and not day.count("vanished", "refused") and (day.store, day.day) not in terms.doubtful:
        return []
    if day.lost and not day.count("erp", "refused", "waiting", "vanished"):
        for account in day.accounts:  # the topic has nothing of it any more: its documents need not be fetched
            day.unproved.add(account.currency, account.held.receipts, account.held.gross)
        return []
    found: list[DayDifference] = []
    held = {each.external_ref: each for each in _prints(sink, day)}
    facts: dict[str, EventRow] = {}
    held_by_ref: dict[str, DocumentDigest | None] = {}
    for fact in book.due(day.store, day.day):
        document = held.pop(fact.ref, None) if fact.fate != "vanished" else None
        if fact.fate == "vanished":
            found.append(of_receipt(fact, "vanished", fact.reason or "no dead letter"))
        elif fact.fate != "waiting":
            facts[fact.ref] = fact
            held_by_ref[fact.ref] = document
            if document is not None and day.lost and document.revision > fact.revision:
                day.unproved.add(document.currency, 1, document.gross)  # of a record that came before, and is lost
                continue
            found += _beside(fact, document, sink, book, day) if document is not None else _absent(fact, sink)
    unsent = _unsent(book, sink, list(held.values()), day, terms)
    found += _but_lost(book, list(held.values()), unsent, day) if day.lost else unsent
    _say_what_is_left(found, sink)
    return _with_changes(found, facts, held_by_ref, sink, day, terms)


#: What a document looks like whose record has left the topic.
_OF_LOST: tuple[Kind, ...] = ("only_in_erp", "other_content")


def _but_lost(
    book: EventStore, documents: Sequence[DocumentDigest], unsent: Sequence[DayDifference], day: DayReport
) -> list[DayDifference]:
    """Return the differences, but for those of documents that can't be proved: their records have left the topic."""
    by_ref = defaultdict(list)
    for each in unsent:
        by_ref[each.ref].append(each)
    found: list[DayDifference] = []
    for document in documents:
        of_it = by_ref[document.external_ref]
        if _may_be_lost(book, document) and all(each.kind in _OF_LOST for each in of_it):
            day.unproved.add(document.currency, 1, document.gross)
        else:
            found += of_it
    return found


def _may_be_lost(book: EventStore, document: DocumentDigest) -> bool:
    """Return whether a record that has left the topic may have made the document: no other one did."""
    return not any(fact.fate in ("erp", "refused", "waiting") for fact in book.about(document.external_ref))


def _prints(sink: Sink, day: DayReport) -> list[DocumentDigest]:
    return [] if day.day == NOWHERE else sink.prints(day.store, as_date(day.day))


def _beside(
    fact: EventRow, document: DocumentDigest, sink: Sink, book: EventStore, day: DayReport
) -> list[DayDifference]:
    """The receipt and the document of the same reference and day."""
    if fact.reason:
        return [of_receipt(fact, "refused_today", fact.reason, document)]
    if _is_the_same(fact, document, book, day):
        if document.remembered:
            return []
        return [of_receipt(fact, "orphaned", f"the ERP does not remember that it took {document.event_id}", document)]
    if document.revision < fact.revision:
        revisions = f"revision {document.revision} instead of {fact.revision}"
        return [
            _remembered(of_receipt(fact, "older_revision", f"{revisions}: event {fact.event_id}", document), fact, sink)
        ]
    other = document.content != fact.content and document.digest != fact.print
    if other or document.revision != fact.revision:
        how = "a dead letter, replayed with a patch" if fact.letter else f"from {document.event_id}"
        return [of_receipt(fact, "other_content", how, document)]
    if document.currency != fact.currency:
        return [of_receipt(fact, "altered", f"currency {document.currency} instead of {fact.currency}", document)]
    return [of_receipt(fact, "altered", "", document)]


def _is_the_same(fact: EventRow, document: DocumentDigest, book: EventStore, day: DayReport) -> bool:
    """Whether the document is that of the receipt, or of another event that said the same of it."""
    if document.currency != fact.currency or document.personal not in (None, fact.personal):
        return False
    if document.digest == fact.print:
        return True
    if any(twin.print == document.digest for twin in book.twins(fact)):
        day.account(fact.currency).accept(fact.print, document.digest)
        return True
    return False


def _with_changes(
    found: Sequence[DayDifference],
    facts: dict[str, EventRow],
    prints: dict[str, DocumentDigest | None],
    sink: Sink,
    day: DayReport,
    terms: ReconciliationScope,
    most: int = 500,
) -> list[DayDifference]:
    """The differences, with the fields in which altered documents differ. What turns out to be none is left out."""
    altered = {each.ref: each for each in found if each.kind == "altered" and not each.detail}
    refs = list(altered)
    dropped: set[str] = set()
    for start in range(0, len(refs), most):
        part = refs[start : start + most]
        documents = {document.external_ref: document for document in sink.read(part)}
        sent = terms.sent([facts[ref] for ref in part])
        for ref in part:
            said = prints[ref]
            assert said is not None  # it is altered
            document = documents.get(ref)
            if document is not None and ref in sent and is_as_read(document, said):
                was = sent[ref]
                if day.lost and said.remembered:  # another event may have said the same before, and is lost
                    was = replace(was, event_id=document.event_id)
                changed = changes(was, document)
                if not changed and said.remembered:
                    dropped.add(ref)
                    day.account(facts[ref].currency).accept(facts[ref].print, said.digest)
            else:
                changed = changed_sums(facts[ref], document) if document is not None else []
                if altered[ref].held != facts[ref].gross:
                    changed.insert(0, "gross")
            altered[ref].detail = in_words(changed) or "in its parts, the gross is the same"
    return [each for each in found if each.ref not in dropped or each.kind != "altered"]


def _absent(fact: EventRow, sink: Sink) -> list[DayDifference]:
    elsewhere = sink.read([fact.ref])
    for document in elsewhere:
        where = f"in the ERP on {document.business_date} in store {document.store}, in {document.currency}"
        if document.revision < fact.revision:
            revisions = f"revision {document.revision} instead of {fact.revision}; {where}: event {fact.event_id}"
            return [_remembered(of_receipt(fact, "older_revision", revisions), fact, sink)]
        return [of_receipt(fact, "moved", where)]
    if fact.reason:
        return [of_receipt(fact, "vanished", fact.reason)]
    return [_remembered(of_receipt(fact, "missing", f"event {fact.event_id}"), fact, sink)]


def _remembered(absent: DayDifference, fact: EventRow, sink: Sink) -> DayDifference:
    """What the ERP remembers to have taken, it has to forget before it takes it again."""
    if isinstance(sink, SupportsDeliveryHistory) and (delivered := sink.deliveries([fact.event_id])):
        since = "deleted" if absent.kind == "missing" else "undone"
        absent.detail += f" was delivered at {delivered[-1].at:%Y-%m-%d %H:%M:%S} UTC, and {since} in the ERP since"
        if isinstance(sink, SupportsRevoke):
            absent.repair += " --revoke"
    return absent


def _say_what_is_left(found: Sequence[DayDifference], sink: Sink) -> None:
    """Adds to missing documents what is left of them: it would be in the way of the same document."""
    absent = {each.ref: each for each in found if each.kind in ("missing", "vanished")}
    if not absent or not isinstance(sink, SupportsOrphanCheck):
        return
    for fragment in sink.fragments(list(absent)):
        each = absent[fragment.external_ref]
        if words := parts_in_words(fragment):
            each.detail += f"; {words} of it are left"
            if each.kind == "missing" and isinstance(sink, SupportsRevoke) and "--revoke" not in each.repair:
                each.repair += " --revoke"


def _orphans(book: EventStore, sink: Sink, terms: ReconciliationScope) -> list[DayDifference]:
    """What the ERP holds of no document, under references of which the tills sent nothing that it should hold.

    Where the topic has lost its beginning, deliveries of before may have had documents: somebody may have put them
    into an archive.
    """
    if not (terms.deep or _NO_STORE in terms.doubtful) or not terms.wants(*_NO_STORE):
        return []
    if not isinstance(sink, SupportsOrphanCheck):
        return []
    found: list[DayDifference] = []
    for fragment in sink.fragments():
        if any(fact.fate in ("erp", "refused", "waiting", "vanished") for fact in book.about(fragment.external_ref)):
            continue  # its own day says that the document is missing
        words = [word for word in (parts_in_words(fragment),) if word]
        if fragment.deliveries and terms.whole and terms.lost is None:
            words.append(f"{fragment.deliveries} remembered as delivered")
        if words:
            detail = f"no document, but {', '.join(words)}"
            repair = repair_of("orphaned", "", "", fragment.external_ref)
            found.append(DayDifference("orphaned", "", NOWHERE, "", fragment.external_ref, detail, repair=repair))
    return found


def _unsent(
    book: EventStore,
    sink: Sink,
    documents: Sequence[DocumentDigest],
    day: DayReport,
    terms: ReconciliationScope,
    most: int = 500,
) -> list[DayDifference]:
    """The documents for which nothing was due on this day."""
    found: list[DayDifference] = []
    strange: list[DocumentDigest] = []
    for document in documents:
        known = book.about(document.external_ref)
        due = next((fact for fact in known if fact.fate in ("erp", "refused", "waiting")), None)
        if due is not None and (due.fate == "waiting" or due.revision > document.revision):
            continue  # it will be replaced; or its own day says so
        if due is not None:
            found.append(of_document(document, day, "moved", f"sent as of {due.day} in store {due.store}"))
        elif known:
            how = f"sent, and became a dead letter: {known[0].letter}"
            found.append(of_document(document, day, "other_content", how))
        else:
            strange.append(document)
    for start in range(0, len(strange), most):
        part = strange[start : start + most]
        read = {document.external_ref: document for document in sink.read([each.external_ref for each in part])}
        for each in part:
            found += _strange(book, each, read.get(each.external_ref), day, terms)
    return found


def _strange(
    book: EventStore, document: DocumentDigest, read: ErpDocument | None, day: DayReport, terms: ReconciliationScope
) -> list[DayDifference]:
    """A document whose reference no till sent: a copy, if all that it says was sent under another."""
    original = original_of(book, document, read)
    if original is not None:
        return [of_document(document, day, "doubled", f"a copy of {original.ref}")]
    if not terms.is_over(day.store, day.day):
        return []  # it may have been sent since the topic was read
    detail = f"event {document.event_id}"
    for other in book.saying(document.content):
        detail += f"; it has the content hash of {other.ref}, and says something else"
        break
    return [of_document(document, day, "only_in_erp", detail)]
