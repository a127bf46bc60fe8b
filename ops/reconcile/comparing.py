"""The book of what was sent against what the ERP holds, a store's day at a time, explained to the record.

A day whose sums agree is not looked into: its documents stay where they are. A day whose sums (or, `deep`, whose
digests) differ is, and one that was noted as different before: its documents come in short, a line each, and are laid
beside the receipts of the book.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Literal

from ops.reconcile.book import NOWHERE, Book, Close, Fact, Figures, Key, Letter, as_date
from ops.reconcile.completeness import OPEN_FATES, Sums, by_fate, in_places, sum_of
from ops.reconcile.terms import Terms
from schemas.document import ErpDocument
from sinks.base import DocumentPrint, Forgetful, Remembering, Sink, StoreDay
from sinks.days import totals_of
from sinks.values import AMOUNT_PLACES, from_scaled

#: `open`: the business day is not over. Of one that is over: `differs`: the books do not agree. `unproved`: whether
#: they do can't be told of all of it. `incomplete`: they agree, but not all of it is booked. `balanced`: they agree,
#: and all of it is booked. `signed off`: a person has taken it as it is.
State = Literal["open", "differs", "unproved", "incomplete", "balanced", "signed off"]
#: Whether tills and ERP agree on what is booked: the first of the two questions about a day.
Books = Literal["agree", "differ", "not proved"]
Kind = Literal[
    "missing", "only_in_erp", "doubled", "altered", "older_revision", "other_content", "moved", "vanished",
    "refused_today", "register"
]  # fmt: skip

MEANING: dict[Kind, str] = {
    "missing": "sent and acknowledged, but not in the ERP",
    "only_in_erp": "in the ERP, but no till sent it",
    "doubled": "in the ERP a second time, under another reference",
    "altered": "money or goods in the ERP are not those that the till sent",
    "older_revision": "the ERP holds an earlier revision than the till sent",
    "other_content": "the ERP holds something else under this reference",
    "moved": "the ERP holds it on another day or in another store",
    "vanished": "sent and acknowledged, but neither in the ERP nor a dead letter",
    "refused_today": "in the ERP, but today's rules would refuse it: its amounts can't be compared",
    "register": "the register's own total is not that of the receipts it sent: some never came, or can't be read",
}


@dataclass
class Difference:
    """One thing on which tills and ERP disagree, and the command that repairs it."""

    kind: Kind
    store: str
    day: str
    currency: str
    ref: str
    detail: str
    place: str = ""
    sent: Decimal | None = None
    held: Decimal | None = None
    repair: str = ""


@dataclass
class Account:
    """A store's day in one currency. `counts`: of each fate the events and their gross; `due` and `held`: sums."""

    currency: str
    counts: dict[str, tuple[int, Decimal]] = field(default_factory=dict)
    due: Figures = field(default_factory=Figures)
    held: Figures = field(default_factory=Figures)

    @property
    def agrees(self) -> bool:
        """Whether the sums are the same; the digests, where the ERP's was asked for."""
        if self.held.digest is not None and self.held.receipts and self.due.digest != self.held.digest:
            return False
        return _sums(self.due) == _sums(self.held)

    def count(self, *fates: str) -> int:
        """Events with one of these fates; all of them without."""
        return sum(count for fate, (count, _) in self.counts.items() if not fates or fate in fates)


@dataclass
class Day:
    """What is known of a store's business day. `noted`: of how many events no document is made, by why.

    `unbooked`: what is not in the ERP, by fate. `lost`: the topic has lost records that may be of this day; `unproved`:
    the documents whose records have left it.
    """

    store: str
    day: str
    accounts: list[Account]
    state: State
    differences: list[Difference] = field(default_factory=list)
    letters: list[Fact] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    noted: dict[str, int] = field(default_factory=dict)
    arrived: int = 0
    unbooked: dict[str, Sums] = field(default_factory=dict)
    lost: bool = False
    unproved: Sums = field(default_factory=Sums)

    @property
    def books(self) -> Books:
        """Whether tills and ERP agree on what is booked."""
        if self.differences:
            return "differ"
        # Sums that differ without a document that does: something was written meanwhile, or is on its way.
        settled = bool(self.count("waiting")) or all(account.agrees for account in self.accounts)
        return "agree" if settled and not self.lost else "not proved"

    @property
    def not_booked(self) -> Sums:
        """What is in dead letters, held, parked or waiting."""
        return sum_of(sums for fate, sums in self.unbooked.items() if fate in OPEN_FATES)

    @property
    def resolved(self) -> Sums:
        """What shall not be booked, as a person has decided."""
        return self.unbooked.get("resolved", Sums())

    @property
    def is_complete(self) -> bool:
        """Whether all of the day is booked: the second question."""
        return not self.not_booked and not self.lost

    @property
    def is_wrong(self) -> bool:
        """Whether somebody has to look at it: the books don't agree, or it is not complete.

        Of a day that is not over, what has been booked meanwhile is nothing to look at.
        """
        racing = self.state == "open" and not self.lost
        return not self.is_complete or self.books == "differ" or (self.books == "not proved" and not racing)

    def count(self, *fates: str) -> int:
        """As `Account.count`, in all currencies."""
        return sum(account.count(*fates) for account in self.accounts)


def settle_letters(book: Book, letters: Iterable[Letter], sink: Sink, most: int = 1_000) -> None:
    """Puts the dead letters in. Those whose receipt the ERP holds, just as their record says, came through."""
    book.add_letters(letters)
    asked = list(book.lettered())
    for start in range(0, len(asked), most):
        part = asked[start : start + most]
        held = {document.external_ref: document.content for document in sink.read([ref for _, ref, _ in part])}
        book.came_through(row for row, ref, content in part if held.get(ref) == content)


def compare(book: Book, sink: Sink, held: Sequence[StoreDay], terms: Terms) -> list[Day]:
    """Every store's day that was sent, or that the ERP holds. `held` was asked for before the topic was read."""
    accounts = _accounts(book, held)
    gaps, noted, arrived, unbooked = book.gaps(), book.noted(), book.arrived_last(), book.unbooked()
    registers = defaultdict(list)
    for difference in _registers(book, whole=terms.whole and terms.lost is None):
        registers[difference.store, difference.day].append(difference)
    days: list[Day] = []
    for (store, name), of_day in accounts.items():
        if not terms.wants(store, name):
            continue
        day = Day(store, name, of_day, "open", gaps=gaps.get((store, name), []), arrived=arrived.get((store, name), 0))
        day.letters = list(book.dead(store, name))
        day.noted = noted.get((store, name), {})
        day.unbooked = by_fate(unbooked.get((store, name), ()))
        day.lost = not terms.reaches(store, name)
        day.differences = explain(book, sink, day, terms) + registers[store, name]
        day.state = _state(day, terms)
        days.append(day)
    return days


def unplaced(book: Book, terms: Terms) -> Day | None:
    """Return the records of which no store or no day is known, and that arrived within the days that are asked for.

    Nor is a day known of a record whose time is not plausible.

    None if all days are asked for (they are a day of their own then), or if all of these records are settled.
    """
    if terms.store is None and (terms.first, terms.last) == (date.min, date.max):
        return None
    since, until = terms.arrivals()
    found = Day(NOWHERE, NOWHERE, [], "balanced")
    places = {
        key: sums for key, sums in book.unbooked((since, until), terms.first, terms.last).items() if key[1] == NOWHERE
    }
    stores = {NOWHERE} if terms.store is None else {NOWHERE, terms.store}
    found.unbooked = by_fate(
        one for key, sums in places.items() for one in sums if terms.store is None or key[0] in stores
    )
    for fact in book.due(NOWHERE, NOWHERE):
        if fact.fate == "vanished" and since <= fact.arrived <= until:
            found.differences.append(_of(fact, "vanished", fact.reason or "no dead letter"))
    found.letters = [fact for fact in book.dead(NOWHERE, NOWHERE) if since <= fact.arrived <= until]
    found.state = _state(found, terms)
    return found if found.unbooked or found.differences else None


def _accounts(book: Book, held: Sequence[StoreDay]) -> dict[tuple[str, str], list[Account]]:
    counts, due = book.counts(), book.figures()
    in_erp: dict[Key, StoreDay] = {(each.store, each.business_date.isoformat(), each.currency): each for each in held}
    accounts: dict[tuple[str, str], list[Account]] = {}
    for key in sorted({*counts, *in_erp}):
        store, day, currency = key
        account = Account(currency, counts.get(key, {}), due.get(key, Figures()))
        if key in in_erp:
            account.held = figures_of(in_erp[key])
        accounts.setdefault((store, day), []).append(account)
    return accounts


def figures_of(day: StoreDay) -> Figures:
    """What the ERP holds, as figures."""
    money = (day.net, day.tax, day.gross)
    return Figures(day.documents, day.lines, day.quantity, *money, day.tenders, day.digest)


def _sums(figures: Figures) -> tuple[Any, ...]:
    tenders = {kind: amount for kind, amount in figures.tenders.items() if amount}
    return (figures.receipts, figures.lines, figures.quantity, figures.net, figures.tax, figures.gross, tenders)


def _state(day: Day, terms: Terms) -> State:
    if day.day != NOWHERE and not terms.is_over(day.store, day.day):
        return "open"
    if day.books == "differ":
        return "differs"
    if day.books == "not proved":
        return "unproved"
    return "balanced" if day.is_complete else "incomplete"


def explain(book: Book, sink: Sink, day: Day, terms: Terms) -> list[Difference]:
    """On what a day differs, record by record."""
    agrees = all(account.agrees for account in day.accounts)
    if agrees and not day.count("vanished", "refused") and (day.store, day.day) not in terms.doubtful:
        return []
    if day.lost and not day.count("erp", "refused", "waiting", "vanished"):
        for account in day.accounts:  # the topic has nothing of it any more: its documents need not be fetched
            day.unproved.add(account.currency, account.held.receipts, account.held.gross)
        return []
    found: list[Difference] = []
    held = {each.external_ref: each for each in _prints(sink, day)}
    facts: dict[str, Fact] = {}
    for fact in book.due(day.store, day.day):
        document = held.pop(fact.ref, None) if fact.fate != "vanished" else None
        if fact.fate == "vanished":
            found.append(_of(fact, "vanished", fact.reason or "no dead letter"))
        elif fact.fate != "waiting":
            facts[fact.ref] = fact
            if document is not None and day.lost and document.revision > fact.revision:
                day.unproved.add(document.currency, 1, document.gross)  # of a record that came before, and is lost
                continue
            found += _beside(fact, document, sink) if document is not None else _absent(fact, sink)
    for document in held.values():
        unsent = _unsent(book, document, day, terms)
        if day.lost and _may_be_lost(book, document) and all(each.kind in _OF_LOST for each in unsent):
            day.unproved.add(document.currency, 1, document.gross)
        else:
            found += unsent
    _say_what_is_altered(found, facts, sink)
    return found


#: What a document looks like whose record has left the topic.
_OF_LOST: tuple[Kind, ...] = ("only_in_erp", "other_content")


def _may_be_lost(book: Book, document: DocumentPrint) -> bool:
    """Return whether a record that has left the topic may have made the document: no other one did."""
    return not any(fact.fate in ("erp", "refused", "waiting") for fact in book.about(document.external_ref))


def _prints(sink: Sink, day: Day) -> list[DocumentPrint]:
    return [] if day.day == NOWHERE else sink.prints(day.store, as_date(day.day))


def _beside(fact: Fact, document: DocumentPrint, sink: Sink) -> list[Difference]:
    """The receipt and the document of the same reference and day."""
    if fact.reason:
        return [_of(fact, "refused_today", fact.reason, document)]
    if document.currency == fact.currency and document.digest == fact.print:
        return []
    if document.revision < fact.revision:
        revisions = f"revision {document.revision} instead of {fact.revision}"
        return [_remembered(_of(fact, "older_revision", f"{revisions}: event {fact.event_id}", document), fact, sink)]
    if document.content != fact.content or document.revision != fact.revision:
        how = "a dead letter, replayed with a patch" if fact.letter else f"from {document.event_id}"
        return [_of(fact, "other_content", how, document)]
    if document.currency != fact.currency:
        return [_of(fact, "altered", f"currency {document.currency} instead of {fact.currency}", document)]
    return [_of(fact, "altered", "", document)]


def _say_what_is_altered(found: Sequence[Difference], facts: dict[str, Fact], sink: Sink, most: int = 500) -> None:
    altered = {each.ref: each for each in found if each.kind == "altered" and not each.detail}
    refs = list(altered)
    for start in range(0, len(refs), most):
        part = refs[start : start + most]
        documents = {document.external_ref: document for document in sink.read(part)}
        for ref in part:
            changes = _changes(facts[ref], documents[ref]) if ref in documents else []
            if altered[ref].held != facts[ref].gross:
                changes.insert(0, "gross")
            altered[ref].detail = ", ".join(changes) or "in its parts, the gross is the same"


def _changes(fact: Fact, document: ErpDocument) -> list[str]:
    """Which figures of the document are not as they were sent. An ERP behind an API may give it as it was delivered."""
    held = totals_of([document])[0]
    kinds = sorted({*held.tenders, *fact.tenders})
    zero = Decimal(0)
    paid = [(f"paid by {kind}", held.tenders.get(kind, zero), fact.tenders.get(kind, zero)) for kind in kinds]
    said = [
        f"{name} {in_places(now, fact.currency)} instead of {in_places(sent, fact.currency)}"
        for name, now, sent in (("net", held.net, fact.net), ("tax", held.tax, fact.tax), *paid)
        if now != sent
    ]
    counts = [("lines", Decimal(held.lines), Decimal(fact.lines)), ("quantity", held.quantity, fact.quantity)]
    return said + [f"{name} {_plain(now)} instead of {_plain(sent)}" for name, now, sent in counts if now != sent]


def _absent(fact: Fact, sink: Sink) -> list[Difference]:
    elsewhere = sink.read([fact.ref])
    for document in elsewhere:
        where = f"in the ERP on {document.business_date} in store {document.store}, in {document.currency}"
        if document.revision < fact.revision:
            revisions = f"revision {document.revision} instead of {fact.revision}; {where}: event {fact.event_id}"
            return [_remembered(_of(fact, "older_revision", revisions), fact, sink)]
        return [_of(fact, "moved", where)]
    if fact.reason:
        return [_of(fact, "vanished", fact.reason)]
    return [_remembered(_of(fact, "missing", f"event {fact.event_id}"), fact, sink)]


def _remembered(absent: Difference, fact: Fact, sink: Sink) -> Difference:
    """What the ERP remembers to have taken, it has to forget before it takes it again."""
    if isinstance(sink, Remembering) and (delivered := sink.deliveries([fact.event_id])):
        since = "deleted" if absent.kind == "missing" else "undone"
        absent.detail += f" was delivered at {delivered[-1].at:%Y-%m-%d %H:%M:%S} UTC, and {since} in the ERP since"
        if isinstance(sink, Forgetful):
            absent.repair += " --forget"
    return absent


def _unsent(book: Book, document: DocumentPrint, day: Day, terms: Terms) -> list[Difference]:
    """A document for which nothing was due on this day."""
    known = book.about(document.external_ref)
    due = next((fact for fact in known if fact.fate in ("erp", "refused", "waiting")), None)
    if due is not None and (due.fate == "waiting" or due.revision > document.revision):
        return []  # it will be replaced; or its own day says so
    if due is not None:
        return [_held(document, day, "moved", f"sent as of {due.day} in store {due.store}")]
    if known:
        return [_held(document, day, "other_content", f"sent, and became a dead letter: {known[0].letter}")]
    for other in book.saying(document.content):
        return [_held(document, day, "doubled", f"a copy of {other.ref}")]
    if not terms.is_over(day.store, day.day):
        return []  # it may have been sent since the topic was read
    return [_held(document, day, "only_in_erp", f"event {document.event_id}")]


def _of(fact: Fact, kind: Kind, detail: str, document: DocumentPrint | None = None) -> Difference:
    place = f"{fact.partition}:{fact.offset}"
    held = document.gross if document is not None else None
    subject = fact.ref or place
    repair = _repair(kind, fact.store, fact.day, subject)
    sent = None if not fact.ref else fact.gross
    return Difference(kind, fact.store, fact.day, fact.currency, subject, detail, place, sent, held, repair)


def _held(document: DocumentPrint, day: Day, kind: Kind, detail: str) -> Difference:
    repair = _repair(kind, day.store, day.day, document.external_ref)
    return Difference(
        kind, day.store, day.day, document.currency, document.external_ref, detail, held=document.gross, repair=repair
    )


def _repair(kind: Kind, store: str, day: str, ref: str) -> str:
    where = f" --store {store} --day {day}" if store and day else ""
    if kind in ("missing", "older_revision", "vanished"):
        return f"tillstream reconcile repair{where}"
    if kind in ("altered", "other_content", "doubled"):
        return f"tillstream reconcile repair{where} --forget"
    return f"tillstream explain {ref}"  # a person has to say which side is right


def _registers(book: Book, *, whole: bool) -> Iterable[Difference]:
    """The registers whose own totals are not what they sent. A Z counts what was sold since the one before."""
    before: Close | None = None
    for close in book.closes():
        same = before is not None and _register(before) == _register(close)
        since = before.occurred if before is not None and same else -(2**62)
        before = close
        if not same and not whole:
            continue  # what the register sold before was not read
        sold, day = book.sold(close, since)
        if sold != close.gross:
            printed, sent = from_scaled(close.gross, AMOUNT_PLACES), from_scaled(sold, AMOUNT_PLACES)
            yield Difference(
                *("register", close.store, day or close.day, close.currency, close.event_id),
                f"register {close.register} printed {in_places(printed, close.currency)}",
                sent=sent,
                repair=f"tillstream dlq list --store {close.store}",
            )


def _register(close: Close) -> tuple[str, str, str, str]:
    return close.source, close.store, close.register, close.currency


def _plain(number: Decimal) -> str:
    return format(number.normalize() + 0, "f")
